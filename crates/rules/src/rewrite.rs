//! Paths and places made from parts of a request's own.

use std::borrow::Cow;

use evenflow_wire::http1::head::RequestHead;
use regex::bytes::{Captures, Regex};

use crate::plan::{self, Part};
use crate::route::{anchored, host_name, normal_path};

/// A path or place to be made.
#[derive(Debug)]
pub struct Target {
    pattern: Option<Regex>,
    parts: Box<[Part]>,
}

/// What an endpoint is asked for instead.
#[derive(Debug)]
pub struct Rewrite {
    path: Option<Target>,
    host: Option<Box<[u8]>>,
}

impl Target {
    /// Compiles it.
    ///
    /// # Errors
    /// The member that is wrong, and how.
    pub fn compile(pattern: Option<&str>, parts: &[Part]) -> Result<Self, (String, String)> {
        let wrong = |member: &str, text: String| Err((member.to_owned(), text));
        let pattern = match pattern.map(anchored).transpose() {
            Ok(pattern) => pattern,
            Err(text) => return wrong("pattern", text),
        };
        let groups = pattern.as_ref().map_or(0, Regex::captures_len);
        for part in parts {
            match part {
                Part::Capture(group) if *group as usize >= groups => {
                    return wrong("pattern", format!("expected a group {group} in it"));
                }
                Part::Text(text) if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                    return wrong("to", "expected visible ASCII characters".into());
                }
                _ => {}
            }
        }
        if parts.is_empty() {
            return wrong("to", "expected at least one part".into());
        }
        Ok(Self {
            pattern,
            parts: parts.into(),
        })
    }

    /// What it makes of a host and a path; `None` when the pattern does not take the path.
    pub fn make(&self, host: &[u8], path: &[u8]) -> Option<Vec<u8>> {
        let path = normal_path(path);
        let captures = match &self.pattern {
            None => None,
            Some(pattern) => Some(pattern.captures(&path)?),
        };
        let mut out = Vec::with_capacity(path.len() + 32);
        for part in &self.parts {
            let piece = piece(part, host, &path, captures.as_ref());
            // Two pieces meet with one slash.
            let doubled = out.last() == Some(&b'/') && piece.first() == Some(&b'/');
            out.extend_from_slice(if doubled { &piece[1..] } else { &piece });
        }
        Some(out)
    }
}

fn piece<'a>(
    part: &'a Part,
    host: &'a [u8],
    path: &'a [u8],
    captures: Option<&'a Captures<'a>>,
) -> Cow<'a, [u8]> {
    match part {
        Part::Text(text) => Cow::Borrowed(text.as_bytes()),
        Part::Host => host_name(host),
        Part::Path => Cow::Borrowed(path),
        Part::Segment(index) => {
            let mut segments = path.split(|&byte| byte == b'/').skip(1);
            Cow::Borrowed(segments.nth(*index as usize).unwrap_or_default())
        }
        Part::After(segments) => {
            let slash = memchr::memchr_iter(b'/', path).nth(*segments as usize);
            Cow::Borrowed(slash.map_or(b"", |slash| &path[slash..]))
        }
        Part::Capture(group) => {
            let found = captures.and_then(|captures| captures.get(*group as usize));
            Cow::Borrowed(found.map_or(b"", |found| found.as_bytes()))
        }
    }
}

impl Rewrite {
    /// Compiles it.
    ///
    /// # Errors
    /// The member that is wrong, and how.
    pub fn compile(rewrite: &plan::RewritePlan) -> Result<Self, (String, String)> {
        let path = match &rewrite.path {
            None => None,
            Some(parts) => Some(Target::compile(rewrite.pattern.as_deref(), parts)?),
        };
        let host = rewrite.host.as_deref();
        if host.is_some_and(|host| host.is_empty() || !host.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(("host".into(), "expected a host".into()));
        }
        Ok(Self {
            path,
            host: host.map(|host| host.as_bytes().into()),
        })
    }

    /// The host to send; `None` is the client's own.
    pub fn host(&self) -> Option<&[u8]> {
        self.host.as_deref()
    }

    /// The target to send; `None` is the client's own.
    pub fn target(&self, head: &RequestHead, base: &[u8]) -> Option<Vec<u8>> {
        let path = head.path(base);
        if path.first() != Some(&b'/') {
            return None;
        }
        let made = self.path.as_ref()?.make(head.host.get(base), path)?;
        let mut target = Vec::with_capacity(made.len() + 1);
        if made.first() != Some(&b'/') {
            target.push(b'/');
        }
        target.extend_from_slice(&made);
        push_query(&mut target, head, base);
        Some(target)
    }
}

/// Appends the request's query, if it has one, to a place that may have one of its own.
pub fn push_query(out: &mut Vec<u8>, head: &RequestHead, base: &[u8]) {
    let query = head.query(base);
    if !query.is_empty() {
        out.push(if out.contains(&b'?') { b'&' } else { b'?' });
        out.extend_from_slice(query);
    }
}
