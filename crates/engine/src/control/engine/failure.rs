//! The one error that crosses to the control plane.

use std::fmt;

use evenflow_rules::decode::Refused;

/// What went wrong, for Python.
#[derive(Debug, Clone)]
pub struct EngineError {
    /// `plan`, `bind`, `closed` or `internal`.
    pub code: &'static str,
    /// The place in the document, if there is one.
    pub path: String,
    /// What was expected, or what the system says.
    pub message: String,
}

impl fmt::Display for EngineError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(out, "{}", self.message)
        } else {
            write!(out, "{}: {}", self.path, self.message)
        }
    }
}

impl std::error::Error for EngineError {}

impl EngineError {
    pub(super) fn new(
        code: &'static str,
        path: impl Into<String>,
        message: impl fmt::Display,
    ) -> Self {
        Self {
            code,
            path: path.into(),
            message: message.to_string(),
        }
    }

    pub(super) fn closed() -> Self {
        Self::new("closed", "", "the engine is closed")
    }
}

impl From<Refused> for EngineError {
    fn from(refused: Refused) -> Self {
        Self::new("plan", refused.path, refused.message)
    }
}
