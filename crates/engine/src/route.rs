//! Which route a request takes. Routes are found by hash, not by search: the cost grows with the
//! number of segments in a path and not with the number of routes.

use std::borrow::Cow;

use rustc_hash::FxHashMap;

use crate::plan::{Match, PathMatch};

/// The routes of one listener. Values are indices into the table's routes.
#[derive(Debug, Default)]
pub struct Router {
    hosts: FxHashMap<Box<[u8]>, Paths>,
    any_host: Paths,
}

#[derive(Debug, Default)]
struct Paths {
    exact: FxHashMap<Box<[u8]>, usize>,
    prefixes: FxHashMap<Box<[u8]>, usize>,
    /// The most segments a prefix has: longer ones need not be looked up.
    depth: usize,
    any: Option<usize>,
}

impl Router {
    /// Adds a route.
    ///
    /// # Errors
    /// The index of the route that takes the very same requests.
    pub fn add(&mut self, matcher: &Match, route: usize) -> Result<(), usize> {
        let paths = match &matcher.host {
            Some(host) => {
                let host = host.strip_suffix('.').unwrap_or(host);
                let host = host.to_ascii_lowercase().into_bytes();
                self.hosts.entry(host.into()).or_default()
            }
            None => &mut self.any_host,
        };
        let earlier = match &matcher.path {
            None => paths.any.replace(route),
            Some(PathMatch::Exact(path)) => {
                let path = normal_path(path.as_bytes());
                paths.exact.insert(path.into(), route)
            }
            Some(PathMatch::Prefix(path)) => {
                let path = normal_path(path.as_bytes());
                match path.strip_suffix(b"/").unwrap_or(&path) {
                    b"" => paths.any.replace(route),
                    prefix => {
                        let depth = memchr::memchr_iter(b'/', prefix).count();
                        paths.depth = paths.depth.max(depth);
                        paths.prefixes.insert(prefix.into(), route)
                    }
                }
            }
        };
        earlier.map_or(Ok(()), Err)
    }

    /// The route for a host (with or without port) and a path.
    pub fn find(&self, host: &[u8], path: &[u8]) -> Option<usize> {
        let path = normal_path(path);
        if !self.hosts.is_empty() {
            let name = match host.iter().rposition(|&byte| byte == b':') {
                Some(colon) if !host[colon..].contains(&b']') => &host[..colon],
                _ => host,
            };
            let name = name.strip_suffix(b".").unwrap_or(name).to_ascii_lowercase();
            let found = self
                .hosts
                .get(name.as_slice())
                .and_then(|paths| paths.find(&path));
            if found.is_some() {
                return found;
            }
        }
        self.any_host.find(&path)
    }
}

impl Paths {
    fn find(&self, path: &[u8]) -> Option<usize> {
        if !self.exact.is_empty()
            && let Some(&route) = self.exact.get(path)
        {
            return Some(route);
        }
        if self.depth > 0 {
            let mut ends = [0; 32];
            let mut count = 0;
            for end in memchr::memchr_iter(b'/', path).chain([path.len()]).skip(1) {
                if count == self.depth.min(ends.len()) {
                    break;
                }
                ends[count] = end;
                count += 1;
            }
            for &end in ends[..count].iter().rev() {
                if let Some(&route) = self.prefixes.get(&path[..end]) {
                    return Some(route);
                }
            }
        }
        self.any
    }
}

/// The path as routes see it: with the percent-encoding of unreserved characters undone and that of
/// others in upper case, `//` folded, and `.` and `..` resolved (RFC 3986 §6.2.2), so that no other
/// spelling of a path leads around a route. What is forwarded stays as it was sent.
pub fn normal_path(path: &[u8]) -> Cow<'_, [u8]> {
    let plain = !path.contains(&b'%')
        && memchr::memmem::find(path, b"/.").is_none()
        && memchr::memmem::find(path, b"//").is_none();
    if plain {
        return Cow::Borrowed(path);
    }
    let decoded = normal_encoding(path);
    let mut out: Vec<u8> = Vec::with_capacity(decoded.len());
    let mut segments = decoded.split(|&byte| byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"." | b"" if !last => {}
            b"." => out.push(b'/'),
            b".." => {
                let parent = out.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                out.truncate(parent);
                if last {
                    out.push(b'/');
                }
            }
            _ => {
                out.push(b'/');
                out.extend_from_slice(segment);
            }
        }
    }
    Cow::Owned(out)
}

fn normal_encoding(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        if *first == b'%'
            && let [high, low, after @ ..] = tail
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            let byte = high << 4 | low;
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                out.push(byte);
            } else {
                out.extend_from_slice(&rest[..3].to_ascii_uppercase());
            }
            rest = after;
            continue;
        }
        out.push(*first);
        rest = tail;
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}
