//! Routes: which requests go where, and how often they are tried.

use crate::plan::action::{ActionPlan, FaultPlan, MirrorPlan, RewritePlan};
use crate::plan::matching::Match;
use serde::{Deserialize, Serialize};

/// One route.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoutePlan {
    /// Unique among routes; a label in metrics and logs.
    pub name: String,
    /// The HTTP listeners it stands on, by name; empty is all of them.
    pub listeners: Vec<String>,
    /// Which requests take it.
    #[serde(rename = "match")]
    pub matcher: Match,
    /// Filter chains, by name, in order, after those of the listener.
    pub filters: Vec<String>,
    /// Who answers.
    pub action: ActionPlan,
    /// The pool that serves it while the action's has no usable endpoint.
    pub fallback: Option<String>,
    /// What the endpoint is asked for instead.
    pub rewrite: Option<RewritePlan>,
    /// A copy for another pool.
    pub mirror: Option<MirrorPlan>,
    /// Faults put in on purpose.
    pub fault: Option<FaultPlan>,
    /// The control plane's own: the client's address is passed in `evenflow-client`, forwarding
    /// headers are left as the client sent them, and no retry or metric of a pool is counted.
    pub internal: bool,
    /// The whole exchange; over it 504. 0 is no bound.
    pub timeout_ms: u64,
    /// What becomes of a request whose client leaves.
    pub on_client_close: OnClientClose,
    /// Further attempts.
    pub retries: Retries,
    /// Second tries of slow requests; `null` makes none.
    pub hedge: Option<HedgePlan>,
    /// Switching to another protocol, such as WebSocket; `null` forwards no such wish.
    pub upgrade: Option<Upgrade>,
}

/// What becomes of a request whose client closes the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnClientClose {
    /// It ends wherever it waits, and nothing further is sent to an endpoint.
    Abort,
    /// The endpoint's request runs to its end.
    Finish,
}

/// Tries at further endpoints while the first has not answered; the first good answer wins.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HedgePlan {
    /// Waited for a response head before each; 0 makes none, until another delay is told.
    pub after_ms: u64,
    /// How many for one request.
    pub max: u32,
    /// How many in all, as a share of the route's requests that may be hedged (0 to 1).
    pub budget: f64,
}

/// Bounds on a connection that has switched to another protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upgrade {
    /// Without a byte either way. 0 is no bound.
    pub idle_ms: u64,
    /// From the switch. 0 is no bound.
    pub max_ms: u64,
    /// From when its listener, route or endpoint is gone, or the engine drains.
    pub drain_ms: u64,
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
    /// How many in all, as a share of the route's live requests (0 to 1) and beside the pool's
    /// budget; `null` is no bound.
    pub budget: Option<f64>,
}
