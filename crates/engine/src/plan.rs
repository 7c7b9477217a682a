//! The plan: the document in which Python describes the wanted state.
//!
//! It is the only way in. Unknown fields are refused, so a misspelt or newer field is an error and
//! never a silent default. [`crate::table`] compiles it; nothing here decides anything.
//! Durations are in milliseconds and sizes in bytes, as their names say.

use std::net::SocketAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The version of this document that the engine understands.
pub const VERSION: u32 = 1;

/// The whole wanted state.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Must equal [`VERSION`].
    pub version: u32,
    /// The control plane's number for this state; reported back in reports and snapshots.
    pub revision: u64,
    /// Where and how access records are written; `null` writes none.
    pub access_log: Option<AccessLog>,
    /// The name in `Via`, and in answers the balancer makes itself.
    pub server_name: String,
    /// Sockets to serve.
    pub listeners: Vec<Listener>,
    /// Named lists of filters that listeners and routes refer to.
    pub filters: Vec<FilterChain>,
    /// Routes of the HTTP listeners.
    pub routes: Vec<Route>,
    /// Groups of endpoints.
    pub pools: Vec<Pool>,
}

/// Access records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessLog {
    /// The shape of one line.
    pub format: AccessFormat,
    /// `stdout`, `stderr` or a file's path.
    pub output: String,
    /// The share of requests recorded, 0 to 1. Requests that failed are always recorded.
    pub sample: f64,
}

/// The shape of an access line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessFormat {
    /// One JSON object a line.
    Json,
    /// Apache's combined format.
    Combined,
}

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.0 and HTTP/1.1.
    Http,
    /// Bytes relayed without a look inside.
    Tcp,
}

/// One or more sockets that share routes, limits and timeouts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Unique among listeners.
    pub name: String,
    /// `ip:port`, `[v6]:port` or `unix:/path`; port 0 takes a free one.
    pub addresses: Vec<String>,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// Filter chains run before routing, by name, in order.
    pub filters: Vec<String>,
    /// For `tcp`: the pool that serves it. Must be `null` for `http`.
    pub pool: Option<String>,
    /// Bounds on what one client may send.
    pub limits: Limits,
    /// How long a client may take.
    pub timeouts: Timeouts,
    /// Networks whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Also send RFC 7239 `Forwarded`.
    pub forwarded: bool,
}

/// Bounds on what one client may send.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Request line and header fields together; over it 431.
    pub head_bytes: u32,
    /// Number of header fields; over it 431.
    pub headers: u32,
    /// Request target; over it 414.
    pub target_bytes: u32,
    /// Request body; over it 413. 0 is no bound.
    pub body_bytes: u64,
    /// Connections open at once on this listener, over all workers; over it they wait in the
    /// kernel's queue. 0 is no bound.
    pub connections: u32,
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
    /// The lowest average rate of a request body in bytes per second after a grace of `body_ms`.
    pub min_body_rate: u32,
}

/// A named list of filters.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterChain {
    /// Unique among filter chains; a label in metrics.
    pub name: String,
    /// Run in this order.
    pub steps: Vec<Filter>,
}

/// A filter primitive.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Filter {
    /// Refuses clients by address: 403.
    IpSet(IpSetFilter),
    /// Refuses what comes too often: 429.
    Limit(LimitFilter),
    /// Edits header fields of the request before it is forwarded.
    RequestHeaders(HeaderEdit),
    /// Edits header fields of every response, the balancer's own included.
    ResponseHeaders(HeaderEdit),
    /// Refuses larger request bodies: 413.
    BodyLimit(BodyLimit),
    /// Cross-origin resource sharing; answers preflight requests itself.
    Cors(Cors),
}

/// Allow and deny lists.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IpSetFilter {
    /// When not empty, only these networks pass.
    pub allow: Vec<IpNet>,
    /// These never pass, even when allowed.
    pub deny: Vec<IpNet>,
}

/// A rate limit: GCRA per key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitFilter {
    /// Unique among limits; state of a limit with the same name and numbers survives an apply.
    pub name: String,
    /// What is counted apart.
    pub key: RequestKey,
    /// Sustained rate for one key.
    pub requests_per_second: f64,
    /// How many may come at once.
    pub burst: u32,
    /// Keys remembered at once; the least recently seen make room.
    pub max_keys: u32,
    /// Only count what would have been refused.
    pub dry_run: bool,
}

/// Header edits, applied in the order remove, set, add.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderEdit {
    /// Field names to remove.
    pub remove: Vec<String>,
    /// Fields that replace all of the same name.
    pub set: Vec<(String, String)>,
    /// Fields appended.
    pub add: Vec<(String, String)>,
    /// Fields added only where the message has none of that name.
    pub default: Vec<(String, String)>,
}

/// A bound on request bodies.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BodyLimit {
    /// Over it 413.
    pub bytes: u64,
}

/// Cross-origin resource sharing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// Allowed origins; `*` allows all.
    pub allow_origins: Vec<String>,
    /// `Access-Control-Allow-Methods`.
    pub allow_methods: Vec<String>,
    /// `Access-Control-Allow-Headers`; empty reflects what the preflight asks for.
    pub allow_headers: Vec<String>,
    /// `Access-Control-Expose-Headers`.
    pub expose_headers: Vec<String>,
    /// `Access-Control-Allow-Credentials`; refused together with origin `*`.
    pub allow_credentials: bool,
    /// `Access-Control-Max-Age`, seconds.
    pub max_age_s: u32,
}

/// What a request is told apart by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RequestKey {
    /// The client's address (IPv6: its /64).
    ClientIp,
    /// A header field's value; requests without it share one key.
    Header(String),
    /// A cookie's value.
    Cookie(String),
    /// A query parameter's value.
    Query(String),
    /// The path without the query.
    Path,
    /// Every request differs: a random number.
    Random,
    /// All requests share one key.
    All,
}

/// One route.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Unique among routes; a label in metrics and logs.
    pub name: String,
    /// The HTTP listeners it stands on, by name; empty is all of them.
    pub listeners: Vec<String>,
    /// Which requests take it.
    #[serde(rename = "match")]
    pub matcher: Match,
    /// Filter chains, by name, in order, after those of the listener.
    pub filters: Vec<String>,
    /// The pool that serves it.
    pub pool: String,
    /// The control plane's own: the client's address is passed in `evenflow-client`, forwarding
    /// headers are left as the client sent them, and no retry or metric of a pool is counted.
    pub internal: bool,
    /// The whole exchange; over it 504. 0 is no bound.
    pub timeout_ms: u64,
    /// Further attempts.
    pub retries: Retries,
}

/// Which requests a route takes. The most specific route wins: an exact host before any host, an
/// exact path before a prefix, a longer prefix before a shorter one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// The host without port, lower case; `null` is any.
    pub host: Option<String>,
    /// The path; `null` is any.
    pub path: Option<PathMatch>,
}

/// How a path is compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PathMatch {
    /// The very path.
    Exact(String),
    /// Whole leading segments: `/users` takes `/users` and `/users/7` but not `/users2`.
    Prefix(String),
}

/// Further attempts at another endpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retries {
    /// Attempts after the first.
    pub max: u32,
    /// Waited before each.
    pub delay_ms: u64,
    /// One attempt until the response head; over it the attempt failed. 0 is no bound of its own.
    pub per_try_timeout_ms: u64,
    /// Upstream statuses that count as failed for requests that may be repeated.
    pub statuses: Vec<u16>,
    /// Whether an attempt that ran into its timeout may be repeated (idempotent methods only).
    pub on_timeout: bool,
}

/// A group of endpoints that serve the same thing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Unique among pools; a label in metrics and logs.
    pub name: String,
    /// How one endpoint is chosen; indices are into `endpoints`.
    pub picker: Picker,
    /// The members. Order matters only to the picker's indices.
    pub endpoints: Vec<Endpoint>,
    /// When no endpoint is usable, use all that are not draining.
    pub use_all: bool,
    /// Requests that wait while every endpoint is full.
    pub queue: Queue,
    /// Passive health; `null` ejects nothing.
    pub outlier: Option<Outlier>,
    /// Upstream connections.
    pub connections: Connections,
    /// Retries allowed, as a share of the pool's live requests (0 to 1)…
    pub retry_budget: f64,
    /// …or this many per second, whichever is more.
    pub retry_floor: u32,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Picker {
    /// Walk the table, all workers together.
    Cycle {
        /// Endpoint indices.
        table: Vec<u32>,
    },
    /// Index the table by a hash of the key, step on past what is unusable or overloaded.
    Hash {
        /// What is hashed.
        key: RequestKey,
        /// Endpoint indices.
        table: Vec<u32>,
        /// An endpoint may hold at most this many times the average in-flight; `null` is no bound.
        load_bound: Option<f64>,
    },
    /// The lowest score of some endpoints.
    Least {
        /// What is compared.
        score: Score,
        /// How many random endpoints are compared; 0 compares all.
        choices: u32,
    },
}

/// What `Least` compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// In-flight per weight.
    InFlight,
    /// Decaying latency × (in-flight + 1) per weight.
    Latency,
}

/// One server. Its identity is the pool's name, `id` and `target`; what the engine knows of it
/// (in-flight, ejection, latency, idle connections, counters) survives every plan that keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Unique in its pool; a label in metrics and logs.
    pub id: String,
    /// Host and port, or `unix:/path`, as configured; names it in errors.
    pub target: String,
    /// Where to connect, `ip:port` or `unix:/path`, tried in order; empty while the name does not
    /// resolve, which makes the endpoint unusable.
    pub addresses: Vec<Address>,
    /// Relative weight, 1 to 65,535; for `Least` only (tables carry weights themselves).
    pub weight: u32,
    /// Requests (TCP: connections) in flight at once, over all workers. 0 is no bound.
    pub max_connections: u32,
    /// Health as the control plane sees it.
    pub up: bool,
    /// Takes no new requests.
    pub drain: bool,
    /// Connecting; over it the attempt failed.
    pub connect_timeout_ms: u64,
    /// From the request's last byte to the response head; over it 504.
    pub first_byte_timeout_ms: u64,
    /// Between two reads of a response body (TCP: without a byte either way).
    pub idle_timeout_ms: u64,
}

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// TCP.
    Ip(SocketAddr),
    /// A Unix stream socket.
    Unix(String),
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("expected a path after `unix:`".into()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text
                .parse()
                .map(Self::Ip)
                .map_err(|_| format!("expected ip:port or unix:/path, got {text:?}")),
        }
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        match address {
            Address::Ip(ip) => ip.to_string(),
            Address::Unix(path) => format!("unix:{path}"),
        }
    }
}

/// Requests that wait while every endpoint is full.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// How many may wait, over all workers; over it 503.
    pub max: u32,
    /// How long one may wait; over it 503.
    pub timeout_ms: u64,
}

/// Passive health: eject an endpoint that keeps failing.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outlier {
    /// Failures in a row (connect errors, resets, timeouts, 5xx) that eject.
    pub consecutive_errors: u32,
    /// The first ejection; each further one is longer by this.
    pub base_ejection_ms: u64,
    /// The longest ejection.
    pub max_ejection_ms: u64,
    /// The share of the pool that may be ejected at once, 0 to 1; at least one endpoint always may
    /// be when the share is above 0 and the pool has more than one.
    pub max_ejected: f64,
}

/// Upstream connections of one worker to one endpoint.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connections {
    /// Idle connections kept.
    pub max_idle: u32,
    /// How long an idle one is kept.
    pub idle_ms: u64,
}
