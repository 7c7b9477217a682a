//! Connections to endpoints: made, kept while idle, and taken again, per worker.

pub mod connect;
pub mod lease;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use evenflow_rules::member::ConnectionVersion;
use evenflow_rules::plan::Http;
use evenflow_rules::reason::Reason;
use evenflow_state::endpoint::Endpoint;
use evenflow_wire::http2::ALPN;
use evenflow_wire::proxy_protocol::AddressPair;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use rustc_hash::FxHashMap;

use crate::events::Event;
use crate::http2::links::Links;
use crate::lease::Lease;
use crate::proxied::push_header;
use crate::stream::Stream;
use crate::timer::Slot;
use crate::tls;
use crate::tls::stream::HandshakeError;
use crate::worker::Worker;

/// Idle connections of one worker, by endpoint; the one used last is taken first.
///
/// Every connection that was in use is kept, so that as many are there as were in use at once. As the
/// one used last is taken first, those at the bottom of a stack are the ones that were not needed for
/// longest: they close when their time is over, and the stack shrinks to what is in use.
#[derive(Debug)]
pub struct Idle {
    stacks: RefCell<FxHashMap<u32, Vec<IdleConnection>>>,
    /// How many are kept in all, and how many may be.
    kept: Cell<usize>,
    room: usize,
    /// Those of HTTP/2, which are kept while they are in use as well.
    pub links: Links,
}

/// How many idle connections one of so many workers may keep: together, half of the process's
/// descriptors.
fn room(workers: usize) -> usize {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    usize::try_from(soft).unwrap_or(usize::MAX) / 2 / workers.max(1)
}

#[derive(Debug)]
struct IdleConnection {
    stream: Stream,
    until_ms: u64,
    made: ConnectionVersion,
}

impl Idle {
    /// For one of so many workers.
    pub fn new(workers: usize) -> Self {
        Self {
            stacks: RefCell::default(),
            kept: Cell::new(0),
            room: room(workers),
            links: Links::default(),
        }
    }

    /// A connection made in this way that is still alive as far as can be told without a system call.
    pub fn take(&self, endpoint: u32, made: ConnectionVersion) -> Option<Stream> {
        let mut stacks = self.stacks.borrow_mut();
        let stack = stacks.get_mut(&endpoint)?;
        while let Some(mut kept) = stack.pop() {
            self.kept.update(|count| count - 1);
            if kept.made == made && kept.stream.is_quiet() {
                return Some(kept.stream);
            }
        }
        None
    }

    /// Keeps a connection for later.
    pub fn give(
        &self,
        endpoint: u32,
        made: ConnectionVersion,
        stream: Stream,
        max: Option<u32>,
        until_ms: u64,
    ) {
        if self.kept.get() >= self.room {
            return;
        }
        let mut stacks = self.stacks.borrow_mut();
        let stack = stacks.entry(endpoint).or_default();
        if max.is_none_or(|max| stack.len() < max as usize) {
            self.kept.update(|count| count + 1);
            stack.push(IdleConnection {
                stream,
                until_ms,
                made,
            });
        }
    }

    /// Closes all connections to an endpoint.
    pub fn forget(&self, endpoint: u32) {
        self.links.forget(endpoint);
        let stack = self.stacks.borrow_mut().remove(&endpoint);
        let closed = stack.map_or(0, |stack| stack.len());
        self.kept.update(|count| count - closed);
    }

    /// Closes what has been idle for too long or was closed by the other end.
    pub fn sweep(&self, now_ms: u64) {
        self.links.sweep(now_ms);
        let mut left = 0;
        self.stacks.borrow_mut().retain(|_, stack| {
            stack.retain_mut(|kept| kept.until_ms > now_ms && kept.stream.is_quiet());
            left += stack.len();
            !stack.is_empty()
        });
        self.kept.set(left);
    }

    /// How many connections to one endpoint wait.
    pub fn count(&self, endpoint: u32) -> usize {
        let stacks = self.stacks.borrow();
        stacks.get(&endpoint).map_or(0, Vec::len) + self.links.idle(endpoint)
    }

    /// How many are kept, by endpoint.
    pub fn counts(&self) -> Vec<(u32, usize)> {
        let stacks = self.stacks.borrow();
        let mut counts: FxHashMap<u32, usize> = stacks
            .iter()
            .map(|(uid, stack)| (*uid, stack.len()))
            .collect();
        for (uid, count) in self.links.counts() {
            *counts.entry(uid).or_default() += count;
        }
        counts.into_iter().collect()
    }
}

/// A new connection to an endpoint, until the slot's deadline, and counts it: it begins with a PROXY
/// header that tells the client's `ends` where the pool sends one, and is encrypted where the pool
/// says so. Where the endpoint speaks HTTP/2 it is one stream, and the connection may be another's;
/// `switching` asks for a connection of HTTP/1.1, which alone can switch protocols.
///
/// # Errors
/// Why there is none.
pub async fn reach(
    worker: &Worker,
    lease: &Lease,
    ends: impl FnOnce() -> Option<AddressPair>,
    slot: &Slot,
    switching: bool,
) -> Result<Stream, Reason> {
    let member = lease.member();
    let may_be_http2 = match member.http {
        Http::H1 => false,
        Http::H2 => true,
        Http::Auto => member.tls.is_some() && !switching,
    };
    if !may_be_http2 {
        return open_to(worker, lease, ends, slot, switching).await;
    }
    let links = &worker.idle.links;
    let (uid, made) = (member.endpoint.uid, member.made());
    let shared = lease.shares();
    let mut turn = None;
    if shared && (member.http == Http::H2 || links.knows(uid, made)) {
        match links.turn(uid, made, slot).await {
            None => return Err(Reason::ConnectTimeout),
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(own)) => turn = Some(own),
        }
    }
    let stream = open_to(worker, lease, ends, slot, false).await?;
    let agreed = stream.alpn() == Some(ALPN);
    if member.tls.is_some() && !agreed {
        return match member.http {
            Http::H2 => Err(Reason::UpstreamTls("The backend does not offer HTTP/2.")),
            Http::H1 | Http::Auto => Ok(stream),
        };
    }
    let rules = shared.then_some(&lease.pool().connections);
    let begun = links
        .begin(uid, made, (stream, &worker.buffers), rules, slot)
        .await;
    drop(turn);
    begun.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => Reason::ConnectTimeout,
        _ => Reason::ConnectFailed,
    })
}

/// A new connection of its own.
async fn open_to(
    worker: &Worker,
    lease: &Lease,
    ends: impl FnOnce() -> Option<AddressPair>,
    slot: &Slot,
    switching: bool,
) -> Result<Stream, Reason> {
    let member = lease.member();
    let started = Instant::now();
    let mut stream = connect(&member.endpoint, slot).await?;
    stream.set_keepalive(lease.pool().connections.tcp_keepalive_ms);
    if let Some(version) = lease.pool().send_proxy {
        let mut header = Vec::new();
        push_header(&mut header, version, ends());
        write(&mut stream, &header, slot).await?;
    }
    if let Some(tls) = &member.tls {
        stream = tls::connect::handshake(tls, stream, slot, &worker.buffers, switching)
            .await
            .map_err(|error| note_handshake(worker, lease, error.as_ref()))?;
    }
    let mut stats = worker.stats.borrow_mut();
    let stats = stats.endpoint(member.endpoint.uid);
    stats.connects += 1;
    stats.connect.record(started.elapsed().as_nanos() as u64);
    Ok(stream)
}

/// Counts a handshake that an endpoint failed, and tells it; the reason for the attempt's failure.
fn note_handshake(worker: &Worker, lease: &Lease, error: Option<&HandshakeError>) -> Reason {
    let endpoint = &lease.member().endpoint;
    let label = tls::connect::label(error);
    let mut stats = worker.stats.borrow_mut();
    stats.endpoint(endpoint.uid).count_tls_failure(label, 1);
    let events = &worker.shared.events;
    if events.may_tell_handshake(worker.coarse_ms.get()) {
        events.push(Event::HandshakeFailed {
            listener: None,
            pool: Some(endpoint.pool.clone()),
            backend: Some(endpoint.id.clone()),
            peer: endpoint.target.clone(),
            reason: label,
            detail: match error {
                Some(HandshakeError::Tls(error)) => error.to_string(),
                _ => String::new(),
            },
        });
    }
    error.map_or(Reason::ConnectTimeout, |error| {
        Reason::UpstreamTls(tls::connect::explain_handshake(error))
    })
}

/// Whether an error says that this machine lacks descriptors or memory for a socket, whoever it is
/// for.
pub fn is_ours(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)
    )
}

/// Connects, until the slot's deadline.
async fn connect(endpoint: &Endpoint, slot: &Slot) -> Result<Stream, Reason> {
    let addresses = endpoint.addresses.load_full();
    let mut connecting = pin!(connect::connect(&addresses, &endpoint.preferred));
    let connected = poll_fn(|cx| {
        if slot.fired() {
            return Poll::Ready(Err(Reason::ConnectTimeout));
        }
        connecting.as_mut().poll(cx).map_err(|error| match error {
            error if is_ours(&error) => Reason::NoSocket,
            _ => Reason::ConnectFailed,
        })
    })
    .await?;
    Ok(connected.into())
}

async fn write(stream: &mut Stream, bytes: &[u8], slot: &Slot) -> Result<(), Reason> {
    let mut written = 0;
    poll_fn(|cx| {
        while written < bytes.len() {
            if slot.fired() {
                return Poll::Ready(Err(Reason::ConnectTimeout));
            }
            let slice = [io::IoSlice::new(&bytes[written..])];
            match stream.poll_write_vectored(cx, &slice) {
                Poll::Ready(Ok(count)) if count > 0 => written += count,
                Poll::Ready(_) => return Poll::Ready(Err(Reason::ConnectFailed)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    })
    .await
}
