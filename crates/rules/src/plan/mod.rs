//! The plan: the document in which Python describes the wanted state.
//!
//! It is the only way in. Unknown fields are refused, so a misspelt or newer field is an error and
//! never a silent default. [`crate::table`] compiles it; nothing here decides anything.
//! Durations are in milliseconds and sizes in bytes, as their names say.

mod action;
mod filter;
mod listener;
mod matching;
mod pool;
mod route;
mod tls;

use serde::{Deserialize, Serialize};

pub use action::*;
pub use filter::*;
pub use listener::*;
pub use matching::*;
pub use pool::*;
pub use route::*;
pub use tls::*;

/// Begins an address for datagrams.
pub const DATAGRAMS: &str = "udp:";

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
    pub access_log: Option<AccessLogPlan>,
    /// The name in `Via`, and in answers the balancer makes itself.
    pub server_name: String,
    /// How many bytes the buffers of all workers may hold together.
    pub buffer_bytes: u64,
    /// Certificates that listeners refer to by name.
    pub certificates: Vec<Certificate>,
    /// Sockets to serve.
    pub listeners: Vec<ListenerPlan>,
    /// Named lists of filters that listeners and routes refer to.
    pub filters: Vec<FilterChain>,
    /// Routes of the HTTP listeners.
    pub routes: Vec<RoutePlan>,
    /// Groups of endpoints.
    pub pools: Vec<PoolPlan>,
}

/// Access records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessLogPlan {
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
