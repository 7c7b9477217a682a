//! UDP: a client's datagrams go to one endpoint, and what it answers goes back.
//!
//! A session is one client address at one address of a listener. It has a socket of its own,
//! connected to the endpoint, so that the kernel sorts the answers and tells of closed ports. It
//! ends when nothing moved for too long, when as many answers came as are expected, or when its
//! endpoint is out of service; the client's next datagram begins another one. A listener that is
//! taken away begins none any more, and lets those that there are go on to their ends.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use evenflow_rules::filters::RequestView;
use evenflow_rules::filters::context::FilterContext;
use evenflow_rules::key::hash_key;
use evenflow_rules::picker::Tried;
use evenflow_rules::reason::Reason;
use evenflow_rules::table::Listener;
use evenflow_state::address::Address;
use evenflow_state::endpoint::{EJECTED, GONE, UP};
use evenflow_state::stats::ErrorKind;
use evenflow_wire::http1::head::RequestHead;
use rustc_hash::FxHashMap;
use socket2::SockRef;
use tokio::io::{Interest, ReadBuf};
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use crate::acceptor::ConnectionGuard;
use crate::admit::admit_connection;
use crate::buffer::{BODY_BYTES, Buffer};
use crate::lease::{self, Lease};
use crate::tcp::{SessionDetails, SessionOutcome, record};
use crate::timer::Slot;
use crate::worker::{PanicWatch, Worker};

mod local;

use local::Peer;

/// Datagrams that are served yet when their listener ends.
const LAST_DATAGRAMS: usize = 4096;
/// Larger datagrams are not kept to be sent again.
const KEPT_BYTES: usize = 4096;

/// One worker's socket of a listener, and who speaks through it.
#[derive(Debug)]
pub struct DatagramSocket {
    /// `None` once it is given up.
    socket: RefCell<Option<Rc<UdpSocket>>>,
    /// The port it has.
    port: u16,
    sessions: RefCell<FxHashMap<Peer, Rc<Session>>>,
    /// The listener's number.
    uid: Cell<u32>,
    /// No session begins any more.
    ending: Cell<bool>,
    /// The last session is over.
    idle: Notify,
}

#[derive(Debug)]
struct Session {
    peer: Peer,
    upstream: UdpSocket,
    lease: Lease,
    slot: Slot,
    idle_ms: u64,
    /// How long it may go on when all is to end.
    drain_ms: u64,
    /// Times on the engine's clock.
    idle_at: Cell<u64>,
    drained_at: Cell<u64>,
    /// How many answers one datagram has; 0 is any number.
    answers: u32,
    /// Answers still to come.
    expected: Cell<u64>,
    up: Cell<u64>,
    down: Cell<u64>,
    /// Another session has taken its place.
    over: Cell<bool>,
    /// The datagram sent last, which may be empty, until something comes back: where the port turns
    /// out to be closed, another endpoint gets it.
    last: RefCell<Vec<u8>>,
    unanswered: Cell<bool>,
    /// Endpoints that did not take it; `None` when these were enough.
    tried: Option<Tried>,
    held: RefCell<Option<SessionGuards>>,
}

/// What counts a client's session, and its places among what may be in flight; the session that
/// goes on elsewhere takes them over.
type SessionGuards = (ConnectionGuard, FilterContext);

impl DatagramSocket {
    /// A desk at a bound socket.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let bound = socket.local_addr()?;
        local::ask(&socket, bound.ip())?;
        Ok(Self {
            socket: RefCell::new(Some(Rc::new(UdpSocket::from_std(socket)?))),
            port: bound.port(),
            sessions: RefCell::default(),
            uid: Cell::new(0),
            ending: Cell::new(false),
            idle: Notify::new(),
        })
    }

    /// The port it has.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn socket(&self) -> Option<Rc<UdpSocket>> {
        self.socket.borrow().clone()
    }

    /// Takes clients' datagrams for as long as the socket is the worker's.
    pub async fn serve(self: Rc<Self>, worker: Rc<Worker>, uid: u32) {
        self.uid.set(uid);
        let Some(socket) = self.socket() else { return };
        let (mut datagram, mut room) = (vec![0; BODY_BYTES], local::room());
        loop {
            let receive = || local::receive(&*socket, &mut datagram, &mut room);
            match socket.async_io(Interest::READABLE, receive).await {
                Ok((size, peer)) => self.take(&worker, peer, &datagram[..size]),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Begins no session after those of datagrams that are here already; whether there are any.
    pub fn finish(self: &Rc<Self>, worker: &Rc<Worker>) -> bool {
        let (mut datagram, mut room) = (vec![0; BODY_BYTES], local::room());
        if let Some(socket) = self.socket() {
            for _ in 0..LAST_DATAGRAMS {
                match local::receive(&*socket, &mut datagram, &mut room) {
                    Ok((size, peer)) => self.take(worker, peer, &datagram[..size]),
                    Err(_) => break,
                }
            }
        }
        self.ending.set(true);
        !self.sessions.borrow().is_empty()
    }

    /// Serves the sessions that there are, until the last one is over.
    pub async fn serve_last(self: Rc<Self>, worker: Rc<Worker>) {
        let mut over = pin!(self.idle.notified());
        let mut serving = pin!(Rc::clone(&self).serve(worker, self.uid.get()));
        poll_fn(|cx| {
            let _ = serving.as_mut().poll(cx);
            over.as_mut().poll(cx)
        })
        .await;
        self.socket.take();
    }

    /// Ends all sessions at once: another listener wants the port.
    pub fn close(&self, worker: &Worker) {
        self.socket.take();
        worker.timer.wake_all();
    }

    fn take(self: &Rc<Self>, worker: &Rc<Worker>, peer: Peer, data: &[u8]) {
        let known = self.sessions.borrow().get(&peer).map(Rc::clone);
        let session = match known {
            Some(session) if session.serves() => Some(session),
            known => self.open(worker, peer, Tried::default(), known.as_deref()),
        };
        if let Some(session) = session {
            session.send(worker, data);
        }
    }

    /// Sends what a closed port did not take to another endpoint.
    fn again(self: &Rc<Self>, worker: &Rc<Worker>, session: &Session) {
        let Some(mut tried) = session.tried.filter(|_| session.unanswered.take()) else {
            return;
        };
        tried.add(session.lease.index);
        if let Some(next) = self.open(worker, session.peer, tried, Some(session)) {
            next.send(worker, &session.last.borrow());
        }
    }

    /// Begins a session, in the place of one `before` or where nothing speaks against it; that is
    /// counted.
    fn open(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        peer: Peer,
        tried: Tried,
        before: Option<&Session>,
    ) -> Option<Rc<Session>> {
        let table = worker.table();
        let may_begin = before.is_some() || !self.ending.get();
        let listener = table.listener(self.uid.get()).filter(|_| may_begin)?;
        let ip = peer.client.ip().to_canonical();
        let held = before.and_then(Session::end);
        let held = held.or_else(|| admit(worker, listener, ip))?;
        let counted = &held.0;
        let pool = listener.pool?;
        let rules = &table.pools[pool];
        let key = rules.picker.key();
        let hash = key.map_or(0, |key| hash_key(key, None, Some(ip)));
        let acquired = lease::try_acquire(worker, &table, pool, hash, &tried);
        let Ok(mut lease) = acquired else {
            counted.reject(worker, lease::none_of(worker, rules));
            return None;
        };
        let upstream = match reach(&lease) {
            Ok(upstream) => upstream,
            Err(reason) => {
                lease.failed(worker, ErrorKind::Connect, reason);
                counted.reject(worker, reason);
                return None;
            }
        };
        lease.settle();
        let session = Rc::new(Session {
            peer,
            upstream,
            lease,
            slot: worker.timer.slot(),
            idle_ms: listener.timeouts.idle_ms,
            drain_ms: listener.timeouts.drain_ms,
            idle_at: Cell::new(u64::MAX),
            drained_at: Cell::new(u64::MAX),
            answers: listener.answers,
            expected: Cell::new(0),
            up: Cell::new(0),
            down: Cell::new(0),
            over: Cell::new(false),
            last: RefCell::default(),
            unanswered: Cell::new(false),
            tried: (tried.len() < listener.retries.max as usize).then_some(tried),
            held: RefCell::new(Some(held)),
        });
        let mut sessions = self.sessions.borrow_mut();
        sessions.insert(peer, Rc::clone(&session));
        let (desk, worker) = (Rc::clone(self), Rc::clone(worker));
        tokio::task::spawn_local(run(desk, worker, Rc::clone(&session)));
        Some(session)
    }
}

/// Counts a session in where filters let it and there is room for it.
fn admit(worker: &Worker, listener: &Listener, client: IpAddr) -> Option<SessionGuards> {
    let head = RequestHead::default();
    let view = RequestView {
        client: Some(client),
        head: &head,
        base: b"",
        now_ns: worker.shared.now_ns(),
        route: 0,
        secure: false,
    };
    let mut context = FilterContext::default();
    if !admit_connection(listener, &view, &mut context, &worker.notes) {
        listener.state.rejected.fetch_add(1, Ordering::Relaxed);
        return None;
    }
    let mut counted = ConnectionGuard::new(&listener.state);
    let max = listener.limits.connections;
    if max != 0 && listener.state.connections.load(Ordering::Acquire) > max {
        counted.reject(worker, Reason::SessionsFull);
        return None;
    }
    let room = counted.of_client(worker, listener, || Some(client));
    room.then_some((counted, context))
}

impl Session {
    /// Ends it, and hands its places on.
    fn end(&self) -> Option<SessionGuards> {
        self.over.set(true);
        self.slot.fire();
        self.held.take()
    }

    /// Whether more datagrams may go this way.
    fn serves(&self) -> bool {
        let endpoint = &self.lease.member().endpoint;
        let healthy = endpoint.has(UP) && !endpoint.has(EJECTED);
        !self.over.get()
            && !endpoint.has(GONE)
            && (healthy || self.lease.pool().looks_past_health())
    }

    /// Ends it at this time, if nothing moves before and it need not end earlier.
    fn arm(&self, idle_at: u64) {
        self.idle_at.set(idle_at);
        self.slot.arm(idle_at.min(self.drained_at.get()));
    }

    fn send(&self, worker: &Worker, data: &[u8]) {
        self.arm(worker.coarse_ms.get() + self.idle_ms);
        let keep = data.len() <= KEPT_BYTES;
        if keep {
            let mut last = self.last.borrow_mut();
            last.clear();
            last.extend_from_slice(data);
        }
        self.unanswered.set(keep);
        let sending = SockRef::from(&self.upstream);
        // The first error is what came back to an earlier datagram, the second this one's own. Where
        // the socket is full it is lost, as on any crowded way.
        if sending.send(data).or_else(|_| sending.send(data)).is_ok() {
            self.up.update(|bytes| bytes + data.len() as u64);
            let more = u64::from(self.answers);
            self.expected.update(|expected| expected + more);
        }
    }

    /// Passes answers on until the session is over, and says why.
    fn poll(
        &self,
        cx: &mut Context<'_>,
        desk: &DatagramSocket,
        worker: &Worker,
    ) -> Poll<Option<Reason>> {
        if worker.draining.get() && self.drained_at.get() == u64::MAX {
            self.drained_at.set(worker.coarse_ms.get() + self.drain_ms);
            self.arm(self.idle_at.get());
        }
        let mut buffer = Buffer::default();
        let why = loop {
            if self.over.get() {
                break Poll::Ready(None);
            }
            let Some(socket) = desk.socket() else {
                break Poll::Ready(None);
            };
            if self.upstream.poll_recv_ready(cx).is_pending() {
                break Poll::Pending;
            }
            if buffer.size() == 0 {
                buffer = worker.buffers.take(BODY_BYTES);
            }
            let mut room = ReadBuf::new(buffer.spare());
            match self.upstream.poll_recv(cx, &mut room) {
                Poll::Pending => break Poll::Pending,
                Poll::Ready(Err(_)) => break Poll::Ready(Some(Reason::ConnectFailed)),
                Poll::Ready(Ok(())) => {
                    let data = room.filled();
                    let _ = local::answer(&*socket, data, self.peer);
                    self.down.update(|bytes| bytes + data.len() as u64);
                    self.expected.update(|expected| expected.saturating_sub(1));
                    self.lease.succeeded(worker);
                    self.unanswered.set(false);
                    if self.answers != 0 && self.expected.get() == 0 {
                        break Poll::Ready(None);
                    }
                    self.arm(worker.coarse_ms.get() + self.idle_ms);
                }
            }
        };
        worker.buffers.give(buffer);
        if why.is_pending() && self.slot.fired() {
            // Answers that are missing: the endpoint's silence, or the end of all.
            let reason = if worker.coarse_ms.get() >= self.drained_at.get() {
                Reason::TunnelDrained
            } else {
                Reason::UpstreamTimeout
            };
            return Poll::Ready((self.expected.get() > 0).then_some(reason));
        }
        why
    }
}

/// A socket connected to the session's endpoint.
fn reach(lease: &Lease) -> Result<UdpSocket, Reason> {
    let addresses = lease.member().endpoint.addresses.load();
    let Some(Address::Ip(address)) = addresses.first() else {
        return Err(Reason::ConnectFailed);
    };
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // Without descriptors or ports left there is none, whichever endpoint it is for.
    let socket = std::net::UdpSocket::bind(any).map_err(|_| Reason::NoSocket)?;
    socket.connect(address).map_err(|_| Reason::ConnectFailed)?;
    socket.set_nonblocking(true).map_err(|_| Reason::NoSocket)?;
    UdpSocket::from_std(socket).map_err(|_| Reason::NoSocket)
}

/// What a client's datagrams find: the session, until this is dropped.
struct Registered<'s>(&'s DatagramSocket, &'s Rc<Session>);

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let Self(desk, session) = self;
        session.over.set(true);
        let mut sessions = desk.sessions.borrow_mut();
        let same = |other: &Rc<Session>| Rc::ptr_eq(other, session);
        if sessions.get(&session.peer).is_some_and(same) {
            sessions.remove(&session.peer);
        }
    }
}

async fn run(desk: Rc<DatagramSocket>, worker: Rc<Worker>, session: Rc<Session>) {
    let started = Instant::now();
    let _watch = PanicWatch::new(&worker);
    let active = worker.enter();
    let registered = Registered(&desk, &session);
    session.slot.follow().await;
    // A closed port is told as an error, which wakes no reader.
    let mut failing = pin!(session.upstream.ready(Interest::ERROR));
    let reason = poll_fn(|cx| {
        while failing.as_mut().poll(cx).is_ready() {
            if !matches!(session.upstream.take_error(), Ok(None)) {
                return Poll::Ready(Some(Reason::ConnectFailed));
            }
            let stale = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            let _ = session.upstream.try_io(Interest::ERROR, stale);
            failing.set(session.upstream.ready(Interest::ERROR));
        }
        session.poll(cx, &desk, &worker)
    })
    .await;
    drop(active);
    drop(registered);
    let lease = &session.lease;
    match reason {
        // The end of all is nobody's fault.
        None | Some(Reason::TunnelDrained) => {}
        Some(Reason::UpstreamTimeout) => {
            lease.failed(&worker, ErrorKind::Timeout, Reason::UpstreamTimeout);
        }
        Some(reason) => {
            lease.failed(&worker, ErrorKind::Connect, reason);
            desk.again(&worker, &session);
        }
    }
    if desk.ending.get() && desk.sessions.borrow().is_empty() {
        desk.idle.notify_one();
    }
    let outcome = SessionOutcome {
        up: session.up.get(),
        down: session.down.get(),
        reason,
    };
    lease.count_bytes(&worker, outcome.up, outcome.down);
    let told = SessionDetails {
        client: Some(session.peer.client.ip().to_canonical()),
        version: "UDP",
        lease: Some(lease),
        name: "",
        attempts: 1,
        started,
    };
    record(&worker, &told, &outcome);
}
