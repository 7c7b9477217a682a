//! TLS on both sides, by rustls on aws-lc.
//!
//! [`stream`] makes an encrypted connection look like any other stream; [`accept`] is a client's
//! handshake; [`server`] and [`client`] compile what the plan says; [`certificates`] reads PEM and
//! chooses by name. Files, expiry and reloading are the control plane's.

pub mod accept;
pub mod certificates;
pub mod client;
pub mod server;
pub mod stream;

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// The cryptography in use, one for the process.
static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// The cryptography in use.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}
