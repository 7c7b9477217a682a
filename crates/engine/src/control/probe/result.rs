//! What became of a probe.

use serde::{Deserialize, Serialize};

/// What became of a probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// The probe's.
    pub id: u64,
    /// What happened.
    pub outcome: ProbeOutcome,
    /// In words; empty when fine.
    pub detail: String,
    /// Of the final response, if there was one.
    pub status: Option<u16>,
    /// The beginning of the body, as far as it was asked for; what is not UTF-8 is replaced.
    pub body: String,
    /// From the start of connecting until the outcome was known, in seconds.
    pub elapsed_s: f64,
}

/// What happened to a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeOutcome {
    /// Connected, and received a well-formed response where one was asked for.
    Ok,
    /// Nobody listens there.
    Refused,
    /// No way there.
    Unreachable,
    /// This machine has no descriptor or memory left for a connection: no verdict on the server.
    NoSocket,
    /// Not over in time.
    Timeout,
    /// The server ended the connection before its response was complete.
    Reset,
    /// What the server sent is not a response, or the probe is not a request.
    Protocol,
}
