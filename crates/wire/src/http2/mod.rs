//! HTTP/2 (RFC 9113) without I/O: received bytes in, events and bytes to send out.
//!
//! [`Connection`] is either side of a connection. [`Connection::receive`] takes bytes and says what
//! happened; its further functions send, and put what is to be sent into one output, which whoever
//! does I/O writes once per turn. Everything that a peer can make it hold is bounded: field sections
//! and the blocks they come in, what streams hold by their windows, output, and how often it may do
//! what costs more here than there.
//!
//! [`frame`] and [`hpack`] are the two codecs, [`section`] the rules for the fields of a message,
//! [`flow`] the windows.

mod allowance;
mod connection;
pub mod error;
pub mod flow;
pub mod frame;
mod headers;
pub mod hpack;
mod input;
mod receive;
pub mod section;
mod send;
mod settings;
mod stream;
pub mod translate;

pub use connection::{Config, Connection, PREFACE, Role};
pub use error::{ConnectionError, ErrorCode};
pub use receive::{Event, Received};
pub use stream::{Failure, Key};

/// The name in ALPN.
pub const ALPN: &[u8] = b"h2";
