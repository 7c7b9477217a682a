//! Where connections come in: the sockets that a worker listens on, the bounds on how many may be
//! open, and who serves them.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use evenflow_rules::plan::Protocol;
use evenflow_rules::reason::Reason;
use evenflow_rules::table::Listener;
use evenflow_state::concurrency::Permit;
use evenflow_state::limiter::client_key;
use evenflow_state::listener::ListenerState;
use evenflow_wire::proxy_protocol::AddressPair;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;

use crate::stream::Stream;
use crate::tls::accept;
use crate::udp::DatagramSocket;
#[cfg(feature = "fault-injection")]
use crate::worker::PanicAt;
use crate::worker::{Socket, Worker};

/// The part of an IPv6 address that one host usually has to itself.
const CLIENT_PREFIX: u8 = 64;

/// The number of the listener that a socket accepts for. Connections hold it as well, so that they
/// move with the socket when a plan gives its address to another listener.
pub type ListenerHandle = Rc<Cell<u32>>;

/// A listening socket of one worker, and the task that accepts on it.
#[derive(Debug)]
pub struct Acceptor {
    entry: Entry,
    task: Option<JoinHandle<()>>,
}

/// What the accepting task works with.
#[derive(Debug, Clone)]
struct Entry {
    socket: Rc<Listening>,
    door: ListenerHandle,
}

#[derive(Debug)]
enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
    Udp(Rc<DatagramSocket>),
}

impl Acceptor {
    /// Takes a socket; nothing is accepted on it yet.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn new(socket: Socket) -> io::Result<Self> {
        let socket = match socket {
            Socket::Tcp(socket) => Listening::Tcp(TcpListener::from_std(socket)?),
            Socket::Unix(socket) => Listening::Unix(UnixListener::from_std(socket)?),
            Socket::Udp(socket) => Listening::Udp(Rc::new(DatagramSocket::new(socket)?)),
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
    pub async fn hold(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    /// Accepts for the listener of this number.
    pub fn serve(&mut self, worker: &Rc<Worker>, uid: u32) {
        self.entry.door.set(uid);
        let worker = Rc::clone(worker);
        self.task = Some(if let Listening::Udp(desk) = &*self.entry.socket {
            let desk = Rc::clone(desk);
            let begin = move |worker| Rc::clone(&desk).serve(worker, uid);
            tokio::task::spawn_local(unending(worker, begin))
        } else {
            let entry = self.entry.clone();
            let begin = move |worker| accept_all(worker, entry.clone());
            tokio::task::spawn_local(unending(worker, begin))
        });
    }

    /// Accepts no more, and serves what the kernel has accepted already. Sessions of datagrams go on
    /// through the socket; whether there are any, which [`Self::close`] ends.
    pub async fn end(&mut self, worker: &Rc<Worker>) -> bool {
        self.hold().await;
        if let Listening::Udp(desk) = &*self.entry.socket {
            let go_on = desk.finish(worker);
            if go_on {
                let served = Rc::clone(desk).serve_last(Rc::clone(worker));
                self.task = Some(tokio::task::spawn_local(served));
            }
            return go_on;
        }
        self.entry.empty(worker).await;
        false
    }

    /// Whether nothing is served any more.
    pub fn is_done(&self) -> bool {
        self.task.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Whether it keeps the port from another socket for datagrams.
    pub fn has_port(&self, port: u16) -> bool {
        matches!(&*self.entry.socket, Listening::Udp(desk) if desk.port() == port)
    }

    /// Ends what goes on after [`Self::end`].
    pub async fn close(&mut self, worker: &Worker) {
        self.hold().await;
        if let Listening::Udp(desk) = &*self.entry.socket {
            desk.close(worker);
        }
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

/// Runs a task that must not end by one client's panic: it begins anew, and the panic is counted.
async fn unending<F: Future<Output = ()>>(worker: Rc<Worker>, begin: impl Fn(Rc<Worker>) -> F) {
    loop {
        let mut task = Box::pin(begin(Rc::clone(&worker)));
        let panicked = poll_fn(|cx| {
            let polled = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(cx)));
            polled.map_or(Poll::Ready(true), |polled| polled.map(|()| false))
        });
        if !panicked.await {
            return;
        }
        worker.panicked();
    }
}

/// Accepts connections for as long as the socket is the worker's.
async fn accept_all(worker: Rc<Worker>, entry: Entry) {
    loop {
        if let Some(state) = full(&worker, entry.door.get()) {
            wait_for_room(&worker, &state, entry.door.get()).await;
            continue;
        }
        match entry.accept().await {
            Ok(stream) => {
                #[cfg(feature = "fault-injection")]
                worker.inject(PanicAt::Accept);
                serve(&worker, stream, &entry.door);
            }
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
pub struct ConnectionGuard(Arc<ListenerState>, Option<Permit>);

impl ConnectionGuard {
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

    /// Counts it among its client's, and rejects it where there is room for no more. A trusted proxy
    /// has many clients behind it.
    pub fn of_client(
        &mut self,
        worker: &Worker,
        listener: &Listener,
        client: impl FnOnce() -> Option<IpAddr>,
    ) -> bool {
        let max = listener.limits.client_connections;
        let trusted = listener.trusted.as_ref();
        let counted = |client: &IpAddr| trusted.is_none_or(|trusted| !trusted.permits(*client));
        let Some(client) = (max != 0).then(client).flatten().filter(counted) else {
            return true;
        };
        self.1 = self.0.clients.enter(client_key(client, CLIENT_PREFIX), max);
        if self.1.is_none() {
            self.reject(worker, Reason::ClientConnections);
        }
        self.1.is_some()
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
        if self.0.full.load(Ordering::Acquire) {
            self.0.full.store(false, Ordering::Release);
            self.0.room.notify_waiters();
        }
    }
}

fn serve(worker: &Rc<Worker>, stream: Stream, door: &ListenerHandle) {
    let table = worker.table();
    let Some(listener) = table.listener(door.get()) else {
        return;
    };
    let counted = ConnectionGuard::new(&listener.state);
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
    proxied: Option<Box<AddressPair>>,
    door: &ListenerHandle,
    mut counted: ConnectionGuard,
) {
    let client = || match &proxied {
        Some(ends) => Some(ends.source.ip()),
        None => stream.peer_ip(),
    };
    if !counted.of_client(worker, listener, client) {
        return;
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
