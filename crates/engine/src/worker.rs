//! One worker: a thread with a single-threaded runtime, its own listening sockets, upstream
//! connections, buffers and counters. Workers share the table, endpoint states and limiters only.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustc_hash::FxHashMap;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::access_log::{AccessLog, CHUNK, LogBuffer, Record};
use crate::buffer::Buffers;
use crate::endpoint::Endpoint;
use crate::error::Reason;
use crate::events::Events;
use crate::filters::concurrency::Permit;
use crate::filters::limit::client_key;
use crate::filters::passed::Passed;
use crate::http1::head::{RequestHead, ResponseHead};
use crate::plan::Protocol;
use crate::proxy_protocol::Ends;
use crate::stats::{EndpointStats, Stats};
use crate::stream::Stream;
use crate::table::{Listener, ListenerState, Pool, PoolState, Table};
use crate::timer::{SWEEP, Timer};
use crate::tls::accept;
use crate::udp::Desk;
use crate::upstream::Idle;

/// A worker's hold on the table. Requests clone the `Rc`, which no other worker sees; cloning the
/// `Arc` would pass its counter's cache line around between all of them.
#[allow(clippy::redundant_allocation)]
pub type Current = Rc<Arc<Table>>;

/// What all workers see.
#[derive(Debug)]
pub struct Shared {
    /// The table in force.
    pub table: ArcSwap<Table>,
    /// Raised with every table; workers compare it and rarely touch `table` itself.
    pub generation: AtomicU64,
    /// What Python is told.
    pub events: Events,
    /// The beginning of the engine's clock.
    pub epoch: Instant,
    /// Endpoints set aside by passive health, until their time is over.
    pub ejected: Mutex<Vec<(Arc<Endpoint>, Arc<PoolState>)>>,
}

impl Shared {
    /// The engine's clock in nanoseconds. It starts above 0, which means never.
    pub fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64 + 1_000_000_000
    }

    /// The engine's clock in milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.now_ns() / 1_000_000
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

/// What the engine asks of a worker. Each answer says that it has been done.
#[derive(Debug)]
pub enum Command {
    /// Take this socket, under this number; nothing is accepted on it yet.
    Listen(u64, Socket, oneshot::Sender<io::Result<()>>),
    /// Accept no more on this socket for now: what comes waits in the kernel's queue.
    Hold(u64, oneshot::Sender<()>),
    /// Accept on this socket for the listener of this number, which the table has.
    Serve(u64, u32, oneshot::Sender<()>),
    /// Empty this socket's accept queue and close it.
    Unlisten(u64, oneshot::Sender<()>),
    /// Close the idle connections to these endpoints.
    Forget(Arc<[u32]>),
    /// Look at the table again; connections of listeners that are gone close when idle.
    Refresh(oneshot::Sender<()>),
    /// A copy of all numbers.
    Snapshot(oneshot::Sender<Stats>),
    /// How many requests there were.
    Requests(oneshot::Sender<u64>),
    /// A copy of one endpoint's numbers, and how many idle connections it has.
    Numbers(u32, oneshot::Sender<(EndpointStats, usize)>),
    /// Finish what is in flight; keep no connection. Answers how many are left.
    Drain(oneshot::Sender<usize>),
    /// Drop everything.
    Stop,
}

/// The number of the listener that a socket accepts for. Connections hold it as well, so that they
/// move with the socket when a plan gives its address to another listener.
pub type Door = Rc<Cell<u32>>;

/// Parsed heads, reused from request to request.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The request's.
    pub request: RequestHead,
    /// The response's.
    pub response: ResponseHead,
    /// What filters left behind.
    pub passed: Passed,
}

/// Tries that may be made besides a request's first.
#[derive(Debug, Default)]
pub struct Budget {
    /// So many.
    pub tokens: f64,
    filled_ms: u64,
}

/// The state of one worker, used from its own thread only.
#[derive(Debug)]
pub struct Worker {
    /// How many workers there are.
    pub workers: usize,
    /// What all workers see.
    pub shared: Arc<Shared>,
    table: RefCell<Current>,
    generation: Cell<u64>,
    /// The engine's clock as of the last sweep: good enough for deadlines, and free.
    pub coarse_ms: Cell<u64>,
    /// All deadlines.
    pub timer: Rc<Timer>,
    /// All buffers.
    pub buffers: Buffers,
    /// Idle upstream connections.
    pub idle: Idle,
    /// Counters.
    pub stats: RefCell<Stats>,
    /// Boxed, so that a task holds a pointer and not the heads themselves.
    #[allow(clippy::vec_box)]
    scratch: RefCell<Vec<Box<Scratch>>>,
    /// Of retries by pool, and of hedges by route.
    pub budgets: RefCell<FxHashMap<u32, Budget>>,
    log: RefCell<Option<(Arc<AccessLog>, LogBuffer)>>,
    date: RefCell<(u64, String)>,
    /// No connection is kept after its request.
    pub draining: Cell<bool>,
    /// Copies of requests under way.
    pub mirrored: Cell<u32>,
    /// Requests and TCP sessions in flight.
    pub active: Cell<usize>,
}

impl Worker {
    fn new(workers: usize, shared: Arc<Shared>) -> Self {
        let table = Rc::new(shared.table.load_full());
        Self {
            workers,
            generation: Cell::new(shared.generation.load(Ordering::Acquire)),
            coarse_ms: Cell::new(shared.now_ms()),
            shared,
            table: RefCell::new(table),
            timer: Rc::default(),
            buffers: Buffers::default(),
            idle: Idle::default(),
            stats: RefCell::default(),
            scratch: RefCell::default(),
            budgets: RefCell::default(),
            log: RefCell::default(),
            date: RefCell::default(),
            draining: Cell::new(false),
            mirrored: Cell::new(0),
            active: Cell::new(0),
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

    fn switch_log(&self, table: &Table) {
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

    /// Heads to parse into.
    pub fn take_scratch(&self) -> Box<Scratch> {
        self.scratch.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives them back.
    pub fn give_scratch(&self, scratch: Box<Scratch>) {
        let mut shelf = self.scratch.borrow_mut();
        if shelf.len() < 64 {
            shelf.push(scratch);
        }
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

    /// A live request adds its share to the pool's retry budget.
    pub fn fund_retries(&self, pool: &Pool) {
        if pool.retry_budget > 0.0
            && let Some(budget) = self.budgets.borrow_mut().get_mut(&pool.state.uid)
        {
            budget.tokens = (budget.tokens + pool.retry_budget).min(MAX_RETRY_TOKENS);
        }
    }

    /// Takes one retry off the pool's budget, if there is one left.
    pub fn spend_retry(&self, pool: &Pool) -> bool {
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
            *date = (now, crate::date::http_date(now));
        }
        date.1.clone()
    }

    fn sweep(&self) {
        let now = self.shared.now_ms();
        let second = now / 1000 != self.coarse_ms.get() / 1000;
        self.coarse_ms.set(now);
        self.timer.sweep(now);
        if second {
            self.idle.sweep(now);
            if (now / 1000).is_multiple_of(TRIM_EVERY_S) {
                self.buffers.trim();
            }
        }
        drop(self.table());
        if let Some((_, buffer)) = &mut *self.log.borrow_mut() {
            buffer.flush();
        }
    }

    /// Forgets what belongs to endpoints and routes that the table no longer has.
    fn prune(&self) {
        let table = self.table();
        let mut kept = HashSet::new();
        for pool in &table.pools {
            for member in pool.members.iter() {
                kept.insert(member.endpoint.uid);
            }
        }
        self.idle.retain(|uid| kept.contains(&uid));
        let mut stats = self.stats.borrow_mut();
        stats.endpoints.retain(|uid, _| kept.contains(uid));
        let routes: Vec<u32> = table.routes.iter().map(|route| route.uid).collect();
        stats
            .unserved
            .retain(|(route, _), _| *route == 0 || routes.contains(route));
        stats.routes.retain(|route, _| routes.contains(route));
        self.budgets.borrow_mut().retain(|uid, _| {
            routes.contains(uid) || table.pools.iter().any(|pool| pool.state.uid == *uid)
        });
        stats
            .tunnels
            .retain(|route, tunnels| tunnels.active > 0 || routes.contains(route));
        for endpoint in stats.endpoints.values_mut() {
            endpoint
                .served
                .retain(|(route, _, _)| *route == 0 || routes.contains(route));
        }
    }

    fn numbers(&self, endpoint: u32) -> (EndpointStats, usize) {
        let stats = self.stats.borrow();
        let numbers = stats.endpoints.get(&endpoint);
        let idle = self.idle.count(endpoint);
        (
            numbers.map_or_else(EndpointStats::default, |known| (**known).clone()),
            idle,
        )
    }

    fn snapshot(&self) -> Stats {
        let mut stats = self.stats.borrow().clone();
        stats.idle = self.idle.counts();
        stats.busy_ns = thread_cpu_ns();
        stats
    }
}

/// How often large buffers that nobody needed are freed.
const TRIM_EVERY_S: u64 = 10;

/// The part of an IPv6 address that one host usually has to itself.
const CLIENT_PREFIX: u8 = 64;

/// The most retries a pool's live traffic can save up on one worker.
const MAX_RETRY_TOKENS: f64 = 1000.0;

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

/// Runs a worker until it is told to stop.
pub fn run(
    workers: usize,
    shared: Arc<Shared>,
    mut commands: mpsc::UnboundedReceiver<Command>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        // How many tasks run between two looks at the sockets: under load more tasks share one
        // epoll_wait.
        .event_interval(61)
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(async move {
        let worker = Rc::new(Worker::new(workers, shared));
        let sweeper = {
            let worker = Rc::clone(&worker);
            tokio::task::spawn_local(async move {
                let mut ticks = tokio::time::interval(SWEEP);
                ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    worker.sweep();
                }
            })
        };
        let mut acceptors: HashMap<u64, Acceptor> = HashMap::new();
        while let Some(command) = commands.recv().await {
            match command {
                Command::Listen(number, socket, done) => {
                    let taken = Acceptor::new(socket).map(|acceptor| {
                        acceptors.insert(number, acceptor);
                    });
                    let _ = done.send(taken);
                }
                Command::Hold(number, done) => {
                    if let Some(acceptor) = acceptors.get_mut(&number) {
                        acceptor.hold().await;
                    }
                    let _ = done.send(());
                }
                Command::Serve(number, uid, done) => {
                    if let Some(acceptor) = acceptors.get_mut(&number) {
                        acceptor.serve(&worker, uid);
                    }
                    let _ = done.send(());
                }
                Command::Unlisten(number, done) => {
                    if let Some(mut acceptor) = acceptors.remove(&number) {
                        acceptor.hold().await;
                        acceptor.entry.empty(&worker).await;
                    }
                    let _ = done.send(());
                }
                Command::Forget(endpoints) => {
                    for endpoint in &*endpoints {
                        worker.idle.forget(*endpoint);
                    }
                }
                Command::Refresh(done) => {
                    worker.prune();
                    worker.timer.wake_all();
                    let _ = done.send(());
                }
                Command::Snapshot(reply) => {
                    let _ = reply.send(worker.snapshot());
                }
                Command::Requests(reply) => {
                    let _ = reply.send(worker.stats.borrow().methods.values().sum());
                }
                Command::Numbers(endpoint, reply) => {
                    let _ = reply.send(worker.numbers(endpoint));
                }
                Command::Drain(reply) => {
                    if !worker.draining.replace(true) {
                        worker.timer.wake_all();
                        tokio::task::yield_now().await;
                    }
                    let _ = reply.send(worker.active.get());
                }
                Command::Stop => break,
            }
        }
        worker.sweep();
        sweeper.abort();
    });
    runtime.shutdown_background();
    Ok(())
}

/// A listening socket of one worker, and the task that accepts on it.
#[derive(Debug)]
struct Acceptor {
    entry: Entry,
    task: Option<JoinHandle<()>>,
}

/// What the accepting task works with.
#[derive(Debug, Clone)]
struct Entry {
    socket: Rc<Listening>,
    door: Door,
}

#[derive(Debug)]
enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
    Udp(Rc<Desk>),
}

impl Acceptor {
    fn new(socket: Socket) -> io::Result<Self> {
        let socket = match socket {
            Socket::Tcp(socket) => Listening::Tcp(TcpListener::from_std(socket)?),
            Socket::Unix(socket) => Listening::Unix(UnixListener::from_std(socket)?),
            Socket::Udp(socket) => Listening::Udp(Rc::new(Desk::new(socket)?)),
        };
        Ok(Self {
            entry: Entry {
                socket: Rc::new(socket),
                door: Rc::default(),
            },
            task: None,
        })
    }

    /// Ends the accepting task; no connection is lost, since it serves what it has accepted.
    async fn hold(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    fn serve(&mut self, worker: &Rc<Worker>, uid: u32) {
        self.entry.door.set(uid);
        let worker = Rc::clone(worker);
        self.task = Some(match &*self.entry.socket {
            Listening::Udp(desk) => tokio::task::spawn_local(Rc::clone(desk).serve(worker, uid)),
            _ => tokio::task::spawn_local(accept(worker, self.entry.clone())),
        });
    }
}

impl Entry {
    async fn accept(&self) -> io::Result<Stream> {
        match &*self.socket {
            Listening::Tcp(socket) => socket.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
            Listening::Unix(socket) => socket
                .accept()
                .await
                .map(|(stream, _)| Stream::Unix(stream)),
            Listening::Udp(_) => std::future::pending().await,
        }
    }

    /// Serves the connections that the kernel has accepted already: closing the socket under them
    /// would reset them.
    async fn empty(&self, worker: &Rc<Worker>) {
        if let Listening::Udp(desk) = &*self.socket {
            return desk.close(worker);
        }
        loop {
            let accepted = poll_fn(|cx| {
                let polled = match &*self.socket {
                    Listening::Tcp(socket) => socket
                        .poll_accept(cx)
                        .map_ok(|(stream, _)| Stream::Tcp(stream)),
                    Listening::Unix(socket) => socket
                        .poll_accept(cx)
                        .map_ok(|(stream, _)| Stream::Unix(stream)),
                    Listening::Udp(_) => Poll::Pending,
                };
                Poll::Ready(match polled {
                    Poll::Ready(Ok(stream)) => Some(stream),
                    _ => None,
                })
            })
            .await;
            let Some(stream) = accepted else { return };
            serve(worker, stream, &self.door);
        }
    }
}

/// Accepts connections for as long as the socket is the worker's.
async fn accept(worker: Rc<Worker>, entry: Entry) {
    loop {
        if let Some(state) = full(&worker, entry.door.get()) {
            wait_for_room(&worker, &state, entry.door.get()).await;
            continue;
        }
        match entry.accept().await {
            Ok(stream) => serve(&worker, stream, &entry.door),
            // Out of descriptors or memory: the connection waits in the kernel's queue meanwhile.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

fn full(worker: &Worker, uid: u32) -> Option<Arc<ListenerState>> {
    let table = worker.table();
    let listener = table.listener(uid)?;
    let max = listener.limits.connections;
    (max != 0 && listener.state.connections.load(Ordering::Relaxed) >= max)
        .then(|| Arc::clone(&listener.state))
}

async fn wait_for_room(worker: &Worker, state: &Arc<ListenerState>, uid: u32) {
    let notified = state.room.notified();
    let mut notified = std::pin::pin!(notified);
    notified.as_mut().enable();
    state.full.store(true, Ordering::Release);
    if full(worker, uid).is_some() {
        // Also look again now and then, since a new plan may raise the bound.
        let _ = tokio::time::timeout(Duration::from_millis(200), notified).await;
    }
}

/// Counts a connection, and its client's share of them, for as long as it is open.
#[derive(Debug)]
pub struct Counted(Arc<ListenerState>, Option<Permit>);

impl Counted {
    /// Counts one more.
    pub fn new(state: &Arc<ListenerState>) -> Self {
        state.accepted.fetch_add(1, Ordering::Relaxed);
        state.connections.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(state), None)
    }

    /// Turns the connection away; its end tells that nothing was served.
    pub fn reject(&self, worker: &Worker, reason: Reason) {
        self.0.rejected.fetch_add(1, Ordering::Relaxed);
        let mut stats = worker.stats.borrow_mut();
        *stats.errors.entry(reason.label()).or_default() += 1;
    }

    /// Counts it among its client's, who may have room for no more. A trusted proxy has many
    /// clients behind it.
    pub fn of_client(&mut self, listener: &Listener, client: Option<IpAddr>) -> bool {
        let trusted = listener.trusted.as_ref();
        let counted = |client: &IpAddr| trusted.is_none_or(|trusted| !trusted.permits(*client));
        let Some(client) = client.filter(counted) else {
            return true;
        };
        let (key, max) = (
            client_key(client, CLIENT_PREFIX),
            listener.limits.client_connections,
        );
        self.1 = self.0.clients.enter(key, max);
        self.1.is_some()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
        if self.0.full.load(Ordering::Acquire) {
            self.0.full.store(false, Ordering::Release);
            self.0.room.notify_waiters();
        }
    }
}

fn serve(worker: &Rc<Worker>, stream: Stream, door: &Door) {
    let table = worker.table();
    let Some(listener) = table.listener(door.get()) else {
        return;
    };
    let counted = Counted::new(&listener.state);
    let proxied = listener.proxies.as_ref().is_some_and(|trusted| {
        let peer = stream.peer_ip();
        peer.is_none_or(|peer| trusted.permits(peer))
    });
    if !proxied {
        return speak(worker, listener, stream, None, door, counted);
    }
    let within_ms = listener.timeouts.head_ms;
    let (worker, door) = (Rc::clone(worker), Rc::clone(door));
    tokio::task::spawn_local(async move {
        let mut stream = stream;
        match crate::proxied::read_header(&worker, &mut stream, within_ms).await {
            Ok(ends) => {
                let table = worker.table();
                if let Some(listener) = table.listener(door.get()) {
                    let ends = ends.map(Box::new);
                    speak(&worker, listener, stream, ends, &door, counted);
                }
            }
            Err(reason) => counted.reject(&worker, reason),
        }
    });
}

fn speak(
    worker: &Rc<Worker>,
    listener: &Listener,
    stream: Stream,
    proxied: Option<Box<Ends>>,
    door: &Door,
    mut counted: Counted,
) {
    if listener.limits.client_connections != 0 {
        let client = match &proxied {
            Some(ends) => Some(ends.source.ip()),
            None => stream.peer_ip(),
        };
        if !counted.of_client(listener, client) {
            return counted.reject(worker, Reason::ClientConnections);
        }
    }
    let stream = match &listener.tls {
        None => Some(stream),
        Some(config) => accept::wrap(stream, config),
    };
    let Some(stream) = stream else { return };
    let (worker, door) = (Rc::clone(worker), Rc::clone(door));
    match listener.protocol {
        Protocol::Http => {
            let served = crate::exchange::serve(worker, stream, proxied, door, counted);
            tokio::task::spawn_local(served);
        }
        Protocol::Tcp | Protocol::Udp => {
            let served = crate::tcp::serve(worker, stream, proxied, door, counted);
            tokio::task::spawn_local(served);
        }
    }
}
