//! One probe being made: what it asks, what it learns, and why it fails.

use std::io;

use serde::{Deserialize, Serialize};

use super::result::ProbeOutcome;
use crate::upstream::is_ours;

/// A request to make once connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpProbe {
    /// Usually `GET`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The `Host` field.
    pub host: String,
    /// Further fields.
    pub headers: Vec<(String, String)>,
    /// How much of the response's body to return; 0 does not wait for it.
    pub body_bytes: u32,
}

/// Why a probe failed.
#[derive(Debug)]
pub struct Failure {
    pub outcome: ProbeOutcome,
    pub detail: String,
}

impl Failure {
    pub fn protocol(detail: impl Into<String>) -> Self {
        Self {
            outcome: ProbeOutcome::Protocol,
            detail: detail.into(),
        }
    }

    pub fn connecting(error: &io::Error) -> Self {
        let outcome = match error.kind() {
            _ if is_ours(error) => ProbeOutcome::NoSocket,
            // A Unix socket's file that is missing is a server that is not there.
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => ProbeOutcome::Refused,
            io::ErrorKind::ConnectionReset => ProbeOutcome::Reset,
            io::ErrorKind::TimedOut => ProbeOutcome::Timeout,
            _ => ProbeOutcome::Unreachable,
        };
        Self {
            outcome,
            detail: format!("connect: {error}"),
        }
    }

    pub fn exchanging(error: &io::Error) -> Self {
        let outcome = match error.kind() {
            io::ErrorKind::TimedOut => ProbeOutcome::Timeout,
            _ => ProbeOutcome::Reset,
        };
        Self {
            outcome,
            detail: error.to_string(),
        }
    }
}

/// What a successful probe learnt.
#[derive(Debug, Default)]
pub struct ProbeAnswer {
    pub status: Option<u16>,
    pub body: Vec<u8>,
}
