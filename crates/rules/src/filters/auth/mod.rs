//! Authentication: who sends a request, judged at this step's place in the chain. One kind a file.
//!
//! A step judges from the request alone where it can. A slow password hash and a sub-request are
//! waited for: the step says what for, and settles the request when the engine has the result.

pub mod basic;
pub mod bearer;
pub mod cache;
pub mod external;
pub mod jwt;

use evenflow_wire::http1::head::RequestHead;

use crate::filters::context::FilterContext;
use crate::filters::primitive::{Assembly, PathError, StepOutcome};
use crate::reason::Reason;

/// Request fields that an authentication step owns: what a client sent of them never reaches an
/// endpoint or a later step.
#[derive(Debug, Clone, Default)]
pub struct OwnFields {
    /// Fields that the step sets.
    pub set: Vec<String>,
    /// Fields that carry credentials which endpoints do not get.
    pub hidden: Vec<String>,
    /// The cookie that carries credentials which endpoints do not get.
    pub hidden_cookie: Option<String>,
}

impl OwnFields {
    /// The fields of a step that sets `set` and takes credentials from `Authorization`.
    fn of_credentials(set: Option<&String>, forward: bool) -> Self {
        Self {
            set: set.into_iter().cloned().collect(),
            hidden: hidden_authorization(forward),
            hidden_cookie: None,
        }
    }

    fn announce(&self, assembly: &mut Assembly) -> Result<(), PathError> {
        let own = self.set.iter().enumerate();
        for (index, name) in own {
            let at = |error| (format!("fields[{index}]"), error);
            assembly.edits.request.remove(name).map_err(at)?;
            let name = name.to_ascii_lowercase().into_bytes();
            assembly.set_fields.push(name.into());
        }
        Ok(())
    }

    fn assemble(&self, assembly: &mut Assembly) -> Result<(), PathError> {
        for (index, name) in self.hidden.iter().enumerate() {
            let at = |error| (format!("fields[{index}]"), error);
            assembly.edits.request.remove(name).map_err(at)?;
        }
        if let Some(cookie) = &self.hidden_cookie {
            assembly.edits.request.hide_cookie(cookie);
        }
        Ok(())
    }

    /// Removes what earlier steps set of these fields.
    pub fn clear(&self, context: &mut FilterContext) {
        context.remove_fields(&self.set);
    }
}

fn hidden_authorization(forward: bool) -> Vec<String> {
    if forward {
        Vec::new()
    } else {
        vec!["authorization".into()]
    }
}

/// Refuses with 401 and this `WWW-Authenticate` line.
fn challenge<'c>(line: &[u8], context: &mut FilterContext) -> StepOutcome<'c> {
    context.response_lines.extend_from_slice(line);
    StepOutcome::Refuse(Reason::Unauthorized.into())
}

/// The credentials of a scheme, where the request has exactly one `Authorization` field and it is
/// of that scheme.
fn credentials<'a>(head: &RequestHead, base: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let mut found = head
        .fields
        .iter()
        .filter(|field| field.name.get(base).eq_ignore_ascii_case(b"authorization"));
    let value = found.next()?.value.get(base);
    if found.next().is_some() {
        return None;
    }
    let space = memchr::memchr(b' ', value)?;
    let (named, rest) = value.split_at(space);
    let rest = rest.trim_ascii();
    (named.eq_ignore_ascii_case(scheme) && !rest.is_empty()).then_some(rest)
}

/// A `WWW-Authenticate` line.
fn challenge_line(scheme: &str, realm: &str, more: &str) -> Result<Box<[u8]>, PathError> {
    if realm
        .bytes()
        .any(|byte| !(b' '..=b'~').contains(&byte) || byte == b'"' || byte == b'\\')
    {
        let message = "expected printable ASCII without quotes and backslashes";
        return Err(("realm".into(), message.into()));
    }
    Ok(
        format!("www-authenticate: {scheme} realm=\"{realm}\"{more}\r\n")
            .into_bytes()
            .into(),
    )
}

/// Decodes base64: the standard alphabet with its padding, or that of URLs without.
fn base64(text: &[u8], standard: bool) -> Option<Vec<u8>> {
    let mut text = text;
    if standard {
        if !text.len().is_multiple_of(4) {
            return None;
        }
        text = text.strip_suffix(b"=").unwrap_or(text);
        text = text.strip_suffix(b"=").unwrap_or(text);
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0_u32, 0);
    for &byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' if standard => 62,
            b'/' if standard => 63,
            b'-' if !standard => 62,
            b'_' if !standard => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    // One letter alone is no byte, and bits beyond the last byte must be zero: else several texts
    // would mean the same.
    (count < 6 && bits & ((1 << count) - 1) == 0).then_some(out)
}

/// The time of day in Unix seconds, which tokens go by.
pub fn unix_s() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |elapsed| elapsed.as_secs())
}
