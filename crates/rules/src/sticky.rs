//! Sessions that stay with an endpoint, by a cookie.
//!
//! The control plane gives each endpoint a token that only it can make, from a secret, the pool's
//! name and the endpoint's id. So a client cannot choose an endpoint, and a token means the same
//! endpoint after any change of the pool, after a restart and on every node with the same secret.

use evenflow_wire::http1::head::RequestHead;
use rustc_hash::FxHashMap;

use crate::key::key_bytes;
use crate::plan::{self, RequestKey};
use crate::split::push_cookie;

/// A pool's cookie.
#[derive(Debug, Clone)]
pub struct Sticky {
    key: RequestKey,
    name: Box<str>,
    max_age_s: u32,
    by_token: FxHashMap<Box<[u8]>, u32>,
    tokens: Box<[Box<[u8]>]>,
}

impl Sticky {
    /// Compiles it for the endpoints of a pool.
    ///
    /// # Errors
    /// What is wrong with a token.
    pub fn compile(
        sticky: &plan::StickyPlan,
        endpoints: &[plan::EndpointPlan],
    ) -> Result<Self, String> {
        let mut by_token = FxHashMap::default();
        let mut tokens = Vec::with_capacity(endpoints.len());
        for (index, endpoint) in (0..).zip(endpoints) {
            let token: Box<[u8]> = endpoint.token.as_bytes().into();
            if token.is_empty() || !token.iter().all(u8::is_ascii_alphanumeric) {
                return Err(format!("expected a token for endpoint {:?}", endpoint.id));
            }
            if by_token.insert(token.clone(), index).is_some() {
                return Err(format!("two endpoints have the token of {:?}", endpoint.id));
            }
            tokens.push(token);
        }
        Ok(Self {
            key: RequestKey::Cookie(sticky.cookie.clone()),
            name: sticky.cookie.as_str().into(),
            max_age_s: sticky.max_age_s,
            by_token,
            tokens: tokens.into(),
        })
    }

    /// The member that a request belongs to, if it says so.
    pub fn member(&self, head: &RequestHead, base: &[u8]) -> Option<u32> {
        let token = key_bytes(&self.key, head, base)?;
        self.by_token.get(token).copied()
    }

    /// The cookie line for a client that is with this member from now on; `secure` if it speaks TLS.
    pub fn push_line(&self, lines: &mut Vec<u8>, member: u32, secure: bool) {
        if let Some(token) = self.tokens.get(member as usize) {
            push_cookie(lines, &self.name, token, self.max_age_s, secure);
        }
    }
}
