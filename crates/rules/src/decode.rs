//! Documents of the control plane, read so that an error names its place.

use std::fmt;

use serde::Deserialize;

/// Why a plan was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The place in the plan, as in `pools[0].endpoints[2].id`.
    pub path: String,
    /// What was expected there.
    pub message: String,
}

pub(crate) fn refuse<T>(path: impl Into<String>, message: impl Into<String>) -> Result<T, Refused> {
    Err(Refused {
        path: path.into(),
        message: message.into(),
    })
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(out, "{}", self.message)
        } else {
            write!(out, "{}: {}", self.path, self.message)
        }
    }
}

impl std::error::Error for Refused {}

/// Reads a document.
///
/// # Errors
/// Where it is wrong.
pub fn decode<'a, T: Deserialize<'a>>(document: &'a [u8]) -> Result<T, Refused> {
    let refuse = |path: String, error: &serde_json::Error| Refused {
        path,
        message: error.to_string(),
    };
    let mut reader = serde_json::Deserializer::from_slice(document);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        refuse(path, error.inner())
    })?;
    reader
        .end()
        .map_err(|error| refuse(String::new(), &error))?;
    Ok(value)
}
