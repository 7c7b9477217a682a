//! What limits count by: a property of the request as the steps before them left it.

use std::sync::Arc;

use evenflow_state::limiter::{bytes_key, client_key};

use crate::filters::context::FilterContext;
use crate::filters::fleet::Fleet;
use crate::filters::primitive::{Assembly, PathError, RequestView};
use crate::key::key_bytes;
use crate::plan::RequestKey;

/// A key at one place of a chain.
#[derive(Debug, Clone)]
pub struct FilterKey {
    key: RequestKey,
    ipv6_prefix: u8,
    /// Where the value of a header field comes from; `None` is the request as it was received.
    source: Option<Arc<Source>>,
}

/// What earlier steps did with a header field.
#[derive(Debug)]
enum Source {
    /// Authentication of this chain sets it: only what steps set counts, never what a client sent.
    Context(Box<[u8]>),
    /// Header edits before this step removed what the client sent, or added a value.
    Edited {
        removed: bool,
        added: Option<Box<[u8]>>,
    },
}

impl FilterKey {
    /// The key on its own, as if no step came before it.
    pub fn new(key: &RequestKey, ipv6_prefix: u8) -> Self {
        Self {
            key: key.clone(),
            ipv6_prefix,
            source: None,
        }
    }

    /// Puts the key behind the steps that are assembled so far.
    pub fn place(&mut self, assembly: &Assembly) {
        let RequestKey::Header(name) = &self.key else {
            return;
        };
        let name = name.to_ascii_lowercase().into_bytes();
        self.source = if assembly.is_set_by_filters(&name) {
            Some(Arc::new(Source::Context(name.into())))
        } else {
            let removed = assembly.edited.removes_alike(&name);
            let added = assembly.edited.value_of(&name).map(Box::from);
            let changed = removed || added.is_some();
            changed.then(|| Arc::new(Source::Edited { removed, added }))
        };
    }

    /// The key's number on this engine.
    pub fn local(&self, view: &RequestView<'_>, context: &FilterContext) -> u64 {
        match &self.key {
            RequestKey::ClientIp => view.client.map_or(0, |ip| client_key(ip, self.ipv6_prefix)),
            RequestKey::All => 1,
            RequestKey::Route => bytes_key(&view.route.to_ne_bytes()),
            RequestKey::Random => fastrand::u64(..),
            _ => self.bytes(view, context).map_or(0, bytes_key),
        }
    }

    /// The key's number on every engine of a fleet. Routes have numbers of this engine's own.
    pub fn shared(&self, fleet: &Fleet, view: &RequestView<'_>, context: &FilterContext) -> u64 {
        match &self.key {
            RequestKey::ClientIp => view
                .client
                .map_or(0, |ip| fleet.client_key(ip, self.ipv6_prefix)),
            RequestKey::All | RequestKey::Route | RequestKey::Random => self.local(view, context),
            _ => self
                .bytes(view, context)
                .map_or(0, |bytes| fleet.bytes_key(bytes)),
        }
    }

    fn bytes<'a>(&'a self, view: &RequestView<'a>, context: &'a FilterContext) -> Option<&'a [u8]> {
        match self.source.as_deref() {
            None => key_bytes(&self.key, view.head, view.base),
            Some(Source::Context(name)) => context.field(name),
            Some(Source::Edited { removed, added }) => {
                let sent = (!removed).then(|| key_bytes(&self.key, view.head, view.base));
                sent.flatten().or(added.as_deref())
            }
        }
    }
}

/// Checks the leading bits of an IPv6 address that make a client.
///
/// # Errors
/// It is not 1 to 128.
pub fn check_prefix(prefix: u8) -> Result<(), PathError> {
    if (1..=128).contains(&prefix) {
        return Ok(());
    }
    Err(("ipv6_prefix".into(), "expected 1 to 128".into()))
}
