//! What is told of one exchange.

use std::net::IpAddr;

/// What is told of one exchange.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// When the request began, in nanoseconds since 1970.
    pub time_ns: u64,
    /// As forwarded in `X-Request-ID`.
    pub request_id: &'a [u8],
    /// `None` for clients of a Unix socket.
    pub client: Option<IpAddr>,
    /// As received.
    pub method: &'a [u8],
    /// As received; may be empty.
    pub host: &'a [u8],
    /// Path and query as received.
    pub target: &'a [u8],
    /// Such as `HTTP/1.1`.
    pub version: &'a str,
    /// As sent to the client; 0 if the client went before any.
    pub status: u16,
    /// Body bytes sent to the client.
    pub bytes_sent: u64,
    /// Body bytes received from the client.
    pub bytes_received: u64,
    /// The route's name; may be empty.
    pub route: &'a str,
    /// The pool's name; may be empty.
    pub pool: &'a str,
    /// The endpoint that answered; empty if none did.
    pub backend_id: &'a str,
    /// Endpoints tried.
    pub attempts: u32,
    /// What became of hedges; empty where none was due.
    pub hedge: &'a str,
    /// Who asked, as authentication found it; may be empty.
    pub user: &'a [u8],
    /// From the request's first byte to the response's last.
    pub latency_ns: u64,
    /// Why the exchange failed; empty when it did not.
    pub reason: &'a str,
    /// As received; may be empty.
    pub user_agent: &'a [u8],
    /// As received; may be empty.
    pub referer: &'a [u8],
}
