//! A snapshot: all numbers at one moment, for Python to show. Made on request, never by a request.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use evenflow_rules::pool::Pool;
use evenflow_rules::table::Table;
use evenflow_state::breaker::Breaker;
use evenflow_state::endpoint::Endpoint;
use evenflow_state::handshake::ENDS;
use evenflow_state::histogram::{BOUNDS_S, Histogram};
use evenflow_state::stats::{ERROR_KINDS, EndpointStats, Stats, TunnelStats};
use serde::Serialize;

use crate::published::Published;
use crate::worker::{Faults, Shared};

/// Pools with this prefix are the control plane's own and not shown.
const OWN: &str = "evenflow-";

/// All numbers. Counts are since the engine started; histogram counts are per bucket and not
/// cumulative, with one more than there are bounds.
#[derive(Debug, Serialize)]
pub struct Snapshot<'a> {
    revision: u64,
    uptime_s: f64,
    bounds_s: [f64; BOUNDS_S.len()],
    workers: Vec<WorkerEntry>,
    listeners: Vec<ListenerEntry<'a>>,
    requests: Vec<RequestEntry<'a>>,
    methods: Vec<MethodEntry>,
    routes: Vec<RouteEntry<'a>>,
    route_events: Vec<RouteEvent<'a>>,
    endpoints: Vec<EndpointEntry<'a>>,
    pools: Vec<PoolEntry<'a>>,
    filters: Vec<FilterEntry<'a>>,
    errors: Vec<ErrorEntry>,
    access_log: AccessEntry,
    memory: MemoryEntry,
}

/// The bytes of buffers, and what they may be.
#[derive(Debug, Serialize)]
struct MemoryEntry {
    held_bytes: u64,
    limit_bytes: u64,
}

/// One worker.
#[derive(Debug, Serialize)]
pub struct WorkerEntry {
    id: usize,
    busy_s: f64,
    restarts: u64,
    panics: u64,
}

impl WorkerEntry {
    /// A worker by its number, the time it was busy, and what went wrong with it.
    pub fn new(id: usize, busy_ns: u64, faults: &Faults) -> Self {
        Self {
            id,
            busy_s: busy_ns as f64 / 1e9,
            restarts: read(&faults.restarts),
            panics: read(&faults.panics),
        }
    }
}

#[derive(Debug, Serialize)]
struct ListenerEntry<'a> {
    name: &'a str,
    connections: u32,
    accepted: u64,
    rejected: u64,
    handshakes: HashMap<&'static str, u64>,
}

#[derive(Debug, Serialize)]
struct RequestEntry<'a> {
    route: &'a str,
    pool: &'a str,
    backend: &'a str,
    status: u16,
    count: u64,
}

#[derive(Debug, Serialize)]
struct MethodEntry {
    method: &'static str,
    status: u16,
    count: u64,
}

#[derive(Debug, Serialize)]
struct RouteEvent<'a> {
    route: &'a str,
    event: &'static str,
    count: u64,
}

#[derive(Debug, Serialize)]
struct RouteEntry<'a> {
    route: &'a str,
    duration: Histogram,
    tunnels: TunnelsEntry,
}

#[derive(Debug, Serialize)]
struct TunnelsEntry {
    active: u64,
    opened: u64,
    bytes_received: u64,
    bytes_sent: u64,
}

/// One endpoint.
#[derive(Debug, Serialize)]
pub struct EndpointEntry<'a> {
    pool: &'a str,
    id: &'a str,
    target: &'a str,
    up: bool,
    drain: bool,
    usable: bool,
    ejected_for_s: f64,
    weight: u32,
    in_flight: u32,
    idle_connections: usize,
    latency_s: f64,
    requests: u64,
    errors: HashMap<&'static str, u64>,
    connects: u64,
    tls_failures: HashMap<&'static str, u64>,
    bytes_sent: u64,
    bytes_received: u64,
    connect: Histogram,
    first_byte: Histogram,
    total: Histogram,
}

#[derive(Debug, Serialize)]
struct PoolEntry<'a> {
    name: &'a str,
    queue_length: u32,
    queue_timeouts: u64,
    queue_rejected: u64,
    ejections: u64,
    retries: HashMap<&'static str, u64>,
    retries_over_budget: u64,
    breaker_refused: u64,
}

#[derive(Debug, Serialize)]
struct FilterEntry<'a> {
    filter: &'a str,
    limited: u64,
}

#[derive(Debug, Serialize)]
struct ErrorEntry {
    reason: &'static str,
    count: u64,
}

#[derive(Debug, Default, Serialize)]
struct AccessEntry {
    written: u64,
    dropped: u64,
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl<'a> Snapshot<'a> {
    /// Puts names to the workers' numbers.
    #[allow(clippy::too_many_lines)] // One member after the other.
    pub(crate) fn new(
        table: &'a Published,
        stats: &Stats,
        workers: Vec<WorkerEntry>,
        started: Instant,
        shared: &Shared,
    ) -> Self {
        let now_ms = shared.now_ms();
        let routes: HashMap<u32, &str> = table
            .routes
            .iter()
            .filter(|route| !route.internal)
            .map(|route| (route.uid, &*route.name))
            .collect();
        let mut idle: HashMap<u32, usize> = HashMap::new();
        for (uid, count) in &stats.idle {
            *idle.entry(*uid).or_default() += count;
        }
        let unserved = stats.unserved.iter().map(|(&(route, status), &count)| {
            let route = routes.get(&route).copied().unwrap_or_default();
            RequestEntry {
                route,
                pool: "",
                backend: "",
                status,
                count,
            }
        });
        let mut requests: Vec<_> = unserved.collect();
        let mut endpoints = Vec::new();
        let nothing = EndpointStats::default();
        for pool in shown(table) {
            for member in pool.members.iter() {
                let uid = member.endpoint.uid;
                let numbers = stats
                    .endpoints
                    .get(&uid)
                    .map_or(&nothing, |numbers| numbers);
                for &(route, status, count) in &numbers.served {
                    requests.push(RequestEntry {
                        route: routes.get(&route).copied().unwrap_or_default(),
                        pool: &pool.name,
                        backend: &member.endpoint.id,
                        status,
                        count,
                    });
                }
                let idle = idle.get(&uid).copied().unwrap_or_default();
                endpoints.push(endpoint_entry(
                    pool,
                    &member.endpoint,
                    numbers,
                    idle,
                    now_ms,
                ));
            }
        }
        Self {
            revision: table.revision,
            uptime_s: started.elapsed().as_secs_f64(),
            bounds_s: BOUNDS_S,
            workers,
            listeners: listener_entries(table),
            requests,
            methods: stats
                .methods
                .iter()
                .map(|(&(method, status), &count)| MethodEntry {
                    method,
                    status,
                    count,
                })
                .collect(),
            routes: table
                .routes
                .iter()
                .filter(|route| !route.internal)
                .map(|route| RouteEntry {
                    route: &route.name,
                    duration: stats.routes.get(&route.uid).cloned().unwrap_or_default(),
                    tunnels: tunnels_entry(stats.tunnels.get(&route.uid)),
                })
                .collect(),
            route_events: stats
                .happened
                .iter()
                .filter_map(|(&(route, event), &count)| {
                    let route = routes.get(&route)?;
                    Some(RouteEvent {
                        route,
                        event,
                        count,
                    })
                })
                .collect(),
            endpoints,
            pools: shown(table).map(pool_entry).collect(),
            filters: table
                .refusals
                .iter()
                .map(|counter| FilterEntry {
                    filter: &counter.name,
                    limited: read(&counter.limited),
                })
                .collect(),
            errors: stats
                .errors
                .iter()
                .map(|(&reason, &count)| ErrorEntry { reason, count })
                .collect(),
            access_log: table
                .access_log
                .as_ref()
                .map_or_else(AccessEntry::default, |log| {
                    let stats = log.stats();
                    AccessEntry {
                        written: stats.written,
                        dropped: stats.dropped,
                    }
                }),
            memory: MemoryEntry {
                held_bytes: shared.memory.held(),
                limit_bytes: shared.memory.limit(),
            },
        }
    }
}

/// Takes away what was counted of endpoints and routes that the table no longer has.
pub fn forget_removed(stats: &mut Stats, table: &Table) {
    let members = table.pools.iter().flat_map(|pool| pool.members.iter());
    let known: HashSet<u32> = members.map(|member| member.endpoint.uid).collect();
    stats.endpoints.retain(|uid, numbers| {
        let is_there = |route: u32| route == 0 || table.route(route).is_some();
        numbers.served.retain(|(route, _, _)| is_there(*route));
        known.contains(uid)
    });
}

fn shown(table: &Table) -> impl Iterator<Item = &Pool> {
    let pools = table.pools.iter().map(|pool| &**pool);
    pools.filter(|pool| !pool.name.starts_with(OWN))
}

fn listener_entries(table: &Table) -> Vec<ListenerEntry<'_>> {
    table
        .listeners
        .iter()
        .map(|listener| ListenerEntry {
            name: &listener.state.name,
            connections: listener.state.connections.load(Ordering::Relaxed),
            accepted: read(&listener.state.accepted),
            rejected: read(&listener.state.rejected),
            handshakes: ENDS
                .into_iter()
                .zip(listener.state.handshakes.iter().map(read))
                .filter(|(_, count)| *count > 0)
                .collect(),
        })
        .collect()
}

fn tunnels_entry(stats: Option<&TunnelStats>) -> TunnelsEntry {
    let stats = stats.copied().unwrap_or_default();
    TunnelsEntry {
        active: stats.active,
        opened: stats.opened,
        bytes_received: stats.bytes_received,
        bytes_sent: stats.bytes_sent,
    }
}

fn pool_entry(pool: &Pool) -> PoolEntry<'_> {
    let state = &pool.state;
    let kinds = ["connect", "reset", "timeout", "status"];
    PoolEntry {
        name: &pool.name,
        queue_length: state.queue.waiting(),
        queue_timeouts: read(&state.queue_timeouts),
        queue_rejected: read(&state.queue_rejected),
        ejections: read(&state.ejections),
        retries: kinds
            .into_iter()
            .zip(state.retries.iter().map(read))
            .collect(),
        retries_over_budget: read(&state.retries_over_budget),
        breaker_refused: read(&state.breaker.refused),
    }
}

/// What came of the requests that a breaker saw.
#[derive(Debug, Serialize)]
pub struct OutcomesEntry<'a> {
    pool: &'a str,
    backend: Option<&'a str>,
    requests: u64,
    failed: u64,
    slow: u64,
}

/// The outcomes at all breakers. They are shared by the workers, so that nobody needs to be asked.
pub fn outcomes(table: &Table) -> Vec<OutcomesEntry<'_>> {
    let mut entries = Vec::new();
    for pool in &table.pools {
        let Some(rules) = pool.breaker else { continue };
        let mut add = |backend, breaker: &Breaker| {
            entries.push(OutcomesEntry {
                pool: &pool.name,
                backend,
                requests: read(&breaker.requests),
                failed: read(&breaker.failed),
                slow: read(&breaker.slow),
            });
        };
        if rules.whole {
            add(None, &pool.state.breaker);
        }
        for member in pool.members.iter().filter(|_| rules.endpoints) {
            add(Some(&member.endpoint.id), &member.endpoint.breaker);
        }
    }
    entries
}

/// One endpoint's state and numbers.
pub fn endpoint_entry<'a>(
    pool: &'a Pool,
    endpoint: &'a Endpoint,
    numbers: &EndpointStats,
    idle_connections: usize,
    now_ms: u64,
) -> EndpointEntry<'a> {
    let ejected = endpoint.has(evenflow_state::endpoint::EJECTED);
    let until = read(&endpoint.ejected_until_ms);
    EndpointEntry {
        pool: &pool.name,
        id: &endpoint.id,
        target: &endpoint.target,
        up: endpoint.has(evenflow_state::endpoint::UP),
        drain: endpoint.has(evenflow_state::endpoint::DRAIN),
        usable: endpoint.usable(pool.looks_past_health()).is_ok(),
        ejected_for_s: if ejected {
            until.saturating_sub(now_ms) as f64 / 1000.0
        } else {
            0.0
        },
        weight: endpoint.weight(),
        in_flight: endpoint.in_flight(),
        idle_connections,
        latency_s: f64::from(endpoint.latency_ms(now_ms)) / 1000.0,
        requests: numbers.requests,
        errors: ERROR_KINDS.into_iter().zip(numbers.errors).collect(),
        connects: numbers.connects,
        tls_failures: numbers.tls_failures.iter().copied().collect(),
        bytes_sent: numbers.bytes_sent,
        bytes_received: numbers.bytes_received,
        connect: numbers.connect.clone(),
        first_byte: numbers.first_byte.clone(),
        total: numbers.total.clone(),
    }
}
