//! Listeners: which sockets are served, and within which bounds.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::plan::tls::ListenerTls;

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.0, HTTP/1.1 and HTTP/2.
    Http,
    /// Bytes relayed without a look inside.
    Tcp,
    /// Datagrams, likewise.
    Udp,
}

/// What becomes of a path with an escaped slash or anything else that backends read in several ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EscapedSlashes {
    /// Refused where a reading leads out of the route, else forwarded as it is.
    #[default]
    Auto,
    /// Likewise, and refused wherever a separator is escaped or is a backslash.
    Reject,
    /// Escaped slashes and backslashes are decoded before the route is looked for and in what is
    /// forwarded; what is left is treated as by `auto`.
    Decode,
    /// Forwarded as it is, unchecked.
    Keep,
}

/// One or more sockets that share routes, limits and timeouts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerPlan {
    /// Unique among listeners.
    pub name: String,
    /// `ip:port`, `[v6]:port` or `unix:/path`; port 0 takes a free one.
    pub addresses: Vec<String>,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// For `http`: clients that begin with the preface of HTTP/2 in the clear are served; over TLS
    /// `alpn` says so.
    pub http2: bool,
    /// Filter chains run before routing, by name, in order.
    pub filters: Vec<String>,
    /// For `tcp` and `udp`: the pool that serves it; may be `null` beside `passthrough`. Must be
    /// `null` for `http`.
    pub pool: Option<String>,
    /// Bounds on what one client may send.
    pub limits: Limits,
    /// How long a client may take.
    pub timeouts: Timeouts,
    /// Networks whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Also send RFC 7239 `Forwarded`.
    pub forwarded: bool,
    /// TRACE is served; else it is answered with 405.
    pub trace: bool,
    /// Paths that may be read in several ways.
    pub escaped_slashes: EscapedSlashes,
    /// Encryption; `null` speaks in the clear.
    pub tls: Option<ListenerTls>,
    /// Every request is sent to `https` on this port; the control plane's own routes are served.
    pub redirect_https: Option<u16>,
    /// For `tcp`: TLS that is not decrypted, by what its clients ask for. Where no rule takes a
    /// client, `pool` does; empty looks into nothing.
    pub passthrough: Vec<PassthroughPlan>,
    /// For `udp`: how many datagrams answer one, after which a session is over; 0 is any number.
    pub answers: u32,
    /// For `tcp` and `udp`: further endpoints for a session that reached none.
    pub retries: StreamRetries,
    /// Whose PROXY headers are read; `null` reads nobody's.
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// Further attempts to reach an endpoint.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamRetries {
    /// After the first.
    pub max: u32,
    /// Waited before each; datagrams do not wait.
    pub delay_ms: u64,
}

/// TLS clients that a pool serves.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassthroughPlan {
    /// Server names in lower case, exact or as `*.example.org`; `*` takes any and none.
    pub server_names: Vec<String>,
    /// Application protocols, of which the client must offer one; empty takes any.
    pub alpn: Vec<String>,
    /// The pool.
    pub pool: String,
}

/// Connections that begin with a PROXY header, which says whom they are from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyProtocol {
    /// Connections from these networks, and over Unix sockets, must begin with a header; all others
    /// begin without one.
    pub trusted: Vec<IpNet>,
}

/// Bounds on what one client may send.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Request line and header fields together; over it 431.
    pub head_bytes: u32,
    /// Number of header fields; over it 431.
    pub headers: u32,
    /// Streams of one HTTP/2 connection open at once; over it they are refused.
    pub streams: u32,
    /// Request target; over it 414.
    pub target_bytes: u32,
    /// Request body; over it 413. 0 is no bound.
    pub body_bytes: u64,
    /// Connections open at once on this listener, over all workers; over it they wait in the
    /// kernel's queue. 0 is no bound.
    pub connections: u32,
    /// Connections of one client (IPv6: of one /64) open at once, over all workers; those over it
    /// are closed without a word. Trusted proxies are not counted. 0 is no bound.
    pub client_connections: u32,
}

/// How long a client may take.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// The whole request head, from its first byte; over it 408.
    pub head_ms: u64,
    /// Between two reads of a request body; over it 408.
    pub body_ms: u64,
    /// Between two writes of a response that make progress; over it the connection is closed.
    pub write_ms: u64,
    /// A kept-alive connection between two requests.
    pub idle_ms: u64,
    /// A `tcp` or `udp` session once the engine drains.
    pub drain_ms: u64,
    /// The lowest average rate of a request body in bytes per second after a grace of `body_ms`.
    pub min_body_rate: u32,
}
