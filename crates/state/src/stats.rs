//! Counters and histograms. Each worker writes its own, plain memory without atomics; a snapshot
//! asks every worker for a copy and adds them up.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use rustc_hash::FxHashMap;

use crate::histogram::Histogram;

/// Kinds of upstream failures, in the order of [`EndpointStats::errors`].
pub const ERROR_KINDS: [&str; 5] = ["connect", "reset", "timeout", "protocol", "status_5xx"];

/// What made an attempt fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// No connection.
    Connect,
    /// Closed before the answer was complete.
    Reset,
    /// Silent for too long.
    Timeout,
    /// An answer against the rules.
    Protocol,
    /// An answer with a 5xx status.
    Status,
}

/// One endpoint's numbers.
#[derive(Debug, Default, Clone)]
pub struct EndpointStats {
    /// Answered requests.
    pub requests: u64,
    /// Failures by [`ErrorKind`].
    pub errors: [u64; 5],
    /// Connections made.
    pub connects: u64,
    /// Failed TLS handshakes by reason; short.
    pub tls_failures: Vec<(&'static str, u64)>,
    /// Bytes sent to it.
    pub bytes_sent: u64,
    /// Bytes received from it.
    pub bytes_received: u64,
    /// Connecting.
    pub connect: Histogram,
    /// From the choice to the response head.
    pub first_byte: Histogram,
    /// The whole exchange.
    pub total: Histogram,
    /// Requests by route and status; short, so a scan finds an entry fastest.
    pub served: Vec<(u32, u16, u64)>,
}

/// Connections of a route that switched protocols.
#[derive(Debug, Default, Clone, Copy)]
pub struct TunnelStats {
    /// Now.
    pub active: u64,
    /// So far.
    pub opened: u64,
    /// Bytes received from clients since the switch.
    pub bytes_received: u64,
    /// Bytes sent to clients since the switch.
    pub bytes_sent: u64,
}

/// One worker's numbers.
#[derive(Debug, Default, Clone)]
pub struct Stats {
    /// By endpoint.
    pub endpoints: FxHashMap<u32, Box<EndpointStats>>,
    /// Requests that no endpoint answered, by route (0 is none) and status.
    pub unserved: FxHashMap<(u32, u16), u64>,
    /// Duration of exchanges by route.
    pub routes: FxHashMap<u32, Histogram>,
    /// Connections that switched protocols, by route.
    pub tunnels: FxHashMap<u32, TunnelStats>,
    /// Requests by method and status.
    pub methods: FxHashMap<(&'static str, u16), u64>,
    /// Answers of the balancer's own by reason.
    pub errors: FxHashMap<&'static str, u64>,
    /// What routes did besides forwarding, by route.
    pub happened: FxHashMap<(u32, &'static str), u64>,
    /// Idle upstream connections by endpoint; filled in for snapshots.
    pub idle: Vec<(u32, usize)>,
    /// Processor time of the worker's thread in nanoseconds; filled in for snapshots.
    pub busy_ns: u64,
}

impl Stats {
    /// One endpoint's numbers.
    pub fn endpoint(&mut self, uid: u32) -> &mut EndpointStats {
        self.endpoints.entry(uid).or_default()
    }

    /// Counts something that a route did besides forwarding.
    pub fn happened(&mut self, route: u32, what: &'static str) {
        *self.happened.entry((route, what)).or_default() += 1;
    }

    /// Adds another worker's numbers to these.
    pub fn merge(&mut self, other: Self) {
        for (uid, theirs) in other.endpoints {
            match self.endpoints.entry(uid) {
                Entry::Occupied(mut mine) => mine.get_mut().merge(&theirs),
                Entry::Vacant(place) => {
                    place.insert(theirs);
                }
            }
        }
        add_all(&mut self.unserved, &other.unserved);
        add_all(&mut self.methods, &other.methods);
        add_all(&mut self.errors, &other.errors);
        add_all(&mut self.happened, &other.happened);
        for (uid, theirs) in &other.routes {
            self.routes.entry(*uid).or_default().merge(theirs);
        }
        for (uid, theirs) in &other.tunnels {
            let mine = self.tunnels.entry(*uid).or_default();
            mine.active += theirs.active;
            mine.opened += theirs.opened;
            mine.bytes_received += theirs.bytes_received;
            mine.bytes_sent += theirs.bytes_sent;
        }
        self.idle.extend_from_slice(&other.idle);
    }
}

fn add_all<K: Hash + Eq + Copy, S: std::hash::BuildHasher>(
    mine: &mut HashMap<K, u64, S>,
    theirs: &HashMap<K, u64, S>,
) {
    for (key, count) in theirs {
        *mine.entry(*key).or_default() += count;
    }
}

impl EndpointStats {
    /// Adds another worker's numbers to these.
    pub fn merge(&mut self, theirs: &Self) {
        self.requests += theirs.requests;
        for (mine, theirs) in self.errors.iter_mut().zip(theirs.errors) {
            *mine += theirs;
        }
        self.connects += theirs.connects;
        for &(reason, count) in &theirs.tls_failures {
            self.count_tls_failure(reason, count);
        }
        self.bytes_sent += theirs.bytes_sent;
        self.bytes_received += theirs.bytes_received;
        self.connect.merge(&theirs.connect);
        self.first_byte.merge(&theirs.first_byte);
        self.total.merge(&theirs.total);
        for &(route, status, count) in &theirs.served {
            self.count_served(route, status, count);
        }
    }

    /// Counts failed TLS handshakes.
    pub fn count_tls_failure(&mut self, reason: &'static str, count: u64) {
        let found = self.tls_failures.iter_mut().find(|(r, _)| *r == reason);
        match found {
            Some((_, total)) => *total += count,
            None => self.tls_failures.push((reason, count)),
        }
    }

    /// Counts requests of a route that were answered with a status.
    pub fn count_served(&mut self, route: u32, status: u16, count: u64) {
        let found = self
            .served
            .iter_mut()
            .find(|(r, s, _)| *r == route && *s == status);
        match found {
            Some((_, _, total)) => *total += count,
            None => self.served.push((route, status, count)),
        }
    }
}

/// The label of a method: its name when it is a usual one, so that clients cannot grow metrics.
pub fn method_label(method: &[u8]) -> &'static str {
    match method {
        b"GET" => "GET",
        b"POST" => "POST",
        b"PUT" => "PUT",
        b"DELETE" => "DELETE",
        b"HEAD" => "HEAD",
        b"PATCH" => "PATCH",
        b"OPTIONS" => "OPTIONS",
        b"TRACE" => "TRACE",
        _ => "OTHER",
    }
}
