//! The table: a plan compiled into what a request needs, immutable, all names resolved to indices.
//!
//! A request takes the table once and keeps it to its end. What lives longer than a table
//! (endpoint state, cursors, counters, limiters) hangs off it by `Arc` and is carried into the next
//! one by identity.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::Notify;

use crate::access_log::AccessLog;
use crate::endpoint::Endpoint;
use crate::filters::ip_set::IpSet;
use crate::filters::{Chain, Edits, NamedLimiter, Tally};
use crate::http1::head::MAX_FIELDS;
use crate::picker::Picker;
use crate::plan::{self, Plan, Protocol};
use crate::route::Router;

/// Why a plan was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The place in the plan, as in `pools[0].endpoints[2].id`.
    pub path: String,
    /// What was expected there.
    pub message: String,
}

fn refuse<T>(path: impl Into<String>, message: impl Into<String>) -> Result<T, Refused> {
    Err(Refused {
        path: path.into(),
        message: message.into(),
    })
}

/// Compiled state, one for all workers.
#[derive(Debug, Clone)]
pub struct Table {
    /// The control plane's number for it.
    pub revision: u64,
    /// For `Via` and own answers.
    pub server_name: Arc<str>,
    /// Where requests are recorded; opened by the engine when the table is published.
    pub access_log: Option<Arc<AccessLog>>,
    /// The share of requests recorded.
    pub access_sample: f64,
    /// Listeners, in plan order.
    pub listeners: Arc<[Listener]>,
    /// Routes, in plan order.
    pub routes: Arc<[Route]>,
    /// Pools, in plan order.
    pub pools: Vec<Arc<Pool>>,
    /// Limiters by name, for the next table to take over.
    pub limiters: Vec<NamedLimiter>,
    /// Refusals by filter chain.
    pub tallies: Vec<Arc<Tally>>,
}

/// A listener's rules. Its sockets belong to the workers.
#[derive(Debug)]
pub struct Listener {
    /// Runtime state, kept across tables by name.
    pub state: Arc<ListenerState>,
    /// The addresses to bind.
    pub addresses: Vec<String>,
    /// What it speaks.
    pub protocol: Protocol,
    /// Filters that run before routing.
    pub chain: Chain,
    /// For TCP: the pool's index.
    pub pool: Option<usize>,
    /// Bounds on one client.
    pub limits: plan::Limits,
    /// How long a client may take.
    pub timeouts: plan::Timeouts,
    /// Whose forwarding headers are believed; `None` is nobody's.
    pub trusted: Option<IpSet>,
    /// Also send `Forwarded`.
    pub forwarded: bool,
    /// Its routes.
    pub router: Router,
    /// Header edits by route, the listener's own included.
    pub edits: Vec<Edits>,
}

/// What is known of a listener while it runs.
#[derive(Debug, Default)]
pub struct ListenerState {
    /// Never used again in this process.
    pub uid: u32,
    /// Its name.
    pub name: String,
    /// Connections open.
    pub connections: AtomicU32,
    /// Connections accepted so far.
    pub accepted: AtomicU64,
    /// Connections closed at once by a filter.
    pub rejected: AtomicU64,
    /// Woken when a connection closes while the listener is full.
    pub room: Notify,
    /// Someone waits for `room`.
    pub full: AtomicBool,
}

/// A route's rules.
#[derive(Debug)]
pub struct Route {
    /// The same for as long as the name stays.
    pub uid: u32,
    /// Its name.
    pub name: Arc<str>,
    /// Filters after those of the listener.
    pub chain: Chain,
    /// The pool's index.
    pub pool: usize,
    /// The control plane's own.
    pub internal: bool,
    /// The whole exchange; 0 is no bound.
    pub timeout_ms: u64,
    /// Further attempts.
    pub retries: plan::Retries,
}

/// A pool's members and rules.
#[derive(Debug, Clone)]
pub struct Pool {
    /// Its name.
    pub name: Arc<str>,
    /// How a member is chosen.
    pub picker: Picker,
    /// The members.
    pub members: Arc<[Member]>,
    /// When none is usable, use all that are not draining.
    pub use_all: bool,
    /// Requests that wait while all are full.
    pub queue: plan::Queue,
    /// Passive health.
    pub outlier: Option<plan::Outlier>,
    /// Upstream connections.
    pub connections: plan::Connections,
    /// Retries as a share of live requests.
    pub retry_budget: f64,
    /// Retries per second allowed in any case.
    pub retry_floor: u32,
    /// Whether `state.in_flight` is kept.
    pub counts_in_flight: bool,
    /// Runtime state, kept across tables by name.
    pub state: Arc<PoolState>,
}

/// An endpoint as a member of a pool.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its runtime state.
    pub endpoint: Arc<Endpoint>,
    /// Connecting.
    pub connect_timeout_ms: u64,
    /// Until the response head.
    pub first_byte_timeout_ms: u64,
    /// Between two reads.
    pub idle_timeout_ms: u64,
}

/// What is known of a pool while it runs.
#[derive(Debug, Default)]
pub struct PoolState {
    /// Never used again in this process.
    pub uid: u32,
    /// Where the cycle stands.
    pub cursor: AtomicUsize,
    /// Requests in flight; kept only for pickers that bound an endpoint's share.
    pub in_flight: AtomicU32,
    /// Requests that wait in the queue.
    pub waiting: AtomicU32,
    /// Woken when a request leaves while others wait.
    pub room: Notify,
    /// Endpoints ejected now.
    pub ejected: AtomicU32,
    /// Ejections so far.
    pub ejections: AtomicU64,
    /// Requests that waited for too long.
    pub queue_timeouts: AtomicU64,
    /// Requests that found the queue full.
    pub queue_rejected: AtomicU64,
    /// Retries after a failed connect, a reset, a timeout, a status.
    pub retries: [AtomicU64; 4],
    /// Retries that the budget did not allow.
    pub retries_over_budget: AtomicU64,
}

/// Everything that outlives tables, by identity.
#[derive(Debug, Default)]
pub struct Registry {
    next_uid: u32,
    endpoints: HashMap<(String, String, String), Arc<Endpoint>>,
    pools: HashMap<String, Arc<PoolState>>,
    listeners: HashMap<String, Arc<ListenerState>>,
    routes: HashMap<String, (u32, Arc<str>)>,
    tallies: HashMap<String, Arc<Tally>>,
}

/// A table ready to be published, and what publishing it means for the endpoints.
#[derive(Debug)]
pub struct Compiled {
    /// The table.
    pub table: Table,
    /// Endpoints that no earlier table had.
    pub added: usize,
    /// The endpoints' states as the plan has them, set when the table is published.
    states: Vec<(Arc<Endpoint>, plan::Endpoint)>,
}

impl Compiled {
    /// Sets the endpoints' states. New endpoints first become usable here.
    pub fn configure_endpoints(&self) {
        for (endpoint, wanted) in &self.states {
            endpoint.configure(
                Some(wanted.up),
                Some(wanted.drain),
                Some(wanted.weight),
                Some(wanted.max_connections),
                Some(&wanted.addresses),
            );
        }
    }
}

impl Registry {
    fn uid(&mut self) -> u32 {
        self.next_uid += 1;
        self.next_uid
    }

    fn endpoint(&mut self, pool: &str, wanted: &plan::Endpoint) -> (Arc<Endpoint>, bool) {
        let identity = (pool.to_owned(), wanted.id.clone(), wanted.target.clone());
        if let Some(endpoint) = self.endpoints.get(&identity) {
            return (Arc::clone(endpoint), false);
        }
        let uid = self.uid();
        let endpoint = Arc::new(Endpoint::new(uid, pool, &wanted.id, &wanted.target));
        self.endpoints.insert(identity, Arc::clone(&endpoint));
        (endpoint, true)
    }

    fn pool(&mut self, name: &str) -> Arc<PoolState> {
        if let Some(state) = self.pools.get(name) {
            return Arc::clone(state);
        }
        let state = Arc::new(PoolState {
            uid: self.uid(),
            ..PoolState::default()
        });
        self.pools.insert(name.into(), Arc::clone(&state));
        state
    }

    fn listener(&mut self, name: &str) -> Arc<ListenerState> {
        if let Some(state) = self.listeners.get(name) {
            return Arc::clone(state);
        }
        let state = Arc::new(ListenerState {
            uid: self.uid(),
            name: name.into(),
            ..ListenerState::default()
        });
        self.listeners.insert(name.into(), Arc::clone(&state));
        state
    }

    fn route(&mut self, name: &str) -> (u32, Arc<str>) {
        if let Some(route) = self.routes.get(name) {
            return route.clone();
        }
        let route = (self.uid(), Arc::from(name));
        self.routes.insert(name.into(), route.clone());
        route
    }

    fn tally(&mut self, name: &str) -> Arc<Tally> {
        let tally = self.tallies.entry(name.into()).or_insert_with(|| {
            Arc::new(Tally {
                name: name.into(),
                limited: AtomicU64::new(0),
            })
        });
        Arc::clone(tally)
    }

    /// Forgets what the table does not use; how many endpoints that were.
    pub fn prune(&mut self, table: &Table) -> usize {
        let kept: HashSet<u32> = table
            .pools
            .iter()
            .flat_map(|pool| pool.members.iter().map(|member| member.endpoint.uid))
            .collect();
        let before = self.endpoints.len();
        self.endpoints
            .retain(|_, endpoint| kept.contains(&endpoint.uid));
        let pools: HashSet<u32> = table.pools.iter().map(|pool| pool.state.uid).collect();
        self.pools.retain(|_, state| pools.contains(&state.uid));
        let listeners: HashSet<u32> = table.listeners.iter().map(|l| l.state.uid).collect();
        self.listeners
            .retain(|_, state| listeners.contains(&state.uid));
        let routes: HashSet<u32> = table.routes.iter().map(|route| route.uid).collect();
        self.routes.retain(|_, (uid, _)| routes.contains(uid));
        let tallies: HashSet<&str> = table.tallies.iter().map(|t| t.name.as_str()).collect();
        self.tallies
            .retain(|name, _| tallies.contains(name.as_str()));
        before - self.endpoints.len()
    }

    /// All endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints.values()
    }
}

/// Compiles a plan. The registry may gain entries for a plan that is refused in the end; the next
/// [`Registry::prune`] takes them away.
///
/// # Errors
/// The first thing that is wrong, with its place.
#[allow(clippy::too_many_lines)] // One section of the plan after the other, in order.
pub fn compile(
    plan: &Plan,
    registry: &mut Registry,
    previous: Option<&Table>,
) -> Result<Compiled, Refused> {
    if plan.version != plan::VERSION {
        return refuse("version", format!("expected {}", plan::VERSION));
    }
    if let Some(log) = &plan.access_log
        && !(0.0..=1.0).contains(&log.sample)
    {
        return refuse("access_log.sample", "expected a share from 0 to 1");
    }
    if !plan.server_name.bytes().all(|byte| byte.is_ascii_graphic()) || plan.server_name.is_empty()
    {
        return refuse("server_name", "expected visible ASCII characters");
    }
    let mut chains: Chains<'_> = HashMap::new();
    let mut tallies = Vec::new();
    for (index, chain) in plan.filters.iter().enumerate() {
        let tally = registry.tally(&chain.name);
        tallies.push(Arc::clone(&tally));
        if chains
            .insert(chain.name.as_str(), (index, chain, tally))
            .is_some()
        {
            return refuse(format!("filters[{index}].name"), "used twice");
        }
    }
    let mut limiters = previous.map_or_else(Vec::new, |table| table.limiters.clone());
    let mut chain_of = |names: &[String], path: &str| {
        let mut out = Chain::default();
        for (at, name) in names.iter().enumerate() {
            let Some((index, chain, tally)) = chains.get(name.as_str()) else {
                return refuse(format!("{path}[{at}]"), format!("no filter chain {name:?}"));
            };
            out.extend(chain, tally, &mut limiters)
                .map_err(|(below, message)| Refused {
                    path: format!("filters[{index}].{below}"),
                    message,
                })?;
        }
        out.edits = edits_of(&chains, names)?;
        Ok(out)
    };

    let mut states = Vec::new();
    let mut added = 0;
    let mut pool_indices = HashMap::new();
    let mut pools = Vec::with_capacity(plan.pools.len());
    for (index, pool) in plan.pools.iter().enumerate() {
        let path = format!("pools[{index}]");
        if pool_indices.insert(pool.name.as_str(), index).is_some() {
            return refuse(format!("{path}.name"), "used twice");
        }
        let kept = previous.and_then(|table| table.pools.get(index));
        pools.push(Arc::new(compile_pool(
            pool,
            &path,
            registry,
            kept,
            &mut states,
            &mut added,
        )?));
    }

    let mut routes: Vec<Route> = Vec::with_capacity(plan.routes.len());
    let mut names = HashSet::new();
    for (index, route) in plan.routes.iter().enumerate() {
        let path = format!("routes[{index}]");
        if !names.insert(&route.name) {
            return refuse(format!("{path}.name"), "used twice");
        }
        let Some(&pool) = pool_indices.get(route.pool.as_str()) else {
            return refuse(format!("{path}.pool"), format!("no pool {:?}", route.pool));
        };
        if let Some(plan::PathMatch::Exact(text) | plan::PathMatch::Prefix(text)) =
            &route.matcher.path
            && (!text.starts_with('/') || text.bytes().filter(|&byte| byte == b'/').count() > 32)
        {
            return refuse(
                format!("{path}.match.path"),
                "expected a path that begins with / and has at most 32 segments",
            );
        }
        let (uid, name) = registry.route(&route.name);
        routes.push(Route {
            uid,
            name,
            chain: chain_of(&route.filters, &format!("{path}.filters"))?,
            pool,
            internal: route.internal,
            timeout_ms: route.timeout_ms,
            retries: route.retries.clone(),
        });
    }

    let mut listeners = Vec::with_capacity(plan.listeners.len());
    let mut names = HashSet::new();
    for (index, listener) in plan.listeners.iter().enumerate() {
        let path = format!("listeners[{index}]");
        if !names.insert(listener.name.as_str()) {
            return refuse(format!("{path}.name"), "used twice");
        }
        let pool = match (&listener.protocol, &listener.pool) {
            (Protocol::Http, None) => None,
            (Protocol::Tcp, Some(name)) => match pool_indices.get(name.as_str()) {
                Some(&pool) => Some(pool),
                None => return refuse(format!("{path}.pool"), format!("no pool {name:?}")),
            },
            (Protocol::Http, Some(_)) => {
                return refuse(
                    format!("{path}.pool"),
                    "expected null: routes name the pools",
                );
            }
            (Protocol::Tcp, None) => {
                return refuse(format!("{path}.pool"), "expected the name of a pool");
            }
        };
        if listener.addresses.is_empty() {
            return refuse(format!("{path}.addresses"), "expected at least one address");
        }
        if !(1..=MAX_FIELDS as u32).contains(&listener.limits.headers) {
            return refuse(
                format!("{path}.limits.headers"),
                format!("expected 1 to {MAX_FIELDS}"),
            );
        }
        if !(1024..=1024 * 1024).contains(&listener.limits.head_bytes) {
            return refuse(
                format!("{path}.limits.head_bytes"),
                "expected 1024 to 1048576",
            );
        }
        let chain = chain_of(&listener.filters, &format!("{path}.filters"))?;
        let mut edits: Vec<Edits> = routes
            .iter()
            .map(|route| route.chain.edits.clone())
            .collect();
        if !chain.edits.is_empty() {
            for (edits, route) in edits.iter_mut().zip(&plan.routes) {
                *edits = if route.internal || edits.is_empty() {
                    chain.edits.clone()
                } else {
                    edits_of(&chains, listener.filters.iter().chain(&route.filters))?
                };
            }
        }
        listeners.push(Listener {
            state: registry.listener(&listener.name),
            addresses: listener.addresses.clone(),
            protocol: listener.protocol,
            chain,
            edits,
            pool,
            limits: listener.limits.clone(),
            timeouts: listener.timeouts.clone(),
            trusted: trusted(&listener.trusted_proxies),
            forwarded: listener.forwarded,
            router: router(plan, listener)?,
        });
    }
    for (index, route) in plan.routes.iter().enumerate() {
        if let Some(name) = route
            .listeners
            .iter()
            .find(|name| !names.contains(name.as_str()))
        {
            return refuse(
                format!("routes[{index}].listeners"),
                format!("no listener {name:?}"),
            );
        }
    }
    limiters.retain(|limiter| {
        plan.filters
            .iter()
            .flat_map(|chain| &chain.steps)
            .any(|step| matches!(step, plan::Filter::Limit(filter) if limiter.fits(filter)))
    });
    Ok(Compiled {
        table: Table {
            revision: plan.revision,
            server_name: Arc::from(plan.server_name.as_str()),
            access_log: None,
            access_sample: plan.access_log.as_ref().map_or(0.0, |log| log.sample),
            listeners: listeners.into(),
            routes: routes.into(),
            pools,
            limiters,
            tallies,
        },
        added,
        states,
    })
}

type Chains<'a> = HashMap<&'a str, (usize, &'a plan::FilterChain, Arc<Tally>)>;

/// The header edits of filter chains that run one after the other.
fn edits_of<'a>(
    chains: &Chains<'_>,
    names: impl IntoIterator<Item = &'a String>,
) -> Result<Edits, Refused> {
    let named = names
        .into_iter()
        .filter_map(|name| chains.get(name.as_str()));
    Edits::compile(named.map(|(index, chain, _)| (*index, *chain))).map_err(
        |(index, below, message)| Refused {
            path: format!("filters[{index}].{below}"),
            message,
        },
    )
}

fn trusted(networks: &[IpNet]) -> Option<IpSet> {
    (!networks.is_empty()).then(|| IpSet::new(networks, &[]))
}

fn router(plan: &Plan, listener: &plan::Listener) -> Result<Router, Refused> {
    let mut router = Router::default();
    if listener.protocol == Protocol::Http {
        for (index, route) in plan.routes.iter().enumerate() {
            if !route.listeners.is_empty() && !route.listeners.contains(&listener.name) {
                continue;
            }
            if let Err(earlier) = router.add(&route.matcher, index) {
                return refuse(
                    format!("routes[{index}].match"),
                    format!("the same as that of route {:?}", plan.routes[earlier].name),
                );
            }
        }
    }
    Ok(router)
}

fn compile_pool(
    pool: &plan::Pool,
    path: &str,
    registry: &mut Registry,
    kept: Option<&Arc<Pool>>,
    states: &mut Vec<(Arc<Endpoint>, plan::Endpoint)>,
    added: &mut usize,
) -> Result<Pool, Refused> {
    if let Some(outlier) = &pool.outlier
        && (!(0.0..=1.0).contains(&outlier.max_ejected) || outlier.consecutive_errors == 0)
    {
        return refuse(
            format!("{path}.outlier"),
            "expected consecutive_errors of at least 1 and max_ejected from 0 to 1",
        );
    }
    let mut ids = HashSet::with_capacity(pool.endpoints.len());
    let mut members = Vec::with_capacity(pool.endpoints.len());
    for (index, wanted) in pool.endpoints.iter().enumerate() {
        if !ids.insert(wanted.id.as_str()) {
            return refuse(format!("{path}.endpoints[{index}].id"), "used twice");
        }
        if !(1..=65_535).contains(&wanted.weight) {
            return refuse(
                format!("{path}.endpoints[{index}].weight"),
                "expected 1 to 65535",
            );
        }
        // Most plans change little: the member at the same place is most often the same endpoint,
        // and found without building its key.
        let same = kept
            .and_then(|pool| pool.members.get(index))
            .map(|member| &member.endpoint)
            .filter(|old| {
                old.pool == pool.name && old.id == wanted.id && old.target == wanted.target
            });
        let (endpoint, new) = match same {
            Some(endpoint) => (Arc::clone(endpoint), false),
            None => registry.endpoint(&pool.name, wanted),
        };
        *added += usize::from(new);
        states.push((Arc::clone(&endpoint), wanted.clone()));
        members.push(Member {
            endpoint,
            connect_timeout_ms: wanted.connect_timeout_ms,
            first_byte_timeout_ms: wanted.first_byte_timeout_ms,
            idle_timeout_ms: wanted.idle_timeout_ms,
        });
    }
    let picker = compile_picker(&pool.picker, members.len(), &format!("{path}.picker"))?;
    Ok(Pool {
        name: Arc::from(pool.name.as_str()),
        counts_in_flight: counts_in_flight(&picker),
        picker,
        members: members.into(),
        use_all: pool.use_all,
        queue: pool.queue,
        outlier: pool.outlier,
        connections: pool.connections,
        retry_budget: pool.retry_budget.clamp(0.0, 1.0),
        retry_floor: pool.retry_floor,
        state: registry.pool(&pool.name),
    })
}

/// Whether requests in flight over the whole pool must be counted for this picker.
pub fn counts_in_flight(picker: &Picker) -> bool {
    matches!(
        picker,
        Picker::Hash {
            load_bound: Some(_),
            ..
        }
    )
}

/// Compiles a picker for a pool of so many members.
///
/// # Errors
/// An index outside the pool, or an empty table for a pool that has members.
pub fn compile_picker(
    picker: &plan::Picker,
    members: usize,
    path: &str,
) -> Result<Picker, Refused> {
    let checked = |table: &[u32]| {
        if let Some(at) = table.iter().position(|&index| index as usize >= members) {
            return refuse(
                format!("{path}.table[{at}]"),
                format!("expected an index below {members}"),
            );
        }
        if table.is_empty() && members > 0 {
            return refuse(format!("{path}.table"), "expected at least one index");
        }
        Ok(Box::from(table))
    };
    Ok(match picker {
        plan::Picker::Cycle { table } => Picker::Cycle(checked(table)?),
        plan::Picker::Hash {
            key,
            table,
            load_bound,
        } => {
            if load_bound.is_some_and(|bound| !(bound.is_finite() && bound >= 1.0)) {
                return refuse(format!("{path}.load_bound"), "expected a number from 1");
            }
            Picker::Hash {
                key: key.clone(),
                table: checked(table)?,
                load_bound: *load_bound,
            }
        }
        plan::Picker::Least { score, choices } => Picker::Least {
            score: *score,
            choices: *choices,
        },
    })
}

/// A span of time as the engine's clock counts it.
pub fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
