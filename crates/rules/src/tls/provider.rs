//! The cryptography in use.

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// The cryptography in use, one for the process.
static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// The cryptography in use.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}
