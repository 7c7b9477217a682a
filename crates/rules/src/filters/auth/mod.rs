//! Authentication: who asks, judged before a request is forwarded. One kind a file.
//!
//! What needs no waiting is judged here, from the request's `Authorization` field. Slow password
//! hashes and sub-requests are waited for in [`evenflow_engine::gate`].

pub mod basic;
pub mod bearer;
pub mod cache;
pub mod jwt;

use std::sync::Arc;

use evenflow_wire::http1::head::RequestHead;

use crate::filters::context::FilterContext;
use crate::password::Hash;
use crate::plan;
use crate::reason::Reason;
use basic::Basic;
use bearer::Bearer;
use jwt::{Fault, Jwt};

/// One authentication filter.
#[derive(Debug)]
pub enum AuthCheck {
    /// Name and password.
    Basic(Basic),
    /// A fixed token.
    Bearer(Bearer),
    /// A signed token.
    Jwt(Box<Jwt>),
    /// Another service is asked.
    External(External),
}

/// A sub-request to a pool says whether a request may pass.
#[derive(Debug)]
pub struct External {
    /// What to ask, and what to do with the answer.
    pub rules: plan::ExternalFilter,
    /// The pool's index.
    pub pool: usize,
}

/// A gate with what it was made from: an apply that keeps that keeps what the gate remembers.
#[derive(Debug, Clone)]
pub struct NamedAuthCheck {
    /// Its configuration.
    pub source: plan::Filter,
    /// Its state.
    pub gate: Arc<AuthCheck>,
}

/// What a gate says without waiting.
#[derive(Debug)]
pub enum Verdict {
    /// Whoever it is may pass; what is known of them is in [`FilterContext`].
    Pass,
    /// 401.
    Unknown,
    /// 401: there is a token, and something is wrong with it.
    Token(Fault),
    /// There is nothing to check it with.
    Unavailable,
    /// A slow hash must be checked first.
    Check(Pending),
}

/// A password whose hash is to be checked by another thread.
#[derive(Debug)]
pub struct Pending {
    /// The hash.
    pub hash: Hash,
    /// What was presented.
    pub password: Vec<u8>,
    /// The number of the user; `None` where nobody is called that, and only time is spent.
    pub user: Option<usize>,
    /// What to remember it under.
    pub digest: [u8; 32],
}

impl AuthCheck {
    /// Makes a gate. `pool` finds a pool's index by name.
    ///
    /// # Errors
    /// The path below the filter and what is wrong there.
    pub fn compile(
        filter: &plan::Filter,
        pool: impl Fn(&str) -> Option<usize>,
    ) -> Result<Option<Self>, (String, String)> {
        Ok(Some(match filter {
            plan::Filter::Basic(rules) => Self::Basic(Basic::compile(rules)?),
            plan::Filter::Bearer(rules) => Self::Bearer(Bearer::compile(rules)?),
            plan::Filter::Jwt(rules) => Self::Jwt(Box::new(Jwt::new(rules)?)),
            plan::Filter::External(rules) => {
                let Some(pool) = pool(&rules.pool) else {
                    return Err(("pool".into(), format!("no pool {:?}", rules.pool)));
                };
                Self::External(External {
                    rules: rules.clone(),
                    pool,
                })
            }
            _ => return Ok(None),
        }))
    }

    /// Its kind, as configurations name it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Basic(_) => "basic",
            Self::Bearer(_) => "bearer",
            Self::Jwt(_) => "jwt",
            Self::External(_) => "external",
        }
    }

    /// The `WWW-Authenticate` line of a refusal.
    pub fn challenge(&self, reason: Reason, out: &mut Vec<u8>) {
        match self {
            Self::Jwt(jwt) => {
                out.extend_from_slice(&jwt.challenge);
                if let Reason::Token(fault) = reason {
                    // RFC 6750 §3: only who presented a token is told what is wrong with it.
                    out.truncate(out.len() - 2);
                    out.extend_from_slice(b", error=\"invalid_token\", error_description=\"");
                    out.extend_from_slice(fault.as_bytes());
                    out.extend_from_slice(b"\"\r\n");
                }
            }
            Self::Basic(basic) => out.extend_from_slice(&basic.challenge),
            Self::Bearer(bearer) => out.extend_from_slice(&bearer.challenge),
            Self::External(_) => {}
        }
    }

    /// Judges a request as far as that needs no waiting; `External` always does.
    pub fn judge(
        &self,
        head: &RequestHead,
        base: &[u8],
        now_s: u64,
        passed: &mut FilterContext,
    ) -> Verdict {
        match self {
            Self::Basic(basic) => basic.judge(credentials(head, base, b"basic"), passed),
            Self::Bearer(bearer) => bearer.judge(credentials(head, base, b"bearer"), passed),
            Self::Jwt(jwt) => jwt.judge(head, base, now_s, passed),
            Self::External(_) => Verdict::Unknown,
        }
    }
}

/// Header fields that a gate sets itself and so takes from what the client sent.
pub fn own_fields(filter: &plan::Filter) -> Vec<String> {
    let mut fields = Vec::new();
    let forwards = match filter {
        plan::Filter::Basic(rules) => {
            fields.extend(rules.user_header.clone());
            rules.forward
        }
        plan::Filter::Bearer(rules) => {
            fields.extend(rules.user_header.clone());
            rules.forward
        }
        plan::Filter::Jwt(rules) => {
            fields.extend(
                rules
                    .claims_to_headers
                    .iter()
                    .map(|(_, field)| field.clone()),
            );
            if let Some(header) = rules.header.as_ref().filter(|_| !rules.forward) {
                fields.push(header.clone());
            }
            rules.forward || rules.header.is_some() || rules.cookie.is_some()
        }
        plan::Filter::External(rules) => {
            fields.extend(rules.response_headers.iter().cloned());
            true
        }
        _ => true,
    };
    if !forwards {
        fields.push("authorization".into());
    }
    fields
}

/// The cookie that a gate keeps from endpoints.
pub fn own_cookie(filter: &plan::Filter) -> Option<&str> {
    match filter {
        plan::Filter::Jwt(rules) if !rules.forward => rules.cookie.as_deref(),
        _ => None,
    }
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
fn challenge_line(scheme: &str, realm: &str, more: &str) -> Result<Box<[u8]>, (String, String)> {
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
    since.map_or(0, |passed| passed.as_secs())
}
