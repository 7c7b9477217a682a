//! Which route takes a request.
//!
//! Of all routes that take it the most specific wins, whatever their order in the plan:
//!
//! 1. the host: an exact one, then the longest wildcard, then any;
//! 2. the path: an exact one; a template, where a literal segment goes before a parameter from left
//!    to right; the prefix of most segments, literal ones first; a regular expression, the longer
//!    pattern first, then by alphabet; any;
//! 3. the priority, the higher first (of regular expressions: before their length);
//! 4. the number of conditions, the larger first.
//!
//! Routes are found by hash, segment by segment, and not by search: the cost of a request grows with
//! the number of its path's segments and not with the number of routes. Only routes of the very same
//! host and path are looked at one by one, and there are at most [`MAX_ALTERNATIVES`] of them.

mod conditions;
mod normal;
mod paths;
mod pattern;
mod query;
mod readings;

use std::borrow::Cow;

use rustc_hash::FxHashMap;

use crate::plan::{EscapedSlashes, Match};
use crate::reason::Reason;
pub use conditions::Conditions;
pub use normal::normal_path;
use paths::Paths;
pub use paths::{Candidate, MAX_ALTERNATIVES};
pub use pattern::anchored;
pub use query::{RouteError, RouteQuery};
pub use readings::decode_in_place;

/// The routes of one listener. Values are indices into the table's routes.
#[derive(Debug, Default)]
pub struct Router {
    /// The control plane's own, which go before all others.
    claimed: Paths,
    hosts: FxHashMap<Box<[u8]>, Paths>,
    /// By what follows `*.`.
    wildcards: FxHashMap<Box<[u8]>, Paths>,
    any_host: Paths,
    /// What becomes of paths that may be read in more than one way.
    escaped_slashes: EscapedSlashes,
}

impl Router {
    /// A router without routes.
    pub fn new(escaped_slashes: EscapedSlashes) -> Self {
        Self {
            escaped_slashes,
            ..Self::default()
        }
    }

    /// Adds a route; `claimed` ones go before all others and have no host.
    ///
    /// # Errors
    /// Why it cannot be added.
    pub fn add(&mut self, matcher: &Match, route: usize, claimed: bool) -> Result<(), RouteError> {
        let paths = match matcher.host.as_deref() {
            _ if claimed => &mut self.claimed,
            None => &mut self.any_host,
            Some(host) => {
                let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
                match host.strip_prefix("*.") {
                    Some(domain) => self.wildcards.entry(domain.as_bytes().into()).or_default(),
                    None => self.hosts.entry(host.into_bytes().into()).or_default(),
                }
            }
        };
        paths.add(matcher, route)
    }

    /// Makes what must be made from all routes together.
    ///
    /// # Errors
    /// What is wrong with the regular expressions as a whole.
    pub fn finish(&mut self) -> Result<(), String> {
        let hosts = self.hosts.values_mut().chain(self.wildcards.values_mut());
        for paths in hosts.chain([&mut self.any_host, &mut self.claimed]) {
            paths.finish()?;
        }
        Ok(())
    }

    /// The route that takes a request.
    pub fn find(&self, asked: &RouteQuery<'_>) -> Option<usize> {
        self.candidate(asked, asked.path)
            .map(|candidate| candidate.route)
    }

    /// Sees that no backend can read the path of a request as one beyond the route that takes it.
    ///
    /// # Errors
    /// One could, or the listener's policy refuses such paths whatever they lead to.
    pub fn check_path(&self, asked: &RouteQuery<'_>) -> Result<(), Reason> {
        if self.escaped_slashes == EscapedSlashes::Keep || readings::is_plain(asked.path) {
            return Ok(());
        }
        let refused =
            self.escaped_slashes == EscapedSlashes::Reject && readings::hides_separator(asked.path);
        if refused || !self.contains(asked) {
            return Err(Reason::EscapedPath);
        }
        Ok(())
    }

    /// Whether every reading of a path is below the segments that its route asks for and none is
    /// for a more specific route. A wider one may take it: `/users/{id}` is asked for a user whose
    /// name has a slash in it, and `/*` takes what the slash makes of it.
    fn contains(&self, asked: &RouteQuery<'_>) -> bool {
        let Some(taker) = self.candidate(asked, asked.path) else {
            return true;
        };
        let base = taker.base.as_deref();
        let (fixed, rest) = match base {
            // What the route itself spells out means what its author wants it to mean.
            Some(base) if is_below(base, asked.path) => asked.path.split_at(base.len()),
            _ => (&b""[..], asked.path),
        };
        readings::all_hold(fixed, rest, |reading| {
            let other = self.candidate(asked, reading);
            if other.is_some_and(|other| other.route == taker.route) {
                return true;
            }
            let wider = match other.map(|other| other.base.as_deref()) {
                None => true,
                Some(other) => other.is_some_and(|other| Some(other.len()) < base.map(<[u8]>::len)),
            };
            wider && base.is_some_and(|base| is_below(base, reading))
        })
    }

    fn candidate(&self, asked: &RouteQuery<'_>, path: &[u8]) -> Option<&Candidate> {
        self.each(asked.host, path, |candidate| {
            candidate.takes(asked).then_some(candidate)
        })
    }

    /// Offers the routes that fit by host and path, the most specific first, until one is taken.
    pub fn each<'a, T>(
        &'a self,
        host: &[u8],
        path: &[u8],
        mut take: impl FnMut(&'a Candidate) -> Option<T>,
    ) -> Option<T> {
        let path = normal_path(path);
        let found = self.claimed.each(&path, &mut take);
        if found.is_some() {
            return found;
        }
        if !self.hosts.is_empty() || !self.wildcards.is_empty() {
            let name = host_name(host);
            if let Some(paths) = self.hosts.get(&*name) {
                let found = paths.each(&path, &mut take);
                if found.is_some() {
                    return found;
                }
            }
            if !self.wildcards.is_empty() {
                for dot in memchr::memchr_iter(b'.', &name) {
                    if let Some(paths) = self.wildcards.get(&name[dot + 1..])
                        && dot > 0
                    {
                        let found = paths.each(&path, &mut take);
                        if found.is_some() {
                            return found;
                        }
                    }
                }
            }
        }
        self.any_host.each(&path, &mut take)
    }
}

/// Whether a path is `base` or continues it by segments.
fn is_below(base: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(base)
        .is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
}

/// A host without port and final dot, in lower case.
pub fn host_name(host: &[u8]) -> Cow<'_, [u8]> {
    let name = match memchr::memrchr(b':', host) {
        Some(colon) if !host[colon..].contains(&b']') => &host[..colon],
        _ => host,
    };
    let name = name.strip_suffix(b".").unwrap_or(name);
    if name.iter().any(u8::is_ascii_uppercase) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}
