//! TLS on both sides, by rustls on aws-lc.
//!
//! [`stream`] makes an encrypted connection look like any other stream; [`accept`] is a client's
//! handshake, [`connect`] one with an endpoint. What a plan says of either is compiled by
//! [`evenflow_rules::tls`].

pub mod accept;
pub mod connect;
pub mod stream;
