//! TLS as the plan wants it, for rustls on aws-lc.
//!
//! [`server`] and [`client`] compile what the plan says; [`certificates`] reads PEM and chooses by
//! name. Files, expiry and reloading are the control plane's; handshakes are the engine's.

pub mod certificates;
pub mod client;
pub mod provider;
pub mod server;
mod special;
mod x509;
