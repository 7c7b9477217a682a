//! Pools: the endpoints behind routes, and how one is chosen.

use evenflow_state::address::Address;
use serde::{Deserialize, Serialize};

use crate::plan::filter::RequestKey;
use crate::plan::tls::UpstreamTls;

/// A group of endpoints that serve the same thing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolPlan {
    /// Unique among pools; a label in metrics and logs.
    pub name: String,
    /// How one endpoint is chosen; indices are into `endpoints`.
    pub picker: PickerPlan,
    /// The members. Order matters only to the picker's indices.
    pub endpoints: Vec<EndpointPlan>,
    /// When no endpoint is usable, use all that are not draining.
    pub use_all: bool,
    /// What happens while too few endpoints are usable; `null` while enough are.
    pub panic: Option<Panic>,
    /// Requests that wait while every endpoint is full.
    pub queue: QueuePlan,
    /// Passive health; `null` ejects nothing.
    pub outlier: Option<Outlier>,
    /// Circuit breakers; `null` has none.
    pub breaker: Option<BreakerPlan>,
    /// Upstream connections.
    pub connections: Connections,
    /// Sessions stay with an endpoint by a cookie.
    pub sticky: Option<StickyPlan>,
    /// Retries allowed, as a share of the pool's live requests (0 to 1)…
    pub retry_budget: f64,
    /// …or this many per second, whichever is more.
    pub retry_floor: u32,
    /// Encryption to those endpoints that have a `tls_name`.
    pub tls: Option<UpstreamTls>,
    /// Begin every connection with a PROXY header. Each is then one client's, and none is kept.
    pub send_proxy: Option<ProxyVersion>,
}

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// A change of one pool's members against the plan in force; everything else stays.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MembersChange {
    /// The control plane's number for the plan that comes of it.
    pub revision: u64,
    /// The pool's name.
    pub pool: String,
    /// How many members it has before.
    pub members: usize,
    /// The first member that the change touches.
    pub at: usize,
    /// How many members go, from there on.
    pub remove: usize,
    /// The members that come in their place.
    pub insert: Vec<EndpointPlan>,
    /// As in [`PoolPlan`]; indices are those after the change.
    pub picker: PickerPlan,
    /// As in [`PoolPlan`].
    pub use_all: bool,
    /// As in [`PoolPlan`].
    pub panic: Option<Panic>,
}

/// What is done while too few endpoints are usable to carry the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Panic {
    /// Refuse every request, so that those few are not overrun.
    Fail,
    /// Use all that are not draining, whatever their health.
    UseAll,
}

/// A cookie that names an endpoint by its token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StickyPlan {
    /// The cookie's name.
    pub cookie: String,
    /// `Max-Age`; 0 is until the browser closes.
    pub max_age_s: u32,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PickerPlan {
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
pub struct EndpointPlan {
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
    /// Letters and digits that name it in the pool's cookie; empty without one.
    pub token: String,
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
    /// What is sent is encrypted, for the host of this name; `null` sends in the clear.
    pub tls_name: Option<String>,
    /// The version of HTTP spoken to it.
    pub http: Http,
}

/// A version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Http {
    /// HTTP/1.1.
    H1,
    /// HTTP/2: in the clear by prior knowledge, else by agreement in TLS.
    H2,
    /// What TLS agrees on.
    Auto,
}

/// Requests that wait while every endpoint is full.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueuePlan {
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

/// Circuit breakers: what of them happens per request.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerPlan {
    /// Each endpoint has one.
    pub endpoints: bool,
    /// The pool as a whole has one.
    pub whole: bool,
    /// Failures in a row that open an endpoint's at once; 0 is no bound.
    pub consecutive_errors: u32,
    /// Failures in a row, of all endpoints together, that open the pool's at once; 0 is no bound.
    pub pool_consecutive_errors: u32,
    /// Until the response head; a slower answer is counted as slow. 0 is no bound.
    pub slow_ms: u64,
}

/// Upstream connections of one worker to one endpoint.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connections {
    /// The most idle connections kept; `None` keeps what was in use within `idle_ms`.
    pub max_idle: Option<u32>,
    /// How long an idle one is kept.
    pub idle_ms: u64,
    /// How long a connection may be silent before the kernel probes whether the other host is still
    /// there; 0 never does.
    pub tcp_keepalive_ms: u64,
    /// How long a connection of HTTP/2 may be silent before a `PING` is sent; 0 sends none.
    pub ping_ms: u64,
    /// How long after a `PING` something must have come.
    pub ping_timeout_ms: u64,
}
