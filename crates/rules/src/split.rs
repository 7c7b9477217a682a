//! Shares of a route's traffic: which of several pools serves a request.

use evenflow_wire::http1::encode::push_number;

use crate::filters::RequestView;
use crate::key::{hash_key, key_bytes};
use crate::plan::{self, RequestKey};
use crate::route::{Conditions, RouteError};

/// Pools and their shares.
#[derive(Debug)]
pub struct Split {
    key: RequestKey,
    /// The cookie to set where the key is one and is missing, and for how long.
    issue: Option<(Box<str>, u32)>,
    arms: Box<[Arm]>,
    total: u64,
}

#[derive(Debug)]
struct Arm {
    pool: usize,
    weight: u64,
    when: Option<Box<Conditions>>,
}

impl Split {
    /// Compiles it; `pools` finds a pool's number by its name.
    ///
    /// # Errors
    /// The path below the split and what is wrong there.
    pub fn compile(
        split: &plan::SplitPlan,
        pools: impl Fn(&str) -> Option<usize>,
    ) -> Result<Self, (String, String)> {
        let mut arms = Vec::with_capacity(split.arms.len());
        for (index, arm) in split.arms.iter().enumerate() {
            let Some(pool) = pools(&arm.pool) else {
                let text = format!("no pool {:?}", arm.pool);
                return Err((format!("arms[{index}].pool"), text));
            };
            let when = match &arm.when {
                None => None,
                Some(matcher) => Conditions::compile(matcher).map_err(|refusal| match refusal {
                    RouteError::Wrong(below, text) => (format!("arms[{index}].when.{below}"), text),
                    RouteError::Taken(_) => (format!("arms[{index}].when"), String::new()),
                })?,
            };
            let weight = u64::from(arm.weight);
            arms.push(Arm { pool, weight, when });
        }
        let total = arms.iter().map(|arm| arm.weight).sum();
        if total == 0 {
            return Err(("arms".into(), "expected a weight above 0".into()));
        }
        let issue = match (&split.key, split.issue_s) {
            (RequestKey::Cookie(name), Some(seconds)) => Some((name.as_str().into(), seconds)),
            (_, Some(_)) => return Err(("issue_s".into(), "expected a cookie as key".into())),
            (_, None) => None,
        };
        Ok(Self {
            key: split.key.clone(),
            issue,
            arms: arms.into(),
            total,
        })
    }

    /// The pool that serves a request; a cookie line for its answer goes to `lines`.
    pub fn choose(&self, view: &RequestView<'_>, lines: &mut Vec<u8>) -> usize {
        let forced = self.arms.iter().find(|arm| {
            arm.when
                .as_ref()
                .is_some_and(|conditions| conditions.hold(&view.asked()))
        });
        if let Some(arm) = forced {
            return arm.pool;
        }
        if let Some((name, seconds)) = &self.issue
            && key_bytes(&self.key, view.head, view.base).is_none()
        {
            // The cookie's value is the very text that is hashed when it comes back.
            let mut value = [0; 16];
            value.fill_with(|| fastrand::alphanumeric() as u8);
            push_cookie(lines, name, &value, *seconds, view.secure);
            return self.at(crate::key::hash(&value));
        }
        let head = Some((view.head, view.base));
        self.at(hash_key(&self.key, head, view.client))
    }

    /// What [`Split::choose`] would say, without a trace: the pool, and why.
    pub fn explain(&self, view: &RequestView<'_>) -> (usize, &'static str) {
        let forced = self.arms.iter().any(|arm| {
            let when = arm.when.as_ref();
            when.is_some_and(|conditions| conditions.hold(&view.asked()))
        });
        let missing = self.issue.is_some() && key_bytes(&self.key, view.head, view.base).is_none();
        let pool = self.choose(view, &mut Vec::new());
        let why = match &self.key {
            _ if forced => "its conditions hold",
            RequestKey::Random => "by chance, as each time",
            _ if missing => "by chance, and a cookie keeps it",
            _ => "by the split's key",
        };
        (pool, why)
    }

    /// All pools of it.
    pub fn pools(&self) -> impl Iterator<Item = usize> {
        self.arms.iter().map(|arm| arm.pool)
    }

    fn at(&self, hash: u64) -> usize {
        // Mixed once more, so that a pool that hashes the same key sees all its values.
        let mixed = (hash ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let mut left = ((u128::from(mixed) * u128::from(self.total)) >> 64) as u64;
        for arm in &self.arms {
            if left < arm.weight {
                return arm.pool;
            }
            left -= arm.weight;
        }
        self.arms[0].pool
    }
}

/// A `Set-Cookie` line for all paths. A `secure` one is only sent back over TLS (RFC 6265 §4.1.2.5).
pub fn push_cookie(out: &mut Vec<u8>, name: &str, value: &[u8], seconds: u32, secure: bool) {
    out.extend_from_slice(b"set-cookie: ");
    out.extend_from_slice(name.as_bytes());
    out.push(b'=');
    out.extend_from_slice(value);
    out.extend_from_slice(b"; Path=/; HttpOnly; SameSite=Lax");
    if secure {
        out.extend_from_slice(b"; Secure");
    }
    if seconds > 0 {
        out.extend_from_slice(b"; Max-Age=");
        push_number(out, u64::from(seconds));
    }
    out.extend_from_slice(b"\r\n");
}
