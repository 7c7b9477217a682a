//! The engine as Python holds it: workers, the control thread, and the way from one plan to the
//! next.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::access_log::AccessLog;
use crate::endpoint::EJECTED;
use crate::events::{Event, Events};
use crate::explain;
use crate::listen;
use crate::plan::{self, Address, Plan};
use crate::probe::{Probe, Prober};
use crate::snapshot::Snapshot;
use crate::stats::Stats;
use crate::table::{self, Compiled, Pool, Registry, Table};
use crate::worker::{Command, Shared, Socket};

/// How often ejections are looked at.
const TICK: Duration = Duration::from_millis(50);
/// How long a worker may take to answer the engine.
const PATIENCE: Duration = Duration::from_secs(10);

/// What went wrong, for Python.
#[derive(Debug, Clone)]
pub struct EngineError {
    /// `plan`, `bind`, `closed` or `internal`.
    pub code: &'static str,
    /// The place in the document, if there is one.
    pub path: String,
    /// What was expected, or what the system says.
    pub message: String,
}

impl fmt::Display for EngineError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(out, "{}", self.message)
        } else {
            write!(out, "{}: {}", self.path, self.message)
        }
    }
}

impl std::error::Error for EngineError {}

impl EngineError {
    fn new(code: &'static str, path: impl Into<String>, message: impl fmt::Display) -> Self {
        Self {
            code,
            path: path.into(),
            message: message.to_string(),
        }
    }

    fn closed() -> Self {
        Self::new("closed", "", "the engine is closed")
    }
}

impl From<table::Refused> for EngineError {
    fn from(refused: table::Refused) -> Self {
        Self::new("plan", refused.path, refused.message)
    }
}

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
    picker: plan::Picker,
    use_all: bool,
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

struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    registry: Registry,
    /// Sockets bound, by the address asked for: the bound address and the listener's number.
    bound: HashMap<String, (String, u32)>,
    workers: Vec<Handle>,
    prober: Option<Prober>,
    control: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    /// Tables that were replaced: freed here and not by the worker that lets go last.
    retired: Vec<Arc<Table>>,
    accepting: bool,
    closed: bool,
}

/// The data plane.
pub struct Engine {
    shared: Arc<Shared>,
    state: Mutex<State>,
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

fn decode<'a, T: Deserialize<'a>>(document: &'a [u8]) -> Result<T, EngineError> {
    let mut reader = serde_json::Deserializer::from_slice(document);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        EngineError::new("plan", path, error.inner())
    })
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
            listeners: Vec::new(),
            filters: Vec::new(),
            routes: Vec::new(),
            pools: Vec::new(),
        };
        let mut registry = Registry::default();
        let table = table::compile(&empty, &mut registry, None)?.table;
        let shared = Arc::new(Shared {
            table: ArcSwap::from_pointee(table),
            generation: AtomicU64::new(1),
            events: Events::new().map_err(internal)?,
            epoch: Instant::now(),
            ejected: Mutex::default(),
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
                workers: handles,
                prober: Some(prober),
                control: Some(control),
                retired: Vec::new(),
                accepting: true,
                closed: false,
            }),
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
        let mut compiled = table::compile(&plan, &mut state.registry, Some(&previous))?;
        let new_sockets = bind_new(&compiled.table, state)?;
        compiled.table.access_log = open_log(&plan, &previous)?;
        let bound = match start_listening(&state.workers, new_sockets) {
            Ok(bound) => bound,
            Err(error) => {
                return Err(internal(error));
            }
        };
        compiled.configure_endpoints();
        let added = compiled.added;
        let table = Arc::new(compiled.table);
        self.publish(state, Arc::clone(&table));
        state.bound.extend(bound);
        let gone = listeners_gone(&table, state);
        for address in &gone {
            state.bound.remove(address);
            ask_all(&state.workers, |done| {
                Command::Unlisten(address.clone(), done)
            });
        }
        let removed = state.registry.prune(&table);
        self.forget_ejections(&table);
        if removed > 0 || !gone.is_empty() || previous.routes.len() != table.routes.len() {
            ask_all(&state.workers, Command::Refresh);
        }
        let mut listeners = HashMap::new();
        for listener in table.listeners.iter() {
            let addresses = listener
                .addresses
                .iter()
                .filter_map(|address| state.bound.get(address))
                .map(|(bound, _)| bound.clone())
                .collect();
            listeners.insert(listener.state.name.clone(), addresses);
        }
        encode(&ApplyReport {
            revision: table.revision,
            listeners,
            endpoints_added: added,
            endpoints_removed: removed,
        })
    }

    fn publish(&self, state: &mut State, table: Arc<Table>) {
        let old = self.shared.table.swap(table);
        self.shared.generation.fetch_add(1, Ordering::AcqRel);
        state.retired.retain(|table| Arc::strong_count(table) > 1);
        state.retired.push(old);
    }

    /// Lets the ejection list go of endpoints that no table has any more.
    fn forget_ejections(&self, table: &Table) {
        let mut ejected = self
            .shared
            .ejected
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        ejected.retain(|(endpoint, _)| {
            table.pools.iter().any(|pool| {
                pool.members
                    .iter()
                    .any(|m| Arc::ptr_eq(&m.endpoint, endpoint))
            })
        });
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
        let picker = table::compile_picker(&update.picker, old.members.len(), "picker")?;
        let pool = Pool {
            // A pool that ever counted goes on counting: requests in flight were counted in.
            counts_in_flight: old.counts_in_flight || table::counts_in_flight(&picker),
            picker,
            use_all: update.use_all,
            ..(**old).clone()
        };
        let waiting = Arc::clone(&pool.state);
        let mut table = (*current).clone();
        table.pools[index] = Arc::new(pool);
        drop(current);
        self.publish(&mut state, Arc::new(table));
        waiting.room.notify_waiters();
        Ok(())
    }

    /// Changes one endpoint's state, without compiling anything.
    ///
    /// # Errors
    /// When there is no such endpoint.
    pub fn set_endpoint(&self, document: &[u8]) -> Result<(), EngineError> {
        let update: EndpointUpdate = decode(document)?;
        let _state = self.state()?;
        let table = self.shared.table.load_full();
        let (pool, endpoint) = find(&table, &update.pool, &update.id)?;
        endpoint.configure(
            update.up,
            update.drain,
            update.weight,
            update.max_connections,
            update.addresses.as_deref(),
        );
        pool.state.room.notify_waiters();
        Ok(())
    }

    /// Takes an ejected endpoint back at once.
    ///
    /// # Errors
    /// When there is no such endpoint.
    pub fn clear_ejection(&self, pool: &str, id: &str) -> Result<(), EngineError> {
        let table = self.shared.table.load_full();
        let (_, endpoint) = find(&table, pool, id)?;
        endpoint.ejected_until_ms.store(0, Ordering::Release);
        Ok(())
    }

    /// All numbers.
    ///
    /// # Errors
    /// When the engine is closed or a worker does not answer.
    pub fn snapshot(&self) -> Result<Vec<u8>, EngineError> {
        let replies: Vec<oneshot::Receiver<Stats>> = {
            let state = self.state()?;
            let ask = |worker: &Handle| {
                let (reply, answer) = oneshot::channel();
                let _ = worker.commands.send(Command::Snapshot(reply));
                answer
            };
            state.workers.iter().map(ask).collect()
        };
        let mut total = Stats::default();
        let mut busy = Vec::with_capacity(replies.len());
        for reply in replies {
            let stats = wait(reply).ok_or_else(|| internal("a worker did not answer"))?;
            busy.push(stats.busy_ns);
            total.merge(&stats);
        }
        let table = self.shared.table.load_full();
        let snapshot = Snapshot::new(&table, &total, &busy, self.started, self.shared.now_ms());
        encode(&snapshot)
    }

    /// What would become of a request, without sending anything.
    ///
    /// # Errors
    /// Where the description of the request is wrong.
    pub fn explain(&self, document: &[u8]) -> Result<Vec<u8>, EngineError> {
        let request: explain::Request = decode(document)?;
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
        let probes: Vec<Probe> = decode(document)?;
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
        let addresses: Vec<String> = state.bound.drain().map(|(address, _)| address).collect();
        for address in addresses {
            ask_all(&state.workers, |done| {
                Command::Unlisten(address.clone(), done)
            });
        }
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

impl Drop for Engine {
    fn drop(&mut self) {
        self.close();
    }
}

fn find<'t>(
    table: &'t Table,
    pool: &str,
    id: &str,
) -> Result<(&'t Pool, &'t Arc<crate::endpoint::Endpoint>), EngineError> {
    let rules = table.pools.iter().find(|rules| *rules.name == *pool);
    let Some(rules) = rules else {
        return Err(EngineError::new(
            "plan",
            "pool",
            format!("no pool {pool:?}"),
        ));
    };
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

fn start_worker(id: usize, workers: usize, shared: &Arc<Shared>) -> Result<Handle, EngineError> {
    let (commands, receiver) = mpsc::unbounded_channel();
    let shared = Arc::clone(shared);
    let thread = std::thread::Builder::new()
        .name(format!("evenflow-{id}"))
        .spawn(move || {
            if let Err(error) = crate::worker::run(workers, shared, receiver) {
                eprintln!("evenflow: worker {id} could not start: {error}");
            }
        })
        .map_err(internal)?;
    Ok(Handle {
        commands,
        thread: Some(thread),
    })
}

type Control = (oneshot::Sender<()>, JoinHandle<()>);

/// The control thread: probes, and the end of ejections.
fn start_control(shared: &Arc<Shared>) -> Result<(Prober, Control), EngineError> {
    let sink = Arc::clone(shared);
    let (prober, work) = Prober::new(move |result| sink.events.push(Event::Probe(result)));
    let (stop, mut stopped) = oneshot::channel();
    let shared = Arc::clone(shared);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(internal)?;
    let thread = std::thread::Builder::new()
        .name("evenflow-control".into())
        .spawn(move || {
            runtime.block_on(async move {
                let probing = tokio::spawn(work);
                let mut ticks = tokio::time::interval(TICK);
                ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                while stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
                    ticks.tick().await;
                    end_ejections(&shared);
                }
                probing.abort();
            });
        })
        .map_err(internal)?;
    Ok((prober, (stop, thread)))
}

fn end_ejections(shared: &Shared) {
    let now = shared.now_ms();
    let mut ejected = shared
        .ejected
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    ejected.retain(|(endpoint, pool)| {
        let over = endpoint.ejected_until_ms.load(Ordering::Acquire) <= now;
        if over {
            endpoint.forget_failures();
            endpoint.flag(EJECTED, false);
            pool.ejected.fetch_sub(1, Ordering::AcqRel);
            pool.room.notify_waiters();
            shared.events.push(Event::Returned {
                pool: endpoint.pool.clone(),
                backend: endpoint.id.clone(),
            });
        }
        !over
    });
}

type NewSockets = Vec<(String, u32, String, Vec<Socket>)>;

/// Binds the addresses that no listener has yet.
fn bind_new(table: &Table, state: &State) -> Result<NewSockets, EngineError> {
    let mut sockets = NewSockets::new();
    if !state.accepting {
        return Ok(sockets);
    }
    for (index, listener) in table.listeners.iter().enumerate() {
        for (at, address) in listener.addresses.iter().enumerate() {
            let path = || format!("listeners[{index}].addresses[{at}]");
            let uid = listener.state.uid;
            if sockets.iter().any(|(taken, ..)| taken == address) {
                return Err(EngineError::new("plan", path(), "used twice"));
            }
            match state.bound.get(address) {
                Some((_, owner)) if *owner == uid => {}
                // Taken over from another listener: its sockets move without closing.
                _ => {
                    let taken = state.bound.contains_key(address);
                    if taken {
                        let message = "another listener of the running plan has this address; \
                                       remove that one first";
                        return Err(EngineError::new("bind", path(), message));
                    }
                    let (bound, new) =
                        listen::bind(address, state.workers.len()).map_err(|error| {
                            EngineError::new("bind", path(), format!("{address}: {error}"))
                        })?;
                    sockets.push((address.clone(), uid, bound, new));
                }
            }
        }
    }
    Ok(sockets)
}

/// Hands new sockets to the workers; every worker answers before any plan is published.
fn start_listening(
    workers: &[Handle],
    sockets: NewSockets,
) -> io::Result<HashMap<String, (String, u32)>> {
    let mut bound = HashMap::new();
    for (address, uid, name, sockets) in sockets {
        for (worker, socket) in workers.iter().zip(sockets) {
            let (done, answer) = oneshot::channel();
            let command = Command::Listen(address.clone(), uid, socket, done);
            let _ = worker.commands.send(command);
            wait(answer).unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))?;
        }
        bound.insert(address, (name, uid));
    }
    Ok(bound)
}

fn listeners_gone(table: &Table, state: &State) -> Vec<String> {
    let kept = |address: &String, uid: u32| {
        table
            .listeners
            .iter()
            .any(|l| l.state.uid == uid && l.addresses.contains(address))
    };
    let bound = state.bound.iter();
    bound
        .filter(|(address, (_, uid))| !kept(address, *uid))
        .map(|(address, _)| address.clone())
        .collect()
}

fn open_log(plan: &Plan, previous: &Table) -> Result<Option<Arc<AccessLog>>, EngineError> {
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

/// Asks every worker and waits for all; the answers that came.
fn ask_all<T>(workers: &[Handle], command: impl Fn(oneshot::Sender<T>) -> Command) -> Vec<T> {
    let answers: Vec<_> = workers
        .iter()
        .map(|worker| {
            let (done, answer) = oneshot::channel();
            let _ = worker.commands.send(command(done));
            answer
        })
        .collect();
    answers.into_iter().filter_map(wait).collect()
}

/// Waits for a worker's answer from a thread that is no worker.
fn wait<T>(mut answer: oneshot::Receiver<T>) -> Option<T> {
    let end = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(20);
    loop {
        match answer.try_recv() {
            Ok(value) => return Some(value),
            Err(oneshot::error::TryRecvError::Closed) => return None,
            Err(oneshot::error::TryRecvError::Empty) if Instant::now() >= end => return None,
            Err(oneshot::error::TryRecvError::Empty) => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(2));
            }
        }
    }
}

/// Compiles a plan without serving it: for fuzzing and benchmarks.
///
/// # Errors
/// Where the plan is wrong.
pub fn check(document: &[u8]) -> Result<Compiled, EngineError> {
    let plan: Plan = decode(document)?;
    Ok(table::compile(&plan, &mut Registry::default(), None)?)
}
