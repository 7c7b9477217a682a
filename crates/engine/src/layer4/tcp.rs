//! Layer 4: a client's bytes go to an endpoint and back as they are.

use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use evenflow_rules::filters::RequestView;
use evenflow_rules::filters::context::FilterContext;
use evenflow_rules::key::hash_key;
use evenflow_rules::picker::Tried;
use evenflow_rules::reason::Reason;
use evenflow_state::stats::ErrorKind;
use evenflow_wire::client_hello::{self, ClientHello};
use evenflow_wire::http1::head::RequestHead;
use evenflow_wire::proxy_protocol::AddressPair;

use crate::acceptor::{ConnectionGuard, ListenerHandle};
use crate::access_log::Record;
use crate::admit::admit_connection;
use crate::both_ways::BothWays;
use crate::buffer::{Buffer, HEAD_BYTES};
use crate::connection::{ClientWatch, Connection};
use crate::lease::{self, Lease};
use crate::stream::Stream;
use crate::tls::accept;
use crate::upstream::reach;
use crate::worker::{PanicWatch, Worker};

/// Serves one client to its end.
pub async fn serve(
    worker: Rc<Worker>,
    stream: Stream,
    proxied: Option<Box<AddressPair>>,
    door: ListenerHandle,
    counted: ConnectionGuard,
) {
    let _watch = PanicWatch::new(&worker);
    let slot = worker.timer.own_slot().await;
    let peer = proxied.as_ref().map_or_else(
        || stream.peer_ip(),
        |ends| Some(ends.source.ip().to_canonical()),
    );
    let mut connection = Connection {
        worker: Rc::clone(&worker),
        stream,
        slot,
        buffer: Buffer::default(),
        peer,
        door,
        identity: None,
        tunnel: None,
        proxied,
        watch: ClientWatch::Reset,
    };
    // Holds the connection's places until it ends.
    // Its permits are held until the connection ends.
    let mut filter_context = FilterContext::default();
    if !admit(&connection, &mut filter_context)
        || connection.stream.is_tls() && !Box::pin(accept::handshake(&mut connection)).await
    {
        return;
    }
    let _active = worker.enter();
    session(&mut connection).await;
    drop(counted);
}

/// Whether the listener's filters let the connection in; nothing was read or sent before.
fn admit(connection: &Connection, context: &mut FilterContext) -> bool {
    let worker = &connection.worker;
    let table = worker.table();
    let Some(listener) = table.listener(connection.door.get()) else {
        return false;
    };
    let no_head = RequestHead::default();
    let view = RequestView {
        client: connection.peer,
        head: &no_head,
        base: b"",
        now_ns: worker.shared.now_ns(),
        route: 0,
        secure: connection.stream.is_tls(),
    };
    let short_of_memory = worker.is_short_of_memory();
    if short_of_memory {
        let mut stats = worker.stats.borrow_mut();
        *stats.errors.entry(Reason::MemoryFull.label()).or_default() += 1;
    }
    let admitted = !short_of_memory && admit_connection(listener, &view, context, &worker.notes);
    if !admitted {
        listener.state.rejected.fetch_add(1, Ordering::Relaxed);
    }
    admitted
}

async fn session(connection: &mut Connection) {
    let worker = Rc::clone(&connection.worker);
    let table = worker.table();
    let Some(listener) = table.listener(connection.door.get()) else {
        return;
    };
    let started = Instant::now();
    let mut outcome = SessionOutcome::default();
    let mut name = String::new();
    let pool = match &listener.passthrough {
        None => listener.pool,
        Some(rules) => match await_hello(connection, listener.timeouts.head_ms).await {
            Ok(hello) => {
                let pool = rules.pool(&hello).or(listener.pool);
                name = hello.server_name.unwrap_or_default();
                pool
            }
            Err(reason) => {
                outcome.reason = Some(reason);
                None
            }
        },
    };
    let Some(pool) = pool else {
        outcome.reason.get_or_insert(Reason::NoRoute);
        listener.state.rejected.fetch_add(1, Ordering::Relaxed);
        let told = SessionDetails {
            client: connection.peer,
            version: "TCP",
            lease: None,
            name: &name,
            attempts: 0,
            started,
        };
        return record(&worker, &told, &outcome);
    };
    let rules = &table.pools[pool];
    worker.fund_pool_retries(rules);
    let hash = rules
        .picker
        .key()
        .map_or(0, |key| hash_key(key, None, connection.peer));
    let mut tried = Tried::default();
    let mut attempts = 0;
    let connected = loop {
        let lease =
            match lease::acquire(connection, &table, pool, (hash, None), &tried, u64::MAX).await {
                Ok(lease) => lease,
                Err(reason) => {
                    // What went wrong with the last one tells more than that there is no other.
                    outcome.reason.get_or_insert(reason);
                    break None;
                }
            };
        attempts += 1;
        match open(connection, &lease).await {
            Ok(upstream) => break Some((lease, upstream)),
            Err(reason) => {
                lease.failed(&worker, ErrorKind::Connect, reason);
                outcome.reason = Some(reason);
                if reason == Reason::NoSocket
                    || attempts > listener.retries.max
                    || !worker.spend_pool_retry(rules)
                {
                    break None;
                }
                rules.state.retries[0].fetch_add(1, Ordering::Relaxed);
                tried.add(lease.index);
                drop(lease);
            }
        }
        if rules.all_tried(&tried) {
            // Nobody else is left: the same ones again.
            tried = Tried::default();
        }
        if listener.retries.delay_ms > 0
            && let Err(reason) = connection.pause(listener.retries.delay_ms).await
        {
            outcome.reason = Some(reason);
            break None;
        }
    };
    let lease = match connected {
        Some((lease, upstream)) => {
            let drain_ms = listener.timeouts.drain_ms;
            outcome = both_ways(connection, upstream, &lease, drain_ms).await;
            lease.count_bytes(&worker, outcome.up, outcome.down);
            Some(lease)
        }
        None => None,
    };
    let told = SessionDetails {
        client: connection.peer,
        version: "TCP",
        lease: lease.as_ref(),
        name: &name,
        attempts,
        started,
    };
    record(&worker, &told, &outcome);
}

/// Reads until it is known what a TLS client asks for. The bytes stay in the buffer.
async fn await_hello(connection: &mut Connection, within_ms: u64) -> Result<ClientHello, Reason> {
    let worker = Rc::clone(&connection.worker);
    connection.slot.arm(worker.coarse_ms.get() + within_ms);
    connection.buffer = worker.buffers.take(HEAD_BYTES);
    loop {
        let read = poll_fn(|cx| {
            if connection.slot.fired() || worker.draining.get() {
                return Poll::Ready(Err(Reason::HeadTimeout));
            }
            let read = connection.stream.poll_read(cx, connection.buffer.spare());
            read.map_err(|_| Reason::ClientGone)
        })
        .await?;
        if read == 0 {
            return Err(Reason::ClientGone);
        }
        connection.buffer.end += read;
        let parsed = client_hello::parse(connection.buffer.bytes());
        if let Some(hello) = parsed.map_err(Reason::BadClientHello)? {
            return Ok(hello);
        }
    }
}

/// What became of a session: bytes from the client, bytes to it, and what ended it early.
#[derive(Debug, Default)]
pub struct SessionOutcome {
    /// From the client.
    pub up: u64,
    /// To the client.
    pub down: u64,
    /// Why it did not end by itself.
    pub reason: Option<Reason>,
}

/// What a session's record says besides.
#[derive(Debug)]
pub struct SessionDetails<'a> {
    /// Whose it was.
    pub client: Option<IpAddr>,
    /// The protocol.
    pub version: &'static str,
    /// The endpoint, where one was found.
    pub lease: Option<&'a Lease>,
    /// The server that a TLS client asked for.
    pub name: &'a str,
    /// Endpoints tried.
    pub attempts: u32,
    /// When it began.
    pub started: Instant,
}

async fn open(connection: &Connection, lease: &Lease) -> Result<Stream, Reason> {
    let worker = &connection.worker;
    let deadline = worker.coarse_ms.get() + lease.member().connect_timeout_ms;
    connection.slot.arm(deadline);
    let reached = reach(worker, lease, || connection.ends(), &connection.slot, false);
    let stream = Box::pin(reached).await?;
    lease.succeeded(worker);
    Ok(stream)
}

/// Relays until both sides have ended. An end of one side is passed on while the other goes on; that
/// of the second is told by closing, unless TLS has a word for it.
async fn both_ways(
    connection: &mut Connection,
    mut upstream: Stream,
    lease: &Lease,
    drain_ms: u64,
) -> SessionOutcome {
    let worker = Rc::clone(&connection.worker);
    // What was looked at of a TLS client goes first.
    let seen = std::mem::take(&mut connection.buffer);
    let mut ways = BothWays::new(seen, Vec::new(), Buffer::default());
    let idle_ms = lease.member().idle_timeout_ms;
    let mut moved_at = worker.coarse_ms.get();
    let mut drained_at = u64::MAX;
    let reason = poll_fn(|cx| {
        let (client, server) = (&mut connection.stream, &mut upstream);
        let polled = ways.poll(cx, &worker.buffers, client, server);
        if polled.is_ready() {
            return polled;
        }
        let now = worker.coarse_ms.get();
        if ways.has_moved() {
            moved_at = now;
        }
        if worker.draining.get() && drained_at == u64::MAX {
            drained_at = now + drain_ms;
        }
        let idle_at = match idle_ms {
            0 => u64::MAX,
            idle => moved_at + idle,
        };
        if now >= idle_at.min(drained_at) {
            return Poll::Ready(Some(if now >= drained_at {
                Reason::TunnelDrained
            } else {
                Reason::UpstreamTimeout
            }));
        }
        connection.slot.arm(idle_at.min(drained_at));
        Poll::Pending
    })
    .await;
    let (up, down) = ways.received();
    ways.give_back(&worker.buffers);
    SessionOutcome { up, down, reason }
}

/// Counts a session and writes its access record.
pub fn record(worker: &Worker, told: &SessionDetails<'_>, outcome: &SessionOutcome) {
    let (lease, latency_ns) = (told.lease, told.started.elapsed().as_nanos() as u64);
    {
        let mut stats = worker.stats.borrow_mut();
        if let Some(lease) = lease {
            let endpoint = stats.endpoint(lease.member().endpoint.uid);
            endpoint.requests += 1;
            endpoint.total.record(latency_ns);
        }
        if let Some(reason) = outcome.reason {
            *stats.errors.entry(reason.label()).or_default() += 1;
        }
    }
    worker.log(&Record {
        time_ns: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as u64)
            .saturating_sub(latency_ns),
        request_id: b"",
        client: told.client,
        method: b"",
        host: told.name.as_bytes(),
        target: b"",
        version: told.version,
        status: 0,
        bytes_sent: outcome.down,
        bytes_received: outcome.up,
        route: "",
        pool: lease.map_or("", |lease| &lease.pool().name),
        backend_id: lease.map_or("", |lease| &lease.member().endpoint.id),
        user: b"",
        attempts: told.attempts,
        hedge: "",
        latency_ns,
        reason: outcome.reason.map_or("", Reason::label),
        user_agent: b"",
        referer: b"",
    });
}
