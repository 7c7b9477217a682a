//! Authentication: who asks, judged before a request is forwarded. One kind a file.
//!
//! What needs no waiting is judged here, from the request's `Authorization` field. Slow password
//! hashes and sub-requests are waited for in [`crate::gate`].

pub mod basic;
pub mod bearer;
pub mod cache;

use std::sync::Arc;

use crate::filters::passed::Passed;
use crate::http1::head::RequestHead;
use crate::password::Hash;
use crate::plan;
use basic::Basic;
use bearer::Bearer;

/// One authentication filter.
#[derive(Debug)]
pub enum Gate {
    /// Name and password.
    Basic(Basic),
    /// A fixed token.
    Bearer(Bearer),
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
pub struct NamedGate {
    /// Its configuration.
    pub source: plan::Filter,
    /// Its state.
    pub gate: Arc<Gate>,
}

/// What a gate says without waiting.
#[derive(Debug)]
pub enum Verdict {
    /// Whoever it is may pass; what is known of them is in [`Passed`].
    Pass,
    /// 401.
    Unknown,
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

impl Gate {
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

    /// The `WWW-Authenticate` line of a refusal.
    pub fn challenge(&self, out: &mut Vec<u8>) {
        match self {
            Self::Basic(basic) => out.extend_from_slice(&basic.challenge),
            Self::Bearer(bearer) => out.extend_from_slice(&bearer.challenge),
            Self::External(_) => {}
        }
    }

    /// Judges a request as far as that needs no waiting; `External` always does.
    pub fn judge(&self, head: &RequestHead, base: &[u8], passed: &mut Passed) -> Verdict {
        match self {
            Self::Basic(basic) => basic.judge(credentials(head, base, b"basic"), passed),
            Self::Bearer(bearer) => bearer.judge(credentials(head, base, b"bearer"), passed),
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
