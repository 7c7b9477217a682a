//! Filters: what happens to a request before an endpoint is picked.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

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
