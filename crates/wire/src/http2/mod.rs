//! HTTP/2 as bytes and rules, without I/O: heads and trailers in both forms, and what is read beside
//! the h2 crate.

pub mod goaway;
pub mod translate;

/// The name in ALPN.
pub const ALPN: &[u8] = b"h2";
