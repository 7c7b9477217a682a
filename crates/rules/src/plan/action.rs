//! What a route does with a request besides handing it to one pool as it is.

use serde::{Deserialize, Serialize};

use crate::plan::filter::RequestKey;
use crate::plan::matching::Match;

/// Who answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ActionPlan {
    /// The pool of this name.
    Pool(String),
    /// One of several pools.
    Split(SplitPlan),
    /// The balancer, which names another place.
    Redirect(Redirect),
    /// The balancer, always the same.
    Respond(Respond),
}

/// Shares of the traffic.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitPlan {
    /// Requests with the same key go the same way.
    pub key: RequestKey,
    /// When the key is a cookie that the request does not have, it is set, for so many seconds; 0
    /// is until the browser closes. `null` sets none.
    pub issue_s: Option<u32>,
    /// The ways.
    pub arms: Vec<Arm>,
}

/// One way of a split.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// The pool's name.
    pub pool: String,
    /// Its share of the sum of all weights.
    pub weight: u32,
    /// Requests that meet these conditions go this way whatever the weights; host, path and
    /// priority are not used.
    pub when: Option<Match>,
}

/// An answer with `Location`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// A regular expression for the path that [`Part::Capture`] refers to.
    pub pattern: Option<String>,
    /// The place.
    pub to: Vec<Part>,
    /// The query is appended.
    pub keep_query: bool,
}

/// A piece of a path or place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Part {
    /// Itself.
    Text(String),
    /// The request's host without port.
    Host,
    /// The request's path.
    Path,
    /// This segment of the request's path, from 0.
    Segment(u32),
    /// The request's path after so many segments: empty, or from a slash on.
    After(u32),
    /// This group of the pattern, from 1.
    Capture(u32),
}

/// A fixed answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Respond {
    /// 200 to 599.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: String,
    /// Further fields.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

/// What a pool's endpoint is asked for instead of what the client asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewritePlan {
    /// A regular expression for the path. A path that it does not take stays as it is.
    pub pattern: Option<String>,
    /// The path; `null` leaves it as it was sent. The query always stays.
    pub path: Option<Vec<Part>>,
    /// The host; `null` leaves it.
    pub host: Option<String>,
}

/// A copy of some requests for a pool whose answers nobody sees.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MirrorPlan {
    /// The pool's name.
    pub pool: String,
    /// Of the requests, 0 to 1.
    pub share: f64,
    /// Copies under way at once in one worker; more are left out.
    pub max_in_flight: u32,
    /// One copy until the end of its answer.
    pub timeout_ms: u64,
}

/// Faults put in on purpose.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultPlan {
    /// Waited before anything else…
    pub delay_ms: u64,
    /// …by this share of the requests.
    pub delay_share: f64,
    /// Answered at once…
    pub abort_status: u16,
    /// …for this share of the requests.
    pub abort_share: f64,
}
