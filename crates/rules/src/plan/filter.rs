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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    Cors(CorsPlan),
    /// Bounds the requests in flight: 429.
    Concurrency(ConcurrencyFilter),
    /// Asks for a name and a password: 401.
    Basic(BasicFilter),
    /// Asks for a fixed token: 401.
    Bearer(BearerFilter),
    /// Asks for a signed token: 401.
    Jwt(JwtFilter),
    /// Asks another service whether a request may pass: 401 or 403.
    External(ExternalFilter),
}

/// Allow and deny lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IpSetFilter {
    /// When not empty, only these networks pass.
    pub allow: Vec<IpNet>,
    /// These never pass, even when allowed.
    pub deny: Vec<IpNet>,
}

/// A rate limit: GCRA per key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// The leading bits of an IPv6 address that make a client, 1 to 128; for `client_ip`.
    pub ipv6_prefix: u8,
    /// Tell clients where they stand (`RateLimit` and `RateLimit-Policy`).
    pub headers: bool,
    /// The fleet's secret where what passes is told to other engines, and theirs charged here.
    pub fleet_seed: Option<Vec<u8>>,
}

/// A bound on requests in flight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConcurrencyFilter {
    /// Unique among these bounds; what is in flight survives an apply under the same name and
    /// numbers.
    pub name: String,
    /// What is counted apart.
    pub key: RequestKey,
    /// How many requests of one key may be in flight, over all workers.
    pub max: u32,
    /// The leading bits of an IPv6 address that make a client, 1 to 128; for `client_ip`.
    pub ipv6_prefix: u8,
    /// Only count what would have been refused.
    pub dry_run: bool,
}

/// Basic authentication.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BasicFilter {
    /// Shown to who is asked.
    pub realm: String,
    /// Names and the hashes of their passwords.
    pub users: Vec<(String, String)>,
    /// The field that tells the endpoint who it is.
    pub user_header: Option<String>,
    /// Whether the endpoint gets to see the credentials.
    pub forward: bool,
}

/// Fixed bearer tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BearerFilter {
    /// Shown to who is asked.
    pub realm: String,
    /// Names and the hashes (`sha256:`) of their tokens.
    pub tokens: Vec<(String, String)>,
    /// The field that tells the endpoint who it is.
    pub user_header: Option<String>,
    /// Whether the endpoint gets to see the credentials.
    pub forward: bool,
}

/// Signed tokens (RFC 7519).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtFilter {
    /// The filter's name, told when a key is missing.
    pub name: String,
    /// Shown to who is asked.
    pub realm: String,
    /// What signatures are checked with; while there are none, 503.
    pub keys: Vec<JwtKey>,
    /// Accepted issuers; empty takes any.
    pub issuers: Vec<String>,
    /// Accepted audiences; empty takes any.
    pub audiences: Vec<String>,
    /// How far clocks may be apart.
    pub leeway_s: u64,
    /// Claims that must be there, by name or JSON Pointer.
    pub required_claims: Vec<String>,
    /// The claim that names the user.
    pub user_claim: String,
    /// Claims and the fields that tell the endpoint of them.
    pub claims_to_headers: Vec<(String, String)>,
    /// The field with the token instead of `Authorization`.
    pub header: Option<String>,
    /// The cookie with the token instead of `Authorization`.
    pub cookie: Option<String>,
    /// Whether the endpoint gets to see the token.
    pub forward: bool,
}

/// A public key and the one algorithm it is used with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtKey {
    /// Its name; without one it is tried for every token.
    pub kid: Option<String>,
    /// As in RFC 7518 §3.1 and RFC 8037.
    pub alg: String,
    /// RSA: `RSAPublicKey` (DER); curves: the uncompressed point; Ed25519: the key.
    pub key: Vec<u8>,
}

/// External authorization.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalFilter {
    /// The pool that is asked.
    pub pool: String,
    /// The target of the question.
    pub path: String,
    /// Fields of the request that are copied to the question.
    pub request_headers: Vec<String>,
    /// Fields of a positive answer that are copied to the request.
    pub response_headers: Vec<String>,
    /// The field of a positive answer that names the user.
    pub user_header: Option<String>,
    /// For the whole question.
    pub timeout_ms: u64,
    /// Whether requests pass while there is no answer.
    pub fail_open: bool,
}

/// Header edits, applied in the order remove, set, add.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BodyLimit {
    /// Over it 413.
    pub bytes: u64,
}

/// Cross-origin resource sharing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorsPlan {
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
    /// Each route counts for itself.
    Route,
}
