//! Protocols without I/O: bytes in, events and bytes out.

pub mod client_hello;
pub mod date;
pub mod edit;
pub mod field;
pub mod http1;
pub mod http2;
pub mod identity;
pub mod proxy_protocol;
