//! One worker: a thread with a single-threaded runtime, its own listening sockets, upstream
//! connections, buffers and counters. Workers share the table, endpoint states and limiters only.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use evenflow_rules::compile::Removed;
use evenflow_rules::filters::context::FilterContext;
use evenflow_rules::filters::fleet::{Counts, FleetUsage};
use evenflow_rules::pool::{LivePool, Pool};
use evenflow_rules::table::Route;
use evenflow_state::endpoint::Endpoint;

use evenflow_state::stats::{EndpointStats, Stats};
use evenflow_wire::http1::head::{RequestHead, ResponseHead};
use rustc_hash::{FxBuildHasher, FxHashMap};
use tokio::sync::oneshot;

use crate::access_log::{AccessLog, CHUNK, LogBuffer, Record};
use crate::buffer::Buffers;
use crate::clock::Clock;
use crate::events::Events;
use crate::memory::{Account, MemoryBudget, Pressure};
use crate::published::Published;
use crate::timer::Timer;
use crate::upstream::Idle;

/// A worker's hold on the table. Requests clone the `Rc`, which no other worker sees; cloning the
/// `Arc` would pass its counter's cache line around between all of them.
#[allow(clippy::redundant_allocation)]
pub type Current = Rc<Arc<Published>>;

/// What all workers see.
#[derive(Debug)]
pub struct Shared {
    /// The table in force.
    pub table: ArcSwap<Published>,
    /// Raised with every table; workers compare it and rarely touch `table` itself.
    pub generation: AtomicU64,
    /// What Python is told.
    pub events: Events,
    /// The engine's clock.
    pub clock: Arc<Clock>,
    /// Endpoints set aside by passive health, until their time is over.
    pub ejected: Mutex<Vec<(Arc<Endpoint>, Arc<LivePool>)>>,
    /// The bytes that buffers of all workers may hold.
    pub memory: Arc<MemoryBudget>,
    /// What went wrong with each worker.
    pub faults: Box<[Faults]>,
}

/// A worker's programming errors since the engine started.
#[derive(Debug, Default)]
pub struct Faults {
    /// The worker began anew.
    pub restarts: AtomicU64,
    /// A task panicked: one connection or request was lost, or accepting began anew.
    pub panics: AtomicU64,
}

impl Shared {
    /// The exact time in nanoseconds.
    pub fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// The exact time in milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }
}

/// A socket ready to accept, as the engine hands it to a worker.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// Unix.
    Unix(std::os::unix::net::UnixListener),
    /// UDP.
    Udp(std::net::UdpSocket),
}

impl Socket {
    /// Another descriptor of the same socket.
    ///
    /// # Errors
    /// What the system says against it.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(socket) => Self::Tcp(socket.try_clone()?),
            Self::Unix(socket) => Self::Unix(socket.try_clone()?),
            Self::Udp(socket) => Self::Udp(socket.try_clone()?),
        })
    }
}

/// What the engine asks of a worker. Each answer says that it has been done.
#[derive(Debug)]
pub enum Command {
    /// Take this socket, under this number; nothing is accepted on it yet.
    Listen(u64, Socket, oneshot::Sender<io::Result<()>>),
    /// Accept no more on this socket for now: what comes waits in the kernel's queue.
    Hold(u64, oneshot::Sender<()>),
    /// Accept on this socket for the listener of this number, which the table has.
    Serve(u64, u32, oneshot::Sender<()>),
    /// Empty this socket's accept queue and close it; one for datagrams when its sessions are over.
    Unlisten(u64, oneshot::Sender<()>),
    /// Close the sockets for datagrams at this port that only wait for their sessions' ends.
    Vacate(u16, oneshot::Sender<()>),
    /// Close the idle connections to these endpoints.
    Forget(Arc<[u32]>),
    /// Look at the table again, and forget this; connections of listeners that are gone close when
    /// idle.
    Refresh(Arc<Removed>, oneshot::Sender<()>),
    /// A copy of all numbers; those of endpoints since they were last handed over.
    Snapshot(oneshot::Sender<Stats>),
    /// How many requests there were.
    Requests(oneshot::Sender<u64>),
    /// Takes what passed limits of the fleet, and how much of it was not noted.
    TakePassed(oneshot::Sender<(Counts, u64)>),
    /// A copy of one endpoint's numbers since they were last handed over, and how many idle connections it has.
    Numbers(u32, oneshot::Sender<(EndpointStats, usize)>),
    /// Finish what is in flight; keep no connection. Answers how many are left.
    Drain(oneshot::Sender<usize>),
    /// Drop everything.
    Stop,
    /// Panic at this place, for tests of what follows.
    #[cfg(feature = "fault-injection")]
    Panic(PanicAt),
}

/// Where a test makes a worker panic.
#[cfg(feature = "fault-injection")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PanicAt {
    /// While it obeys a command.
    Command,
    /// In the task that watches all deadlines.
    Sweep,
    /// In the task that accepts connections, at the next one.
    Accept,
    /// In the task of the next request.
    Request,
}

/// Parsed heads, reused from request to request.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The request's.
    pub request: RequestHead,
    /// The response's.
    pub response: ResponseHead,
    /// What filters left behind.
    pub filter_context: FilterContext,
}

/// Tries that may be made besides a request's first.
#[derive(Debug, Default)]
pub struct Budget {
    /// So many.
    pub tokens: f64,
    filled_ms: u64,
}

/// A request or session in flight, however it ends.
#[derive(Debug)]
pub struct Active(Rc<Worker>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.update(|active| active - 1);
    }
}

/// Counts the panic of the task that holds it.
#[derive(Debug)]
pub struct PanicWatch(Rc<Worker>);

impl PanicWatch {
    /// Watches the task that holds it.
    pub fn new(worker: &Rc<Worker>) -> Self {
        Self(Rc::clone(worker))
    }
}

impl Drop for PanicWatch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.panicked();
        }
    }
}

/// The state of one worker, used from its own thread only.
#[derive(Debug)]
pub struct Worker {
    id: usize,
    /// How many workers there are.
    pub workers: usize,
    /// What all workers see.
    pub shared: Arc<Shared>,
    table: RefCell<Current>,
    generation: Cell<u64>,
    /// The engine's clock, for the time of the last sweep of any worker: good enough for deadlines,
    /// and free.
    pub coarse_ms: Arc<Clock>,
    swept_ms: Cell<u64>,
    /// All deadlines.
    pub timer: Rc<Timer>,
    /// All buffers.
    pub buffers: Rc<Buffers>,
    /// Idle upstream connections.
    pub idle: Idle,
    /// Endpoints that no table has any more, while something is in flight there.
    leaving: RefCell<Vec<Arc<Endpoint>>>,
    /// Counters.
    pub stats: RefCell<Stats>,
    /// Boxed, so that a task holds a pointer and not the heads themselves.
    #[allow(clippy::vec_box)]
    scratch: RefCell<Vec<Box<Scratch>>>,
    /// How many of these nobody has needed since the last trim.
    spare_scratch: Cell<usize>,
    /// Of retries by pool, and of hedges by route.
    pub budgets: RefCell<FxHashMap<u32, Budget>>,
    /// Retries left of routes with a budget of their own that had some.
    route_retries: RefCell<FxHashMap<u32, f64>>,
    log: RefCell<Option<(Arc<AccessLog>, LogBuffer)>>,
    date: RefCell<(u64, String)>,
    /// No connection is kept after its request.
    pub draining: Cell<bool>,
    /// Copies of requests under way.
    pub mirrored: Cell<u32>,
    /// Requests and TCP sessions in flight.
    pub active: Cell<usize>,
    /// What passed limits of the fleet.
    pub notes: FleetUsage,
    /// Where a test wants a panic next.
    #[cfg(feature = "fault-injection")]
    pub panics_at: Cell<Option<PanicAt>>,
}

impl Worker {
    /// A worker that has done nothing yet.
    pub fn new(id: usize, workers: usize, shared: Arc<Shared>) -> Self {
        let table = Rc::new(shared.table.load_full());
        let buffers = Buffers::new(Account::new(Arc::clone(&shared.memory)));
        Self {
            id,
            workers,
            generation: Cell::new(shared.generation.load(Ordering::Acquire)),
            swept_ms: Cell::new(shared.clock.advance()),
            coarse_ms: Arc::clone(&shared.clock),
            shared,
            table: RefCell::new(table),
            timer: Rc::default(),
            buffers: Rc::new(buffers),
            idle: Idle::new(workers),
            leaving: RefCell::default(),
            stats: RefCell::default(),
            scratch: RefCell::default(),
            spare_scratch: Cell::new(0),
            budgets: RefCell::default(),
            route_retries: RefCell::default(),
            log: RefCell::default(),
            date: RefCell::default(),
            draining: Cell::new(false),
            mirrored: Cell::new(0),
            active: Cell::new(0),
            notes: FleetUsage::default(),
            #[cfg(feature = "fault-injection")]
            panics_at: Cell::default(),
        }
    }

    /// The worker that goes on counting where this one died. What was open then is open no more.
    pub fn successor(&self) -> Self {
        let successor = Self::new(self.id, self.workers, Arc::clone(&self.shared));
        let mut stats = self.stats.take();
        for tunnels in stats.tunnels.values_mut() {
            tunnels.active = 0;
        }
        successor.stats.replace(stats);
        successor.draining.set(self.draining.get());
        successor
    }

    /// Counts a task's panic.
    pub fn panicked(&self) {
        let panics = &self.shared.faults[self.id].panics;
        panics.fetch_add(1, Ordering::Relaxed);
    }

    /// Panics where a test wants it to.
    #[cfg(feature = "fault-injection")]
    pub fn inject(&self, at: PanicAt) {
        if self.panics_at.get() == Some(at) {
            self.panics_at.set(None);
            panic!("injected into {at:?}");
        }
    }

    /// The table in force.
    pub fn table(&self) -> Current {
        let generation = self.shared.generation.load(Ordering::Acquire);
        if generation != self.generation.get() {
            self.generation.set(generation);
            let table = Rc::new(self.shared.table.load_full());
            self.switch_log(&table);
            *self.table.borrow_mut() = table;
        }
        Rc::clone(&self.table.borrow())
    }

    /// The number of the table in force.
    pub fn generation(&self) -> u64 {
        drop(self.table());
        self.generation.get()
    }

    fn switch_log(&self, table: &Published) {
        let mut log = self.log.borrow_mut();
        let same = match (&*log, &table.access_log) {
            (Some((old, _)), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        if !same {
            if let Some((_, buffer)) = &mut *log {
                buffer.flush();
            }
            *log = table
                .access_log
                .as_ref()
                .map(|new| (Arc::clone(new), new.buffer()));
        }
    }

    /// Counts a request or session as in flight for as long as the guard lives.
    pub fn enter(self: &Rc<Self>) -> Active {
        self.active.update(|active| active + 1);
        Active(Rc::clone(self))
    }

    /// Heads to parse into.
    pub fn take_scratch(&self) -> Box<Scratch> {
        let mut shelf = self.scratch.borrow_mut();
        let scratch = shelf.pop().unwrap_or_default();
        self.spare_scratch
            .set(self.spare_scratch.get().min(shelf.len()));
        scratch
    }

    /// Gives them back.
    pub fn give_scratch(&self, scratch: Box<Scratch>) {
        self.scratch.borrow_mut().push(scratch);
    }

    /// Writes an access record.
    pub fn log(&self, record: &Record<'_>) {
        if let Some((_, buffer)) = &mut *self.log.borrow_mut() {
            buffer.record(record);
            if buffer.len() > CHUNK {
                buffer.flush();
            }
        }
    }

    /// A live request adds its share to the route's and the pool's retry budgets.
    pub fn fund_retries(&self, route: &Route, pool: &Pool) {
        if let Some(share) = route.retries.budget
            && let Some(tokens) = self.route_retries.borrow_mut().get_mut(&route.uid)
        {
            *tokens = (*tokens + share).min(self.saved_retries(share));
        }
        self.fund_pool_retries(pool);
    }

    /// A live request or session adds its share to the pool's retry budget.
    pub fn fund_pool_retries(&self, pool: &Pool) {
        if pool.retry_budget > 0.0
            && let Some(budget) = self.budgets.borrow_mut().get_mut(&pool.state.uid)
        {
            budget.tokens = (budget.tokens + pool.retry_budget).min(MAX_RETRY_TOKENS);
        }
    }

    /// Takes one retry off the route's and the pool's budgets, if there is one left in both.
    pub fn spend_retry(&self, route: &Route, pool: &Pool) -> bool {
        let Some(share) = route.retries.budget else {
            return self.spend_pool_retry(pool);
        };
        let mut budgets = self.route_retries.borrow_mut();
        let saved = self.saved_retries(share);
        let tokens = budgets.entry(route.uid).or_insert(saved);
        if *tokens < 1.0 {
            let mut stats = self.stats.borrow_mut();
            stats.happened(route.uid, "retry_over_budget");
            return false;
        }
        let spent = self.spend_pool_retry(pool);
        *tokens -= f64::from(u8::from(spent));
        spent
    }

    /// The most retries that a route's quiet times save up here.
    fn saved_retries(&self, share: f64) -> f64 {
        if share > 0.0 {
            (MAX_SAVED / self.workers as f64).max(1.0)
        } else {
            0.0
        }
    }

    /// Takes one retry off the pool's budget, if there is one left.
    pub fn spend_pool_retry(&self, pool: &Pool) -> bool {
        let now = self.coarse_ms.get();
        let floor = match pool.retry_floor {
            0 => 0.0,
            floor => (f64::from(floor) / self.workers as f64).max(1.0),
        };
        let mut budgets = self.budgets.borrow_mut();
        let budget = budgets.entry(pool.state.uid).or_insert(Budget {
            tokens: floor,
            filled_ms: now,
        });
        let elapsed = now.saturating_sub(budget.filled_ms) as f64 / 1000.0;
        budget.filled_ms = now;
        if budget.tokens < floor {
            budget.tokens = (budget.tokens + elapsed * floor).min(floor);
        }
        if budget.tokens >= 1.0 {
            budget.tokens -= 1.0;
            return true;
        }
        pool.state
            .retries_over_budget
            .fetch_add(1, Ordering::Relaxed);
        false
    }

    /// The `Date` of now, made once a second.
    pub fn date(&self) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let mut date = self.date.borrow_mut();
        if date.0 != now || date.1.is_empty() {
            *date = (now, evenflow_wire::date::http_date(now));
        }
        date.1.clone()
    }

    /// Whether so much memory is in use that nothing new is to be served.
    pub fn is_short_of_memory(&self) -> bool {
        self.buffers.account().pressure() == Pressure::Refuse
    }

    /// Does what is to be done every [`crate::timer::SWEEP`].
    pub fn sweep(&self) {
        #[cfg(feature = "fault-injection")]
        self.inject(PanicAt::Sweep);
        let now = self.shared.clock.advance();
        let second = now / 1000 != self.swept_ms.replace(now) / 1000;
        self.timer.sweep(now);
        if second {
            self.idle.sweep(now);
            self.buffers.account().tell();
            self.forget_leaving();
            if (now / 1000).is_multiple_of(TRIM_EVERY_S) {
                self.buffers.trim();
                let mut shelf = self.scratch.borrow_mut();
                let needed = shelf.len() - self.spare_scratch.get();
                shelf.truncate(needed);
                self.spare_scratch.set(needed);
            }
        }
        drop(self.table());
        if let Some((_, buffer)) = &mut *self.log.borrow_mut() {
            buffer.flush();
        }
    }

    /// Forgets what belongs to endpoints, routes and pools that no table has any more.
    pub fn prune(&self, removed: &Removed) {
        self.leaving
            .borrow_mut()
            .extend_from_slice(&removed.endpoints);
        self.forget_leaving();
        for uid in &removed.budgets {
            self.budgets.borrow_mut().remove(uid);
        }
        let table = self.table();
        let mut stats = self.stats.borrow_mut();
        stats
            .tunnels
            .retain(|route, tunnels| tunnels.active > 0 || table.route(*route).is_some());
        if removed.routes.is_empty() {
            return;
        }
        for uid in &removed.routes {
            self.route_retries.borrow_mut().remove(uid);
            stats.routes.remove(uid);
        }
        stats
            .unserved
            .retain(|(route, _), _| !removed.routes.contains(route));
        for endpoint in stats.endpoints.values_mut() {
            endpoint
                .served
                .retain(|(route, _, _)| !removed.routes.contains(route));
        }
    }

    /// Forgets endpoints that no table has any more, until nothing is in flight there: what ends
    /// later still counts, and may leave a connection.
    fn forget_leaving(&self) {
        self.leaving.borrow_mut().retain(|endpoint| {
            let busy = endpoint.in_flight() > 0;
            self.idle.forget(endpoint.uid);
            self.stats.borrow_mut().endpoints.remove(&endpoint.uid);
            busy
        });
    }

    /// One endpoint's numbers here, and how many idle connections it has.
    pub fn numbers(&self, endpoint: u32) -> (EndpointStats, usize) {
        let stats = self.stats.borrow();
        let numbers = stats.endpoints.get(&endpoint);
        let idle = self.idle.count(endpoint);
        (
            numbers.map_or_else(EndpointStats::default, |known| (**known).clone()),
            idle,
        )
    }

    /// A copy of the numbers; those of endpoints are handed over, and counted from 0 again.
    pub fn snapshot(&self) -> Stats {
        self.buffers.account().tell();
        let mut own = self.stats.borrow_mut();
        let room = FxHashMap::with_capacity_and_hasher(own.endpoints.len(), FxBuildHasher);
        let endpoints = std::mem::replace(&mut own.endpoints, room);
        let mut stats = own.clone();
        stats.endpoints = endpoints;
        stats.idle = self.idle.counts();
        stats.busy_ns = thread_cpu_ns();
        stats
    }
}

/// How often large buffers that nobody needed are freed.
const TRIM_EVERY_S: u64 = 10;

/// The most retries a pool's live traffic can save up on one worker.
const MAX_RETRY_TOKENS: f64 = 1000.0;

/// The most retries that a route's quiet times save up, on all workers.
const MAX_SAVED: f64 = 10.0;

fn thread_cpu_ns() -> u64 {
    // The clock of the calling thread, read without unsafe code through procfs on Linux.
    #[cfg(target_os = "linux")]
    {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        text.split(' ')
            .next()
            .and_then(|first| first.parse().ok())
            .unwrap_or(0)
    }
    #[cfg(not(target_os = "linux"))]
    {
        0
    }
}
