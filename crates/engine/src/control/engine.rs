//! The engine as Python holds it: workers, the control thread, and the way from one plan to the
//! next.

mod control;
mod failure;
mod sockets;
mod workers;

use std::collections::HashMap;
use std::fmt;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use evenflow_rules::compile::{self, Compiled, Registry, Removed};
use evenflow_rules::decode::decode;
use evenflow_rules::explain;
use evenflow_rules::filters::fleet::{self, LimitUsage, LimitUsages};
use evenflow_rules::plan::{self, Plan};
use evenflow_rules::pool::{Pool, offer_all};
use evenflow_rules::table::Table;
use evenflow_state::address::Address;
use evenflow_state::breaker;
use evenflow_state::endpoint::GONE;
use evenflow_state::stats::{EndpointStats, Stats};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use self::control::start_control;
pub use self::failure::EngineError;
use self::sockets::Changes;
use self::workers::{Handle, ask_all, start_worker, wait};
use crate::access_log::AccessLog;
use crate::clock::Clock;
use crate::events::Events;
use crate::memory::MemoryBudget;
use crate::probe::{Probe, Prober};
use crate::published::Published;
use crate::snapshot::{self, Snapshot, WorkerEntry};
use crate::worker::{Command, Faults, Shared};

/// What an apply did.
#[derive(Debug, Serialize)]
pub struct ApplyReport {
    /// The plan's number.
    pub revision: u64,
    /// The addresses bound, by listener.
    pub listeners: HashMap<String, Vec<String>>,
    /// Endpoints that are new.
    pub endpoints_added: usize,
    /// Endpoints that are gone.
    pub endpoints_removed: usize,
}

/// What is cheap to know at any time.
#[derive(Debug, Serialize)]
pub struct Totals {
    /// Since the start.
    pub uptime_s: f64,
    /// All requests but the control plane's own.
    pub requests: u64,
    /// How often workers panicked and began anew.
    pub worker_restarts: u64,
    /// Panics of tasks of workers that served on.
    pub worker_panics: u64,
}

/// How a drain ended.
#[derive(Debug, Serialize)]
pub struct DrainReport {
    /// Everything in flight was finished.
    pub clean: bool,
    /// Requests and sessions cut off.
    pub aborted: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PoolUpdate {
    pool: String,
    picker: plan::PickerPlan,
    use_all: bool,
    panic: Option<plan::Panic>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointUpdate {
    pool: String,
    id: String,
    up: Option<bool>,
    drain: Option<bool>,
    weight: Option<u32>,
    max_connections: Option<u32>,
    addresses: Option<Vec<Address>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BreakerUpdate {
    pool: String,
    id: Option<String>,
    state: breaker::BreakerState,
    probes: u16,
    for_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HedgeUpdate {
    route: String,
    after_ms: u64,
}

struct State {
    registry: Registry,
    /// Sockets bound, by the listener's number and the address asked for.
    bound: HashMap<sockets::Key, sockets::Bound>,
    /// How many sockets there were so far: the last one's number.
    sockets: u64,
    workers: Vec<Handle>,
    prober: Option<Prober>,
    control: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    /// Tables that were replaced: freed here and not by the worker that lets go last.
    retired: Vec<Arc<Published>>,
    accepting: bool,
    closed: bool,
}

/// The data plane.
pub struct Engine {
    shared: Arc<Shared>,
    state: Mutex<State>,
    /// What workers have counted of endpoints and handed over. Locked before `state`.
    endpoints: Mutex<FxHashMap<u32, Box<EndpointStats>>>,
    started: Instant,
}

impl fmt::Debug for Engine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Engine").finish_non_exhaustive()
    }
}

fn internal(error: impl fmt::Display) -> EngineError {
    EngineError::new("internal", "", error)
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, EngineError> {
    serde_json::to_vec(value).map_err(internal)
}

impl Engine {
    /// Starts the worker threads. Nothing is served before the first plan.
    ///
    /// # Errors
    /// What the system says against threads or sockets.
    pub fn new(workers: usize) -> Result<Self, EngineError> {
        if workers == 0 || workers > 1024 {
            return Err(EngineError::new("plan", "workers", "expected 1 to 1024"));
        }
        let empty = Plan {
            version: plan::VERSION,
            revision: 0,
            access_log: None,
            server_name: "evenflow".into(),
            buffer_bytes: u64::MAX,
            certificates: Vec::new(),
            listeners: Vec::new(),
            filters: Vec::new(),
            routes: Vec::new(),
            pools: Vec::new(),
        };
        let mut registry = Registry::default();
        let table = compile::compile(&empty, &mut registry, None)?.table;
        let shared = Arc::new(Shared {
            table: ArcSwap::from_pointee(Published::new(table, None)),
            generation: AtomicU64::new(1),
            events: Events::new().map_err(internal)?,
            clock: Arc::new(Clock::start()),
            ejected: Mutex::default(),
            memory: Arc::new(MemoryBudget::new(empty.buffer_bytes)),
            faults: (0..workers).map(|_| Faults::default()).collect(),
        });
        let mut handles = Vec::with_capacity(workers);
        for id in 0..workers {
            handles.push(start_worker(id, workers, &shared)?);
        }
        let (prober, control) = start_control(&shared)?;
        Ok(Self {
            shared,
            state: Mutex::new(State {
                registry,
                bound: HashMap::new(),
                sockets: 0,
                workers: handles,
                prober: Some(prober),
                control: Some(control),
                retired: Vec::new(),
                accepting: true,
                closed: false,
            }),
            endpoints: Mutex::default(),
            started: Instant::now(),
        })
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, EngineError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(EngineError::closed());
        }
        Ok(state)
    }

    /// Puts a plan in force, whole or not at all. The old one serves until the swap; what it lacks
    /// is drained afterwards.
    ///
    /// # Errors
    /// Where the plan is wrong, or which address cannot be bound. Nothing has changed then.
    pub fn apply(&self, document: &[u8]) -> Result<Vec<u8>, EngineError> {
        let plan: Plan = decode(document)?;
        let mut state = self.state()?;
        let state = &mut *state;
        let previous = self.shared.table.load_full();
        let (compiled, access_log, changes) =
            prepare(&plan, state, &previous).inspect_err(|_| {
                // What only the refused plan knows is not to be known to the next one.
                state.registry.prune(&previous);
            })?;
        let stale = compiled.configure_endpoints();
        let added = compiled.added;
        let table = Arc::new(Published::new(compiled.table, access_log));
        let listeners_lose = changes.take_away();
        self.shared.memory.set_limit(plan.buffer_bytes);
        self.publish(state, Arc::clone(&table));
        sockets::follow(state, changes);
        forget_idle(&state.workers, stale);
        let removed = state.registry.prune(&table);
        let encrypted = plan.listeners.iter().filter_map(|l| l.tls.as_ref());
        state.registry.tls.prune(&plan.certificates, encrypted);
        self.forget_ejections();
        // Routes that are gone, or treat tunnels in another way.
        let routes_differ = previous.routes.iter().any(|old| {
            let new = table.route(old.uid);
            new.is_none_or(|new| new.upgrade != old.upgrade)
        });
        let endpoints_removed = removed.endpoints.len();
        let forgets = endpoints_removed > 0 || !removed.budgets.is_empty();
        if forgets || listeners_lose || routes_differ {
            refresh(&state.workers, removed);
        }
        for pool in &table.pools {
            offer_all(&pool.state);
        }
        encode(&ApplyReport {
            revision: table.revision,
            listeners: sockets::addresses(&table, state),
            endpoints_added: added,
            endpoints_removed,
        })
    }

    fn publish(&self, state: &mut State, table: Arc<Published>) {
        let old = self.shared.table.swap(table);
        self.shared.generation.fetch_add(1, Ordering::AcqRel);
        state.retired.retain(|table| Arc::strong_count(table) > 1);
        state.retired.push(old);
    }

    /// Lets the ejection list go of endpoints that no plan has any more: they count no longer
    /// against the share of their pool that may be ejected.
    fn forget_ejections(&self) {
        let mut ejected = self
            .shared
            .ejected
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        ejected.retain(|(endpoint, pool)| {
            let gone = endpoint.has(GONE);
            if gone {
                pool.ejected.fetch_sub(1, Ordering::AcqRel);
            }
            !gone
        });
    }

    /// Puts another plan in force that differs from the one in force by the members of one pool,
    /// whole or not at all, as [`Engine::apply`] would.
    ///
    /// # Errors
    /// Where the change is wrong. Nothing has changed then.
    pub fn change_members(&self, document: &[u8]) -> Result<Vec<u8>, EngineError> {
        let change: plan::MembersChange = decode(document)?;
        let mut state = self.state()?;
        let state = &mut *state;
        let previous = self.shared.table.load_full();
        let compiled = compile::change_members(&change, &mut state.registry, &previous)
            .inspect_err(|_| {
                state.registry.prune(&previous);
            })?;
        let stale = compiled.configure_endpoints();
        let added = compiled.added;
        let back = compiled.endpoints().map(|endpoint| endpoint.uid).collect();
        let table = Arc::new(previous.with(compiled.table));
        self.publish(state, Arc::clone(&table));
        forget_idle(&state.workers, stale);
        let of_pool = |pool: &&Arc<Pool>| *pool.name == *change.pool;
        let mut endpoints_removed = 0;
        if change.remove > 0
            && let Some(old) = previous.pools.iter().find(of_pool)
        {
            let gone = &old.members[change.at..change.at + change.remove];
            let gone = gone.iter().map(|member| &member.endpoint);
            let removed = state.registry.forget(gone, &back);
            endpoints_removed = removed.endpoints.len();
            self.forget_ejections();
            refresh(&state.workers, removed);
        }
        if let Some(pool) = table.pools.iter().find(of_pool) {
            offer_all(&pool.state);
        }
        encode(&ApplyReport {
            revision: table.revision,
            listeners: sockets::addresses(&table, state),
            endpoints_added: added,
            endpoints_removed,
        })
    }

    /// Changes how a pool chooses, without compiling anything else.
    ///
    /// # Errors
    /// Where the update is wrong. Nothing has changed then.
    pub fn update_pool(&self, document: &[u8]) -> Result<(), EngineError> {
        let update: PoolUpdate = decode(document)?;
        let mut state = self.state()?;
        let current = self.shared.table.load_full();
        let found = current
            .pools
            .iter()
            .position(|pool| *pool.name == *update.pool);
        let Some(index) = found else {
            let message = format!("no pool {:?}", update.pool);
            return Err(EngineError::new("plan", "pool", message));
        };
        let old = &current.pools[index];
        let picker = compile::compile_picker(&update.picker, old.members.len(), "picker")?;
        let pool = Pool {
            rules: state.registry.uid(),
            // A pool that ever counted goes on counting: requests in flight were counted in.
            counts_in_flight: old.counts_in_flight || compile::counts_in_flight(&picker),
            picker,
            use_all: update.use_all,
            panic: update.panic,
            ..(**old).clone()
        };
        let waiting = Arc::clone(&pool.state);
        let mut table = current.table().clone();
        table.pools[index] = Arc::new(pool);
        let next = current.with(table);
        drop(current);
        self.publish(&mut state, Arc::new(next));
        offer_all(&waiting);
        Ok(())
    }

    /// Changes one endpoint's state, without compiling anything.
    ///
    /// # Errors
    /// When there is no such endpoint.
    pub fn set_endpoint(&self, document: &[u8]) -> Result<(), EngineError> {
        let update: EndpointUpdate = decode(document)?;
        let state = self.state()?;
        let table = self.shared.table.load_full();
        let (pool, endpoint) = find(&table, &update.pool, &update.id)?;
        let stale = endpoint.configure(
            update.up,
            update.drain,
            update.weight,
            update.max_connections,
            update.addresses.as_deref(),
        );
        if stale {
            forget_idle(&state.workers, vec![endpoint.uid]);
        }
        offer_all(&pool.state);
        Ok(())
    }

    /// Takes an ejected endpoint back at once. If it has to be ejected again soon, then for longer.
    ///
    /// # Errors
    /// When there is no such endpoint.
    pub fn clear_ejection(&self, pool: &str, id: &str) -> Result<(), EngineError> {
        let table = self.shared.table.load_full();
        let (_, endpoint) = find(&table, pool, id)?;
        let now = self.shared.now_ms();
        endpoint.ejected_until_ms.fetch_min(now, Ordering::AcqRel);
        Ok(())
    }

    /// Puts a breaker into a state.
    ///
    /// # Errors
    /// Where the update is wrong, or there is no such pool or endpoint.
    pub fn set_breaker(&self, document: &[u8]) -> Result<(), EngineError> {
        let update: BreakerUpdate = decode(document)?;
        let table = self.shared.table.load_full();
        let pool = find_pool(&table, &update.pool)?;
        let breaker = match &update.id {
            None => &pool.state.breaker,
            Some(id) => &find(&table, &update.pool, id)?.1.breaker,
        };
        let until_ms = update.for_ms.map_or(0, |ms| self.shared.now_ms() + ms);
        breaker.set(update.state, update.probes, until_ms);
        offer_all(&pool.state);
        Ok(())
    }

    /// Changes how long a hedged route waits.
    ///
    /// # Errors
    /// When there is no such route, or it makes no hedges.
    pub fn set_hedge(&self, document: &[u8]) -> Result<(), EngineError> {
        let update: HedgeUpdate = decode(document)?;
        let table = self.shared.table.load();
        let found = table.routes.iter().find(|r| *r.name == *update.route);
        let Some(hedge) = found.and_then(|route| route.hedge.as_ref()) else {
            let message = format!("no hedged route {:?}", update.route);
            return Err(EngineError::new("plan", "route", message));
        };
        hedge.after_ms.store(update.after_ms, Ordering::Relaxed);
        Ok(())
    }

    /// What came of the requests that breakers saw.
    ///
    /// # Errors
    /// None in practice: numbers can always be written down.
    pub fn outcomes(&self) -> Result<Vec<u8>, EngineError> {
        encode(&snapshot::outcomes(&self.shared.table.load_full()))
    }

    /// All numbers.
    ///
    /// # Errors
    /// When the engine is closed or a worker does not answer.
    pub fn snapshot(&self) -> Result<Vec<u8>, EngineError> {
        let mut counted = self
            .endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let replies: Vec<oneshot::Receiver<Stats>> = {
            let state = self.state()?;
            let ask = |worker: &Handle| {
                let (reply, answer) = oneshot::channel();
                let _ = worker.commands.send(Command::Snapshot(reply));
                answer
            };
            state.workers.iter().map(ask).collect()
        };
        let mut total = Stats {
            endpoints: std::mem::take(&mut *counted),
            ..Stats::default()
        };
        let mut missing = false;
        let mut busy = Vec::with_capacity(replies.len());
        for reply in replies {
            match wait(reply) {
                Some(stats) => {
                    busy.push(stats.busy_ns);
                    total.merge(stats);
                }
                None => missing = true,
            }
        }
        let table = self.shared.table.load_full();
        let faults = &self.shared.faults;
        let workers = faults.iter().zip(busy).enumerate();
        let workers = workers
            .map(|(id, (faults, busy_ns))| WorkerEntry::new(id, busy_ns, faults))
            .collect();
        snapshot::forget_removed(&mut total, &table);
        let snapshot = Snapshot::new(&table, &total, workers, self.started, &self.shared);
        let encoded = encode(&snapshot);
        *counted = total.endpoints;
        if missing {
            return Err(internal("a worker did not answer"));
        }
        encoded
    }

    /// How many requests there were, without looking at what was counted of each endpoint.
    ///
    /// # Errors
    /// When the engine is closed.
    pub fn totals(&self) -> Result<Vec<u8>, EngineError> {
        let counts = {
            let state = self.state()?;
            ask_all(&state.workers, Command::Requests)
        };
        encode(&Totals {
            uptime_s: self.started.elapsed().as_secs_f64(),
            requests: counts.into_iter().sum(),
            worker_restarts: self.count_faults(|faults| &faults.restarts),
            worker_panics: self.count_faults(|faults| &faults.panics),
        })
    }

    fn count_faults(&self, of: impl Fn(&Faults) -> &AtomicU64) -> u64 {
        let counts = self.shared.faults.iter().map(of);
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Makes a worker panic, to test what follows.
    #[cfg(feature = "fault-injection")]
    pub fn panic(&self, worker: usize, at: crate::worker::PanicAt) {
        let Ok(state) = self.state() else { return };
        let _ = state.workers[worker].commands.send(Command::Panic(at));
    }

    /// What passed limits of the fleet since this was asked last, as [`Engine::charge`] of another
    /// engine takes it, and how many requests there was no room to note. Without any, the document
    /// is empty.
    ///
    /// # Errors
    /// When the engine is closed.
    pub fn take_passed(&self) -> Result<(Vec<u8>, u64), EngineError> {
        let answers = {
            let state = self.state()?;
            ask_all(&state.workers, Command::TakePassed)
        };
        let missed = answers.iter().map(|(_, missed)| missed).sum();
        let notes: Vec<_> = answers.into_iter().map(|(counts, _)| counts).collect();
        let table = self.shared.table.load();
        let passed = fleet::merged(notes, |number| table.filter_state.fleet_limit(number));
        if passed.limits.is_empty() {
            return Ok((Vec::new(), missed));
        }
        Ok((encode(&passed)?, missed))
    }

    /// Charges limits of the fleet for what passed them elsewhere. Limits that are not known here
    /// are passed over.
    ///
    /// # Errors
    /// Where the document is wrong. Nothing was charged then.
    pub fn charge(&self, document: &[u8]) -> Result<(), EngineError> {
        let passed = read_passed(document)?;
        let now = self.shared.now_ns();
        let table = self.shared.table.load_full();
        for LimitUsage { limit, keys } in &passed.limits {
            for named in table.filter_state.fleet_limits(limit) {
                for &(key, count) in keys {
                    named.limiter.charge(key, count, now);
                }
            }
        }
        Ok(())
    }

    /// One endpoint's state and numbers, as a snapshot has them.
    ///
    /// # Errors
    /// When there is no such endpoint, the engine is closed or a worker does not answer.
    pub fn endpoint(&self, pool: &str, id: &str) -> Result<Vec<u8>, EngineError> {
        let table = self.shared.table.load_full();
        let (rules, endpoint) = find(&table, pool, id)?;
        let counted = self
            .endpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let answers = {
            let state = self.state()?;
            let uid = endpoint.uid;
            ask_all(&state.workers, |reply| Command::Numbers(uid, reply))
        };
        let before = counted.get(&endpoint.uid);
        let mut numbers = before.map_or_else(EndpointStats::default, |known| (**known).clone());
        drop(counted);
        let mut idle = 0;
        for (theirs, connections) in &answers {
            numbers.merge(theirs);
            idle += connections;
        }
        let now = self.shared.now_ms();
        encode(&snapshot::endpoint_entry(
            rules, endpoint, &numbers, idle, now,
        ))
    }

    /// What would become of a request, without sending anything.
    ///
    /// # Errors
    /// Where the description of the request is wrong.
    pub fn explain(&self, document: &[u8]) -> Result<Vec<u8>, EngineError> {
        let request: explain::ExplainRequest = decode(document)?;
        let table = self.shared.table.load_full();
        let explained = explain::explain(&table, &request, self.shared.now_ms())
            .map_err(|(path, message)| EngineError::new("plan", path, message))?;
        encode(&explained)
    }

    /// Queues probes; their results come as events.
    ///
    /// # Errors
    /// Where a probe is wrong, or that too many wait already.
    pub fn submit_probes(&self, document: &[u8]) -> Result<(), EngineError> {
        let mut probes: Vec<Probe> = decode(document)?;
        let table = self.shared.table.load_full();
        for probe in &mut probes {
            // The endpoint may be gone by now; nobody waits for its verdict then.
            let wanted = probe.endpoint.as_ref();
            let member = wanted.and_then(|wanted| table.member(&wanted.pool, &wanted.backend));
            if let Some(member) = member {
                probe.upstream = member.tls.clone().filter(|_| probe.encrypted);
                probe.known = Some(Arc::clone(&member.endpoint));
            }
        }
        let state = self.state()?;
        let prober = state.prober.as_ref().ok_or_else(EngineError::closed)?;
        prober.submit(probes).map_err(internal)
    }

    /// Takes all events, oldest first.
    ///
    /// # Errors
    /// None in practice: events can always be written down.
    pub fn take_events(&self) -> Result<Vec<u8>, EngineError> {
        encode(&self.shared.events.take())
    }

    /// A descriptor that is readable while events wait.
    pub fn fileno(&self) -> RawFd {
        self.shared.events.fd()
    }

    /// Opens the access log's file again, after it was renamed.
    pub fn reopen_logs(&self) {
        if let Some(log) = &self.shared.table.load().access_log {
            log.reopen();
        }
    }

    /// Closes all listeners, their accept queues emptied first. Connections stay.
    ///
    /// # Errors
    /// When the engine is closed.
    pub fn stop_accepting(&self) -> Result<(), EngineError> {
        let mut state = self.state()?;
        state.accepting = false;
        sockets::close_all(&mut state);
        Ok(())
    }

    /// Waits until nothing is in flight, at most so many seconds. Idle connections are closed.
    ///
    /// # Errors
    /// When the engine is closed.
    pub fn drain(&self, deadline_s: f64) -> Result<Vec<u8>, EngineError> {
        let end = Instant::now() + Duration::from_secs_f64(deadline_s.clamp(0.0, 1e9));
        loop {
            let left: usize = {
                let state = self.state()?;
                ask_all(&state.workers, Command::Drain).into_iter().sum()
            };
            if left == 0 || Instant::now() >= end {
                return encode(&DrainReport {
                    clean: left == 0,
                    aborted: left,
                });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops all threads. What is in flight is cut off.
    pub fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut state.closed, true) {
            return;
        }
        for worker in &state.workers {
            let _ = worker.commands.send(Command::Stop);
        }
        for worker in &mut state.workers {
            if let Some(thread) = worker.thread.take() {
                let _ = thread.join();
            }
        }
        state.prober = None;
        if let Some((stop, thread)) = state.control.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
        if let Some(log) = &self.shared.table.load().access_log {
            log.close(Duration::from_secs(1));
        }
    }
}

/// Everything about a plan that can fail; nothing has changed for anyone then.
fn prepare(
    plan: &Plan,
    state: &mut State,
    previous: &Published,
) -> Result<(Compiled, Option<Arc<AccessLog>>, Changes), EngineError> {
    let mut compiled = compile::compile(plan, &mut state.registry, Some(previous))?;
    let access_log = open_log(plan, previous)?;
    let mut changes = sockets::plan_sockets(&compiled.table, state)?;
    sockets::prepare(state, &mut changes).map_err(internal)?;
    for (old, new) in changes.successors() {
        compiled.table.succeed(old, new);
    }
    Ok((compiled, access_log, changes))
}

/// Has the workers look at the table again and forget what was removed.
fn refresh(workers: &[Handle], removed: Removed) {
    let removed = Arc::new(removed);
    ask_all(workers, |done| Command::Refresh(Arc::clone(&removed), done));
}

/// Has the workers close the idle connections to some endpoints. That none is used again meanwhile,
/// the endpoints' epochs see to.
fn forget_idle(workers: &[Handle], endpoints: Vec<u32>) {
    if endpoints.is_empty() {
        return;
    }
    let endpoints: Arc<[u32]> = endpoints.into();
    for worker in workers {
        let _ = worker
            .commands
            .send(Command::Forget(Arc::clone(&endpoints)));
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

fn find<'t>(
    table: &'t Table,
    pool: &str,
    id: &str,
) -> Result<(&'t Pool, &'t Arc<evenflow_state::endpoint::Endpoint>), EngineError> {
    let rules = find_pool(table, pool)?;
    let member = rules.members.iter().find(|member| member.endpoint.id == id);
    match member {
        Some(member) => Ok((rules, &member.endpoint)),
        None => Err(EngineError::new(
            "plan",
            "id",
            format!("no endpoint {id:?}"),
        )),
    }
}

fn find_pool<'t>(table: &'t Table, name: &str) -> Result<&'t Pool, EngineError> {
    let found = table.pools.iter().find(|pool| *pool.name == *name);
    found
        .map(|pool| &**pool)
        .ok_or_else(|| EngineError::new("plan", "pool", format!("no pool {name:?}")))
}

fn open_log(plan: &Plan, previous: &Published) -> Result<Option<Arc<AccessLog>>, EngineError> {
    let Some(wanted) = &plan.access_log else {
        return Ok(None);
    };
    if let Some(log) = &previous.access_log
        && log.plan().output == wanted.output
        && log.plan().format == wanted.format
    {
        return Ok(Some(Arc::clone(log)));
    }
    AccessLog::open(wanted).map(Some).map_err(|error| {
        let message = format!("{}: {error}", wanted.output);
        EngineError::new("plan", "access_log.output", message)
    })
}

/// What another engine tells of the fleet's limits.
///
/// # Errors
/// Where the document is wrong.
pub fn read_passed(document: &[u8]) -> Result<LimitUsages, EngineError> {
    Ok(decode(document)?)
}
