//! One request's life, its phases in order:
//!
//! read head → route → filters → (pick → connect → send → await head)* → relay → record
//!
//! A failed attempt re-enters at the pick when it may be repeated: nothing was sent, or the method
//! is idempotent, no byte of an answer came and the body can be sent again.

use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::access_log::Record;
use crate::answer::{self, Answer};
use crate::attempt::{Attempt, Failure, Upstream};
use crate::buffer::{Buffer, HEAD_BYTES};
use crate::error::Reason;
use crate::filters::{Edits, Refusal, Seen};
use crate::http1::encode::{self, Delivery, Origin};
use crate::http1::head::{Known, Length, RequestHead, Scan, scan};
use crate::lease::{self, Lease};
use crate::picker::Tried;
use crate::relay::{Broken, Relay, Waiting};
use crate::request_body::RequestBody;
use crate::stats::{ErrorKind, method_label};
use crate::stream::Stream;
use crate::table::{Listener, Route, Table};
use crate::timer::Slot;
use crate::worker::{Counted, Scratch, Worker};

/// How long bytes of a refused request are read and thrown away before the connection closes, so
/// that the client gets to see the answer and not a reset.
const LINGER_MS: u64 = 2_000;
/// How many such bytes at the most.
const LINGER_BYTES: usize = 1024 * 1024;

/// A client's connection.
#[derive(Debug)]
pub struct Connection {
    /// The worker that serves it.
    pub worker: Rc<Worker>,
    /// The socket.
    pub stream: Stream,
    /// Its deadline.
    pub slot: Slot,
    /// What was received and not used up yet.
    pub buffer: Buffer,
    /// The other end.
    pub peer: Option<IpAddr>,
    /// The listener's number.
    pub listener: u32,
}

/// What becomes of a connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Another request may follow.
    Keep,
    /// It closes in order, the client may still be sending.
    Close,
    /// Nobody is there any more.
    Drop,
}

/// What is noted of an exchange while it runs, for the record at its end.
#[derive(Debug)]
pub struct Noted {
    started: Instant,
    status: u16,
    reason: Option<Reason>,
    attempts: u32,
    sent: u64,
    received: u64,
}

/// Serves a client's connection to its end.
pub async fn serve(worker: Rc<Worker>, stream: Stream, listener: u32, counted: Counted) {
    let slot = worker.timer.slot();
    poll_fn(|cx| {
        slot.register(cx);
        Poll::Ready(())
    })
    .await;
    let peer = stream.peer_ip();
    let mut connection = Connection {
        worker,
        stream,
        slot,
        buffer: Buffer::default(),
        peer,
        listener,
    };
    loop {
        if connection.buffer.is_empty() && !connection.await_request().await {
            break;
        }
        let mut scratch = connection.worker.take_scratch();
        connection.worker.active.update(|active| active + 1);
        let next = exchange(&mut connection, &mut scratch).await;
        connection.worker.active.update(|active| active - 1);
        connection.worker.give_scratch(scratch);
        match next {
            Next::Keep => {}
            Next::Close => {
                connection.linger().await;
                break;
            }
            Next::Drop => break,
        }
    }
    let buffer = std::mem::take(&mut connection.buffer);
    connection.worker.buffers.give(buffer);
    drop(counted);
}

impl Connection {
    /// Waits, without a buffer, for the next request's first bytes. `false`: none will come.
    async fn await_request(&mut self) -> bool {
        let spent = std::mem::take(&mut self.buffer);
        self.worker.buffers.give(spent);
        let Some(idle_ms) = self.rules(|listener| listener.timeouts.idle_ms) else {
            return false;
        };
        self.slot.arm(self.worker.coarse_ms.get() + idle_ms);
        let ready = poll_fn(|cx| {
            if let Poll::Ready(ready) = self.stream.poll_read_ready(cx) {
                return Poll::Ready(ready.is_ok());
            }
            let over = self.slot.fired()
                || self.worker.draining.get()
                || self.rules(|_| ()).is_none();
            if over { Poll::Ready(false) } else { Poll::Pending }
        })
        .await;
        if ready {
            self.buffer = self.worker.buffers.take(HEAD_BYTES);
        }
        ready
    }

    /// Something of the listener's rules; `None` when the listener is gone.
    fn rules<T>(&self, get: impl FnOnce(&Listener) -> T) -> Option<T> {
        let table = self.worker.table();
        find_listener(&table, self.listener).map(get)
    }

    /// Closes in order: nothing more is written, what still comes is thrown away for a bounded
    /// time. Closing with unread input would reset the connection under the answer.
    async fn linger(&mut self) {
        self.slot.arm(self.worker.coarse_ms.get() + LINGER_MS);
        let mut discarded = 0;
        let mut shut = false;
        let mut sink = [0; 2048];
        poll_fn(|cx| {
            if !shut {
                match self.stream.poll_shutdown(cx) {
                    Poll::Ready(Ok(())) => shut = true,
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => {}
                }
            }
            loop {
                if self.slot.fired() || discarded > LINGER_BYTES || self.worker.draining.get() {
                    return Poll::Ready(());
                }
                match self.stream.poll_read(cx, &mut sink) {
                    Poll::Ready(Ok(count)) if count > 0 => discarded += count,
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
    }
}

fn find_listener(table: &Table, uid: u32) -> Option<&Listener> {
    table.listeners.iter().find(|l| l.state.uid == uid)
}

/// One request and its answer.
async fn exchange(connection: &mut Connection, scratch: &mut Scratch) -> Next {
    let table = connection.worker.table();
    let Some(listener) = find_listener(&table, connection.listener) else {
        return Next::Drop;
    };
    let mut noted = Noted {
        started: Instant::now(),
        status: 0,
        reason: None,
        attempts: 0,
        sent: 0,
        received: 0,
    };
    let id = make_request_id();
    match read_head(connection, listener, &mut scratch.request).await {
        Ok(true) => {}
        Ok(false) => return Next::Drop,
        Err(reason) => {
            scratch.request = RequestHead::default();
            connection.buffer.consume(connection.buffer.bytes().len());
            let next = refuse(connection, &scratch.request, &mut noted, reason, 0, &[], &id).await;
            record(connection, &table, listener, scratch, &noted, None, None, &id);
            return next;
        }
    }
    noted.started = Instant::now();
    let head = &scratch.request;
    let base = connection.buffer.bytes();
    let origin = origin_of(connection, listener, &table, head, &id);
    let client = origin.client;
    let seen = Seen {
        client,
        head,
        base,
        now_ns: noted
            .started
            .duration_since(connection.worker.shared.epoch)
            .as_nanos() as u64
            + 1_000_000_000,
    };
    let routed = route(&table, listener, &seen);
    let (next, route, lease) = match routed {
        Err((refusal, route)) => {
            let lines = answer::lines(listener, route, head, base);
            let next = refuse(
                connection,
                head,
                &mut noted,
                refusal.reason,
                refusal.retry_after_ns,
                &lines,
                &id,
            )
            .await;
            (next, route.map(|(_, route)| route), None)
        }
        Ok((index, route)) => {
            let preflight = answer::preflight(listener, route, head, base);
            if let Some(mut lines) = preflight {
                let edits = &listener.edits[index];
                edits.response.append(&mut lines, |_| false);
                let answer = Answer::empty(204, &lines);
                let next = respond(connection, head, &mut noted, &answer).await;
                (next, Some(route), None)
            } else {
                let (next, lease) =
                    forward(connection, scratch, &table, listener, index, &mut noted, &id).await;
                (next, Some(route), lease)
            }
        }
    };
    record(
        connection,
        &table,
        listener,
        scratch,
        &noted,
        route,
        lease.as_ref(),
        &id,
    );
    finish_buffer(connection, scratch, next);
    if next == Next::Keep && connection.worker.draining.get() {
        return Next::Close;
    }
    next
}

/// Takes the finished request off the connection's buffer; what follows it is the next one.
fn finish_buffer(connection: &mut Connection, scratch: &Scratch, next: Next) {
    if next == Next::Keep {
        let used = scratch.request.len;
        connection.buffer.consume(used);
        connection.buffer.compact();
    }
}

/// Reads until a whole head is there. `Ok(false)`: the client closed without a request.
async fn read_head(
    connection: &mut Connection,
    listener: &Listener,
    head: &mut RequestHead,
) -> Result<bool, Reason> {
    let limits = &listener.limits;
    let max_head = limits.head_bytes as usize;
    let max_target = limits.target_bytes as usize;
    let mut scanned = 0;
    let mut armed = false;
    let mut fresh = connection.buffer.is_empty();
    loop {
        if !fresh {
            // One empty line before a request is passed over (RFC 9112 §2.2).
            if scanned == 0 && connection.buffer.bytes().starts_with(b"\r\n") {
                connection.buffer.consume(2);
            }
            let bytes = connection.buffer.bytes();
            if let Some(first) = bytes.first()
                && !first.is_ascii_alphanumeric()
                && !b"!#$%&'*+-.^_`|~\r".contains(first)
            {
                return Err(Reason::BadRequest("The request line is not valid."));
            }
            match scan(bytes, scanned).map_err(Reason::BadRequest)? {
                Scan::Complete(len) if len <= max_head => {
                    head.parse(&bytes[..len], limits.headers as usize, max_target)?;
                    return Ok(true);
                }
                Scan::Complete(_) => return Err(too_large(bytes, max_target)),
                Scan::Partial(at) => {
                    scanned = at;
                    if bytes.len() >= max_head || (at == 0 && bytes.len() > max_target + 64) {
                        return Err(too_large(bytes, max_target));
                    }
                }
            }
            if !armed {
                armed = true;
                let deadline = connection.worker.coarse_ms.get() + listener.timeouts.head_ms;
                connection.slot.arm(deadline);
            }
        }
        fresh = false;
        if connection.buffer.spare().is_empty() {
            connection.buffer.compact();
            let size = (connection.buffer.size() * 2).min(max_head + HEAD_BYTES);
            connection.buffer.grow(size);
        }
        let read = poll_fn(|cx| {
            if armed && connection.slot.fired() {
                return Poll::Ready(None);
            }
            let spare = connection.buffer.spare();
            connection.stream.poll_read(cx, spare).map(Some)
        })
        .await;
        match read {
            None => return Err(Reason::HeadTimeout),
            Some(Ok(count)) if count > 0 => connection.buffer.end += count,
            Some(_) if connection.buffer.is_empty() => return Ok(false),
            Some(Ok(_)) => return Err(Reason::BadRequest("The request head is cut short.")),
            Some(Err(_)) => return Ok(false),
        }
    }
}

/// Which part of a head is too large: 414 when it is the first line, else 431.
fn too_large(bytes: &[u8], max_target: usize) -> Reason {
    let line = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    if line > max_target {
        Reason::TargetTooLong
    } else {
        Reason::HeadTooLarge
    }
}

fn origin_of<'a>(
    connection: &Connection,
    listener: &Listener,
    table: &'a Table,
    head: &RequestHead,
    id: &'a [u8],
) -> Origin<'a> {
    let peer = connection.peer;
    let trusted = match (&listener.trusted, peer) {
        (Some(set), Some(peer)) => set.permits(peer),
        _ => false,
    };
    let client = if trusted {
        client_behind_proxies(connection, listener, head).or(peer)
    } else {
        peer
    };
    Origin {
        peer,
        client,
        trusted,
        scheme: "http",
        forwarded: listener.forwarded,
        internal: false,
        request_id: id,
        server_name: &table.server_name,
    }
}

/// The nearest address in `X-Forwarded-For` that is not a trusted proxy's: everything beyond it is
/// only what that client claims.
fn client_behind_proxies(
    connection: &Connection,
    listener: &Listener,
    head: &RequestHead,
) -> Option<IpAddr> {
    let base = connection.buffer.bytes();
    let set = listener.trusted.as_ref()?;
    let mut nearest = None;
    for field in head.fields.iter().rev() {
        if field.known != Known::XForwardedFor {
            continue;
        }
        for hop in field.value.get(base).rsplit(|&byte| byte == b',') {
            let hop = std::str::from_utf8(hop.trim_ascii()).ok()?;
            let ip = hop.parse::<IpAddr>().ok().or_else(|| {
                let address = hop.parse::<std::net::SocketAddr>().ok()?;
                Some(address.ip())
            });
            let Some(ip) = ip else { return nearest };
            nearest = Some(ip);
            if !set.permits(ip) {
                return nearest;
            }
        }
    }
    nearest
}

/// The route that takes a request, and whether filters let it pass.
fn route<'t>(
    table: &'t Table,
    listener: &'t Listener,
    seen: &Seen<'_>,
) -> Result<(usize, &'t Route), (Refusal, Option<(usize, &'t Route)>)> {
    let refuse = |reason| Refusal {
        reason,
        retry_after_ns: 0,
    };
    listener.chain.check(seen).map_err(|refusal| (refusal, None))?;
    let (host, path) = (seen.head.host.get(seen.base), seen.head.path(seen.base));
    let Some(index) = listener.router.find(host, path) else {
        return Err((refuse(Reason::NoRoute), None));
    };
    let route = &table.routes[index];
    route
        .chain
        .check(seen)
        .map_err(|refusal| (refusal, Some((index, route))))?;
    let limit = body_limit(listener, route);
    if let Length::Known(length) = seen.head.length
        && limit != 0
        && length > limit
    {
        return Err((refuse(Reason::BodyTooLarge), Some((index, route))));
    }
    Ok((index, route))
}

/// The smallest bound on the request's body; 0 is none. The control plane's own routes take
/// documents of any configuration's size and bound them themselves.
fn body_limit(listener: &Listener, route: &Route) -> u64 {
    if route.internal {
        return 0;
    }
    let bounds = [
        listener.limits.body_bytes,
        listener.chain.body_limit.unwrap_or(0),
        route.chain.body_limit.unwrap_or(0),
    ];
    bounds.into_iter().filter(|&bound| bound != 0).min().unwrap_or(0)
}

/// Sends the request to an endpoint, again where it may be repeated, and relays the answer.
#[allow(clippy::too_many_lines)] // One request's life reads top to bottom.
async fn forward(
    connection: &mut Connection,
    scratch: &mut Scratch,
    table: &Rc<Arc<Table>>,
    listener: &Listener,
    route_index: usize,
    noted: &mut Noted,
    id: &[u8],
) -> (Next, Option<Lease>) {
    let worker = Rc::clone(&connection.worker);
    let route = &table.routes[route_index];
    let edits = &listener.edits[route_index];
    let shown = Some((route_index, route));
    let pool = &table.pools[route.pool];
    worker.fund_retries(pool);
    let route_deadline = match route.timeout_ms {
        0 => u64::MAX,
        timeout => worker.coarse_ms.get() + timeout,
    };
    let mut body = match RequestBody::new(connection, &scratch.request, body_limit(listener, route))
    {
        Ok(body) => body,
        Err(reason) => {
            let lines =
                answer::lines(listener, shown, &scratch.request, connection.buffer.bytes());
            let next =
                refuse(connection, &scratch.request, noted, reason, 0, &lines, id).await;
            return (next, None);
        }
    };
    let mut origin = origin_of(connection, listener, table, &scratch.request, id);
    origin.internal = route.internal;
    let choice_hash = lease::choice_hash(pool, &scratch.request, connection, origin.client);
    let mut tried = Tried::default();
    let (lease, upstream) = loop {
        let picked = lease::acquire(
            connection,
            table,
            route.pool,
            choice_hash,
            &tried,
            route_deadline,
        );
        let lease = match picked.await {
            Ok(lease) => lease,
            Err(reason) => {
                body.abandon(connection);
                let lines =
                answer::lines(listener, shown, &scratch.request, connection.buffer.bytes());
            let next =
                refuse(connection, &scratch.request, noted, reason, 0, &lines, id).await;
                return (next, None);
            }
        };
        noted.attempts += 1;
        let mut attempt = Attempt {
            connection,
            listener,
            route,
            edits,
            lease: &lease,
            origin: &origin,
            route_deadline,
        };
        let failure = match attempt.run(scratch, &mut body).await {
            Ok(upstream) => {
                let status = scratch.response.status;
                if !route.retries.statuses.contains(&status)
                    || !may_repeat(&scratch.request, connection, &body)
                    || noted.attempts > route.retries.max
                    || !worker.spend_retry(pool)
                {
                    break (lease, upstream);
                }
                upstream.discard(connection);
                Failure::status()
            }
            Err(failure) => failure,
        };
        noted.sent = 0;
        if failure.stale {
            // A kept connection that died: no verdict on the endpoint, and its siblings are
            // likely dead too. Try the same endpoint afresh if that is safe.
            worker.idle.forget(lease.member().endpoint.uid);
            if failure.unsent || may_repeat(&scratch.request, connection, &body) {
                noted.attempts -= 1;
                continue;
            }
        }
        lease.failed(&worker, failure.kind, failure.reason);
        let repeatable = (failure.unsent && body.is_replayable())
            || (may_repeat(&scratch.request, connection, &body)
                && (failure.kind != ErrorKind::Timeout || route.retries.on_timeout));
        let allowed = failure.kind == ErrorKind::Status
            || (repeatable
                && !failure.client
                && noted.attempts <= route.retries.max
                && worker.spend_retry(pool));
        if !allowed {
            body.abandon(connection);
            let lines =
                answer::lines(listener, shown, &scratch.request, connection.buffer.bytes());
            let next =
                refuse(connection, &scratch.request, noted, failure.reason, 0, &lines, id).await;
            return (next, Some(lease));
        }
        let counter = match failure.kind {
            ErrorKind::Connect => 0,
            ErrorKind::Timeout => 2,
            ErrorKind::Status => 3,
            ErrorKind::Reset | ErrorKind::Protocol => 1,
        };
        pool.state.retries[counter].fetch_add(1, Ordering::Relaxed);
        tried.add(lease.index);
        drop(lease);
        if tried_all(pool, &tried) {
            // Nobody else is left: the same ones again.
            tried = Tried::default();
        }
        if route.retries.delay_ms > 0 {
            let delay = std::time::Duration::from_millis(route.retries.delay_ms);
            Box::pin(tokio::time::sleep(delay)).await;
        }
    };
    deliver(
        connection,
        scratch,
        listener,
        (route, edits),
        noted,
        lease,
        upstream,
        body,
        route_deadline,
    )
    .await
}

/// Whether every member that could serve has been tried.
fn tried_all(pool: &crate::table::Pool, tried: &Tried) -> bool {
    (0u32..)
        .zip(pool.members.iter())
        .take(64)
        .all(|(index, member)| {
            tried.contains(index) || member.endpoint.usable(pool.use_all).is_err()
        })
}

/// Whether a request may be sent a second time although an endpoint may have seen the first.
fn may_repeat(head: &RequestHead, connection: &Connection, body: &RequestBody) -> bool {
    let idempotent = matches!(
        head.method.get(connection.buffer.bytes()),
        b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE"
    );
    idempotent && body.is_replayable()
}

/// Relays an endpoint's answer, and what is left of the request's body beside it.
#[allow(clippy::too_many_arguments)] // All of them end here.
async fn deliver(
    connection: &mut Connection,
    scratch: &mut Scratch,
    listener: &Listener,
    (route, edits): (&Route, &Edits),
    noted: &mut Noted,
    lease: Lease,
    mut upstream: Upstream,
    mut body: RequestBody,
    route_deadline: u64,
) -> (Next, Option<Lease>) {
    let worker = Rc::clone(&connection.worker);
    let (request, response) = (&scratch.request, &scratch.response);
    noted.status = response.status;
    if response.status >= 500 {
        lease.failed(&worker, ErrorKind::Status, Reason::UpstreamReset);
    } else {
        lease.succeeded();
    }
    let head_request = request.method.get(connection.buffer.bytes()) == b"HEAD";
    let chunked = !request.version_10
        && !head_request
        && matches!(response.length, Length::Chunked | Length::UntilClose);
    let delimited =
        chunked || !matches!(response.length, Length::Chunked | Length::UntilClose);
    let keep = request.keep_alive && delimited && body.is_done() && !worker.draining.get();
    let delivery = Delivery {
        version_10: request.version_10,
        keep_alive: keep,
        chunked,
    };
    let mut lead = worker.buffers.take_out();
    encode::response_head(
        &mut lead,
        response,
        upstream.buffer.bytes(),
        delivery,
        &edits.response,
        answer::cors(listener, Some(route)),
    );
    let base = connection.buffer.bytes();
    answer::cross_origin(&mut lead, listener, Some(route), request, base);
    lead.extend_from_slice(b"\r\n");
    upstream.buffer.consume(response.len);
    let mut relay = Relay::new(
        response.length,
        chunked,
        lead,
        std::mem::take(&mut upstream.buffer),
        0,
    );
    let idle_ms = lease.member().idle_timeout_ms;
    let write_ms = listener.timeouts.write_ms;
    let mut armed = None;
    let result = poll_fn(|cx| {
        let done = relay.poll(
            cx,
            &worker.buffers,
            &mut upstream.stream,
            &mut connection.stream,
        );
        if let Poll::Ready(result) = done {
            return Poll::Ready(result.map_err(Some));
        }
        // The rest of the request goes on beside the answer; its failure is the answer's to show.
        body.poll_beside(cx, connection, &mut upstream.stream);
        if armed.is_some() && connection.slot.fired() {
            return Poll::Ready(Err(None));
        }
        if relay.moved || armed != Some(relay.waiting) {
            relay.moved = false;
            armed = Some(relay.waiting);
            let patience = match relay.waiting {
                Waiting::Read => idle_ms,
                Waiting::Write => write_ms,
            };
            let deadline = worker.coarse_ms.get() + patience;
            connection.slot.arm(deadline.min(route_deadline));
        }
        Poll::Pending
    })
    .await;
    noted.sent = relay.sent;
    noted.received = body.received();
    let upstream_bytes = relay.received + response.len as u64;
    let waiting = relay.waiting;
    let (rest, lead) = relay.into_buffers();
    let clean = rest.is_empty();
    worker.buffers.give(rest);
    worker.buffers.give_out(lead);
    lease.count_bytes(&worker, upstream.sent, upstream_bytes);
    let next = match result {
        Ok(()) => {
            if clean && response.keep_alive && body.is_done() {
                upstream.keep(&worker, &lease);
            }
            if keep { Next::Keep } else { Next::Close }
        }
        Err(error) => {
            let reason = match error {
                None if worker.shared.now_ms() >= route_deadline => Reason::RouteTimeout,
                None if waiting == Waiting::Write => Reason::ClientSlow,
                None => Reason::UpstreamTimeout,
                Some(Broken::Write) => Reason::ClientGone,
                Some(Broken::Framing(detail)) => Reason::UpstreamProtocol(detail),
                Some(_) => Reason::UpstreamReset,
            };
            let kind = match reason {
                Reason::UpstreamTimeout => Some(ErrorKind::Timeout),
                Reason::UpstreamProtocol(_) => Some(ErrorKind::Protocol),
                Reason::UpstreamReset => Some(ErrorKind::Reset),
                _ => None,
            };
            if let Some(kind) = kind {
                lease.failed(&worker, kind, reason);
            }
            noted.reason = Some(reason);
            // The head is out: only a broken connection can tell the client that this is not all.
            Next::Drop
        }
    };
    body.finish(connection, request.len);
    (next, Some(lease))
}

/// Answers with an error of the balancer's own.
async fn refuse(
    connection: &mut Connection,
    head: &RequestHead,
    noted: &mut Noted,
    reason: Reason,
    retry_after_ns: u64,
    lines: &[u8],
    id: &[u8],
) -> Next {
    noted.reason = Some(reason);
    noted.status = reason.status();
    if matches!(reason, Reason::ClientGone | Reason::ClientSlow) {
        return Next::Drop;
    }
    let mut lines = lines.to_vec();
    if reason == Reason::Limited {
        answer::push_retry_after(&mut lines, retry_after_ns);
    }
    let base = connection.buffer.bytes();
    let id = if head.len == 0 {
        id
    } else {
        let listener = connection.rules(|listener| {
            matches!((&listener.trusted, connection.peer), (Some(set), Some(peer)) if set.permits(peer))
        });
        let origin = Origin {
            peer: connection.peer,
            client: None,
            trusted: listener == Some(true),
            scheme: "http",
            forwarded: false,
            internal: false,
            request_id: id,
            server_name: "",
        };
        encode::request_id(head, base, &origin)
    };
    let body = answer::error_body(head, base, reason, id);
    let answer = Answer {
        status: reason.status(),
        lines: &lines,
        content: Some((body.0, &body.1)),
        close: reason.closes(),
    };
    respond(connection, head, noted, &answer).await
}

/// Writes an answer of the balancer's own.
async fn respond(
    connection: &mut Connection,
    head: &RequestHead,
    noted: &mut Noted,
    answer: &Answer<'_>,
) -> Next {
    noted.status = answer.status;
    let whole = match head.length {
        Length::None => true,
        Length::Known(length) => {
            // A body that is here already can be passed over.
            let here = (connection.buffer.bytes().len() - head.len) as u64;
            here >= length && head.len > 0
        }
        Length::Chunked | Length::UntilClose => false,
    };
    let keep = whole
        && head.len > 0
        && head.keep_alive
        && !answer.close
        && !connection.worker.draining.get();
    let head_request =
        head.len > 0 && head.method.get(connection.buffer.bytes()) == b"HEAD";
    let out = answer.encode(
        &connection.worker,
        Delivery {
            version_10: head.version_10,
            keep_alive: keep,
            chunked: false,
        },
        head_request,
    );
    let write_ms = connection
        .rules(|listener| listener.timeouts.write_ms)
        .unwrap_or(LINGER_MS);
    connection
        .slot
        .arm(connection.worker.coarse_ms.get() + write_ms);
    let mut written = 0;
    let done = poll_fn(|cx| {
        while written < out.len() {
            let slice = [std::io::IoSlice::new(&out[written..])];
            match connection.stream.poll_write_vectored(cx, &slice) {
                Poll::Ready(Ok(count)) if count > 0 => written += count,
                Poll::Ready(_) => return Poll::Ready(false),
                Poll::Pending if connection.slot.fired() => return Poll::Ready(false),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(true)
    })
    .await;
    noted.sent += written as u64;
    connection.worker.buffers.give_out(out);
    if !done {
        return Next::Drop;
    }
    if !keep {
        return Next::Close;
    }
    if let Length::Known(length) = head.length {
        // The head itself is taken off at the end of the exchange.
        remove_body(&mut connection.buffer, head.len, length as usize);
    }
    Next::Keep
}

/// Takes a body that stands behind a head out of the buffer.
fn remove_body(buffer: &mut Buffer, head: usize, body: usize) {
    let bytes = buffer.bytes_mut();
    let len = bytes.len();
    bytes.copy_within(head + body..len, head);
    buffer.end -= body;
}

/// Counts the exchange and writes its access record.
#[allow(clippy::too_many_arguments)] // All that is known of an exchange.
fn record(
    connection: &Connection,
    table: &Table,
    listener: &Listener,
    scratch: &Scratch,
    noted: &Noted,
    route: Option<&Route>,
    lease: Option<&Lease>,
    id: &[u8],
) {
    let worker = &connection.worker;
    let head = &scratch.request;
    let base = connection.buffer.bytes();
    let latency_ns = noted.started.elapsed().as_nanos() as u64;
    let method = if head.len == 0 { b"" } else { head.method.get(base) };
    if !route.is_some_and(|route| route.internal) {
        let mut stats = worker.stats.borrow_mut();
        *stats
            .methods
            .entry((method_label(method), noted.status))
            .or_default() += 1;
        let uid = route.map_or(0, |route| route.uid);
        stats.routes.entry(uid).or_default().record(latency_ns);
        match lease.filter(|_| noted.reason.is_none_or(|reason| reason.status() != noted.status)) {
            Some(lease) => {
                let endpoint = stats.endpoint(lease.member().endpoint.uid);
                endpoint.requests += 1;
                endpoint.total.record(latency_ns);
                endpoint.count_served(uid, noted.status, 1);
            }
            None => *stats.unserved.entry((uid, noted.status)).or_default() += 1,
        }
        if let Some(reason) = noted.reason {
            *stats.errors.entry(reason.label()).or_default() += 1;
        }
    }
    let sampled = noted.reason.is_some()
        || noted.status >= 500
        || table.access_sample >= 1.0
        || fastrand::f64() < table.access_sample;
    if table.access_log.is_none() || !sampled {
        return;
    }
    let origin = origin_of(connection, listener, table, head, id);
    let request_id = if head.len == 0 { id } else { encode::request_id(head, base, &origin) };
    let field = |name: &[u8]| {
        let mut fields = head.fields.iter();
        fields
            .find(|field| field.name.get(base).eq_ignore_ascii_case(name))
            .map_or(&b""[..], |field| field.value.get(base))
    };
    let served = head.len > 0;
    worker.log(&Record {
        time_ns: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as u64)
            .saturating_sub(latency_ns),
        request_id,
        client: origin.client,
        method,
        host: if served { head.host.get(base) } else { b"" },
        target: if served { head.target.get(base) } else { b"" },
        version: if head.version_10 { "HTTP/1.0" } else { "HTTP/1.1" },
        status: noted.status,
        bytes_sent: noted.sent,
        bytes_received: noted.received,
        route: route.map_or("", |route| &route.name),
        pool: lease.map_or("", |lease| &lease.pool().name),
        backend_id: lease.map_or("", |lease| &lease.member().endpoint.id),
        attempts: noted.attempts,
        latency_ns,
        reason: noted.reason.map_or("", Reason::label),
        user_agent: field(b"user-agent"),
        referer: field(b"referer"),
    });
}

/// An identifier for a request: 128 random bits in hexadecimal digits.
fn make_request_id() -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut bits = fastrand::u128(..);
    std::array::from_fn(|_| {
        let digit = DIGITS[(bits & 15) as usize];
        bits >>= 4;
        digit
    })
}
