//! After a switch of protocols (WebSocket and others) bytes go both ways as they are, until one end
//! has enough, nothing moved for too long, or what the tunnel stands on was taken away.
//!
//! A tunnel may outlive many plans and is idle most of the time, so it keeps no table and no buffer
//! of its request: what its record needs is written down when it opens.

use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use evenflow_rules::plan::Upgrade;
use evenflow_rules::reason::Reason;
use evenflow_state::concurrency::Permit;
use evenflow_state::endpoint::GONE;
use evenflow_state::stats::TunnelStats;
use evenflow_wire::field::Span;
use evenflow_wire::http1::encode::{self, Delivery};

use crate::access_log::Record;
use crate::answer;
use crate::both_ways::BothWays;
use crate::buffer::{BODY_BYTES, Buffer};
use crate::call::Upstream;
use crate::connection::{Connection, origin_of};
use crate::exchange::RequestContext;
use crate::lease::Lease;
use crate::record::{self, AccessRecord};
use crate::stream::Stream;
use crate::worker::{Scratch, Worker};

/// A connection that has switched protocols, and its way to the endpoint.
#[derive(Debug)]
pub struct Tunnel {
    upstream: Stream,
    ways: BothWays,
    /// Bytes counted so far: up, down.
    counted: (u64, u64),
    lease: Lease,
    rules: Upgrade,
    /// Times on the engine's clock: when it was opened, when a byte last moved, and when it must
    /// end because of what was taken away.
    opened_at: u64,
    moved_at: u64,
    drained_at: u64,
    /// The number of the table that it was last held against.
    generation: u64,
    request: Request,
    /// Its places among what may be in flight.
    _permits: Vec<Permit>,
}

/// What a tunnel's record says of the request that opened it.
#[derive(Debug)]
struct Request {
    route: u32,
    route_name: Arc<str>,
    started: Instant,
    id: Box<[u8]>,
    client: Option<IpAddr>,
    method: Box<[u8]>,
    host: Box<[u8]>,
    target: Box<[u8]>,
    user_agent: Box<[u8]>,
    referer: Box<[u8]>,
    user: Box<[u8]>,
    attempts: u32,
}

fn after(now: u64, span: u64) -> u64 {
    if span == 0 { u64::MAX } else { now + span }
}

/// Makes a tunnel of a connection whose endpoint has agreed to switch. It is counted here and
/// recorded at its end.
pub fn open(
    connection: &mut Connection,
    context: &RequestContext<'_>,
    scratch: &mut Scratch,
    noted: &mut AccessRecord,
    mut lease: Lease,
    mut upstream: Upstream,
) {
    let worker = Rc::clone(&connection.worker);
    let Some((index, route)) = context.route else {
        return;
    };
    let Some(rules) = route.upgrade else { return };
    let (head, response) = (&scratch.request, &scratch.response);
    noted.status = response.status;
    lease.succeeded(&worker);
    let latency_ns = noted.started.elapsed().as_nanos() as u64;
    record::count(
        connection,
        context,
        scratch,
        noted,
        Some(&lease),
        latency_ns,
    );

    let base = connection.buffer.bytes();
    let mut out = worker.buffers.take_out();
    let delivery = Delivery {
        version_10: false,
        keep_alive: true,
        chunked: false,
    };
    let bytes = upstream.buffer.bytes();
    let edits = &context.listener.chains[index].edits;
    let cors = edits.cors.is_some();
    encode::response_head(&mut out, response, bytes, delivery, &edits.response, cors);
    answer::cross_origin(&mut out, edits, head, base);
    let protocol = response.upgrade.map_or(&b""[..], |span| span.get(bytes));
    encode::push_upgrade(&mut out, protocol);
    out.extend_from_slice(b"\r\n");
    // As large as it is and no larger: it stays as long as the tunnel.
    let lead = out.as_slice().to_vec();
    worker.buffers.give_out(out);
    upstream.buffer.consume(response.len);

    let origin = origin_of(connection, context, head);
    let text = |span: Span| Box::from(span.get(base));
    let request = Request {
        route: route.uid,
        route_name: Arc::clone(&route.name),
        started: noted.started,
        id: encode::request_id(head, base, &origin).into(),
        client: origin.client,
        method: text(head.method),
        host: text(head.host),
        target: text(head.target),
        user_agent: answer::field(head, base, b"user-agent").into(),
        referer: answer::field(head, base, b"referer").into(),
        user: scratch.filter_context.user.as_slice().into(),
        attempts: noted.attempts,
    };
    let early = &base[head.len..];
    let mut first = Buffer::default();
    if !early.is_empty() {
        first = worker.buffers.take(BODY_BYTES);
        first.extend(early);
    }
    let spent = std::mem::take(&mut connection.buffer);
    worker.buffers.give(spent);

    lease.settle();
    let now = worker.coarse_ms.get();
    let permits = std::mem::take(&mut scratch.filter_context.permits);
    connection.tunnel = Some(Box::new(Tunnel {
        ways: BothWays::new(first, lead, upstream.buffer),
        upstream: upstream.stream,
        counted: (0, 0),
        lease,
        rules,
        opened_at: now,
        moved_at: now,
        drained_at: u64::MAX,
        generation: worker.generation(),
        request,
        _permits: permits,
    }));
}

/// Counts a tunnel as open for as long as it lives.
struct Open {
    worker: Rc<Worker>,
    route: u32,
}

impl Open {
    fn new(worker: &Rc<Worker>, route: u32) -> Self {
        let mut stats = worker.stats.borrow_mut();
        let tunnels = stats.tunnels.entry(route).or_default();
        tunnels.active += 1;
        tunnels.opened += 1;
        Self {
            worker: Rc::clone(worker),
            route,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // Borrowed only where a panic unwinds through the counting itself.
        if let Ok(mut stats) = self.worker.stats.try_borrow_mut() {
            stats.tunnels.entry(self.route).or_default().active -= 1;
        }
    }
}

/// Relays until the tunnel's end.
pub async fn run(connection: &mut Connection) {
    let Some(mut tunnel) = connection.tunnel.take() else {
        return;
    };
    let worker = Rc::clone(&connection.worker);
    let _active = worker.enter();
    let open = Open::new(&worker, tunnel.request.route);
    let reason = poll_fn(|cx| tunnel.poll(cx, connection)).await;
    poll_fn(|cx| {
        // Encrypted streams are told of the end, as far as that needs no waiting.
        let _ = connection.stream.poll_shutdown(cx);
        let _ = tunnel.upstream.poll_shutdown(cx);
        Poll::Ready(())
    })
    .await;
    drop(open);
    tunnel.record(&worker, reason);
    tunnel.ways.give_back(&worker.buffers);
}

impl Tunnel {
    /// Moves what can be moved; ready with the reason for an end that was nobody's wish.
    fn poll(&mut self, cx: &mut Context<'_>, connection: &mut Connection) -> Poll<Option<Reason>> {
        let worker = Rc::clone(&connection.worker);
        let polled = self.ways.poll(
            cx,
            &worker.buffers,
            &mut connection.stream,
            &mut self.upstream,
        );
        let now = worker.coarse_ms.get();
        if self.ways.has_moved() {
            self.moved_at = now;
            self.count(&worker);
        }
        if polled.is_ready() {
            return polled;
        }
        self.follow_plan(&worker, connection.door.get(), now);
        let idle_at = after(self.moved_at, self.rules.idle_ms);
        let expires_at = after(self.opened_at, self.rules.max_ms);
        let end = idle_at.min(expires_at).min(self.drained_at);
        if now >= end {
            return Poll::Ready(Some(if now >= self.drained_at {
                Reason::TunnelDrained
            } else if now >= expires_at {
                Reason::TunnelExpired
            } else {
                Reason::TunnelIdle
            }));
        }
        connection.slot.arm(end);
        Poll::Pending
    }

    /// Takes a new plan's bounds over, or sets the end when the plan has taken something away or all
    /// is to end.
    fn follow_plan(&mut self, worker: &Worker, listener: u32, now: u64) {
        let gone = self.lease.member().endpoint.has(GONE);
        let mut stands = !gone && !worker.draining.get();
        let generation = worker.generation();
        if generation != self.generation {
            self.generation = generation;
            let table = worker.table();
            let rules = table.route(self.request.route).and_then(|r| r.upgrade);
            match rules.filter(|_| table.listener(listener).is_some()) {
                Some(rules) => self.rules = rules,
                None => stands = false,
            }
        }
        if !stands && self.drained_at == u64::MAX {
            self.drained_at = now + self.rules.drain_ms;
        }
    }

    fn stats(&self, worker: &Worker, change: impl FnOnce(&mut TunnelStats)) {
        let mut stats = worker.stats.borrow_mut();
        change(stats.tunnels.entry(self.request.route).or_default());
    }

    /// Counts what moved since it was last counted.
    fn count(&mut self, worker: &Worker) {
        let (up, down) = self.ways.received();
        let (more_up, more_down) = (up - self.counted.0, down - self.counted.1);
        self.counted = (up, down);
        self.stats(worker, |stats| {
            stats.bytes_received += more_up;
            stats.bytes_sent += more_down;
        });
        self.lease.count_bytes(worker, more_up, more_down);
    }

    fn record(&self, worker: &Worker, reason: Option<Reason>) {
        if let Some(reason) = reason {
            let mut stats = worker.stats.borrow_mut();
            *stats.errors.entry(reason.label()).or_default() += 1;
        }
        let sample = worker.table().access_sample;
        if reason.is_none() && sample < 1.0 && fastrand::f64() >= sample {
            return;
        }
        let request = &self.request;
        let (up, down) = self.ways.received();
        let latency_ns = request.started.elapsed().as_nanos() as u64;
        worker.log(&Record {
            time_ns: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_nanos() as u64)
                .saturating_sub(latency_ns),
            request_id: &request.id,
            client: request.client,
            method: &request.method,
            host: &request.host,
            target: &request.target,
            version: "HTTP/1.1",
            status: 101,
            bytes_sent: down,
            bytes_received: up,
            route: &request.route_name,
            pool: &self.lease.pool().name,
            backend_id: &self.lease.member().endpoint.id,
            user: &request.user,
            attempts: request.attempts,
            hedge: "",
            latency_ns,
            reason: reason.map_or("", Reason::label),
            user_agent: &request.user_agent,
            referer: &request.referer,
        });
    }
}
