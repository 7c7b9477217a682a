//! Hedges: a request that waits long for its answer is sent to another endpoint as well, and the
//! first good answer wins.
//!
//! Only routes that ask for it come here. The first try runs as any other does; beside it run tries
//! that share nothing with the client's connection, so whatever becomes of them changes nothing for
//! the client.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use evenflow_rules::hedge::Hedge;
use evenflow_rules::picker::Tried;
use evenflow_rules::reason::Reason;
use evenflow_rules::table::Route;
use evenflow_state::stats::ErrorKind;
use evenflow_wire::http1::head::{Length, RequestHead, ResponseHead};
use evenflow_wire::proxy_protocol::AddressPair;

use crate::attempt::{
    Attempt, ENDLESS, Failure, MAX_INTERIM, Step, Upstream, deadline, poll_head, write_head,
};
use crate::lease::{self, Lease};
use crate::record::AccessRecord;
use crate::request_body::RequestBody;
use crate::upstream::reach;
use crate::worker::{Current, Scratch, Worker};

/// What quiet times save up at the most, of hedges by one worker.
const MAX_SAVED: f64 = 10.0;

/// Where a hedge may go.
#[derive(Debug)]
pub struct HedgeTargets<'a> {
    /// The table in force.
    pub table: &'a Current,
    /// The pool's number in it.
    pub pool: usize,
    /// As for the first try.
    pub hash: u64,
    /// Endpoints at which the request failed before.
    pub tried: Tried,
    /// The request is here for the first time.
    pub first: bool,
}

/// What all hedges of one request share.
struct Common<'a> {
    worker: Rc<Worker>,
    request: Vec<u8>,
    ends: Option<AddressPair>,
    head_request: bool,
    route: &'a Route,
    route_deadline: u64,
}

type Won = (Lease, Upstream, ResponseHead);
type Try<'a> = Pin<Box<dyn Future<Output = Option<Won>> + 'a>>;

/// Whether a request changes nothing and is here as a whole. One that is merely idempotent is not
/// hedged: the try that lost may be carried out late, after the client's next request.
fn may_hedge(attempt: &Attempt<'_>, head: &RequestHead) -> bool {
    let method = head.method.get(attempt.connection.buffer.bytes());
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS")
        && head.length == Length::None
        && head.upgrade.is_none()
        && !head.host.is_empty()
        && attempt.lease.pool().sticky.is_none()
}

/// Runs an attempt, with hedges beside it; the lease of the hedge that won, if one did.
#[allow(clippy::too_many_lines)] // One race from its start to its end.
pub async fn race(
    attempt: &mut Attempt<'_>,
    rules: &Hedge,
    scratch: &mut Scratch,
    body: &mut RequestBody,
    mut elsewhere: HedgeTargets<'_>,
    noted: &mut AccessRecord,
) -> (Result<Upstream, Failure>, Option<Lease>) {
    let after_ms = rules.after_ms.load(Ordering::Relaxed);
    if after_ms == 0 || !may_hedge(attempt, &scratch.request) {
        return (attempt.run(scratch, body).await, None);
    }
    let worker = Rc::clone(&attempt.connection.worker);
    let uid = attempt.route.uid;
    if elsewhere.first {
        let mut budgets = worker.budgets.borrow_mut();
        let tokens = &mut budgets.entry(uid).or_default().tokens;
        *tokens = (*tokens + rules.budget).min(MAX_SAVED);
    }
    let mut request = worker.buffers.take_out();
    attempt.push_head(&mut request, scratch, false);
    let base = attempt.connection.buffer.bytes();
    let told = attempt.lease.pool().send_proxy;
    let common = Common {
        worker: Rc::clone(&worker),
        request,
        // Only a PROXY header tells them; asking costs two system calls.
        ends: told.and_then(|_| attempt.client_ends()),
        head_request: scratch.request.method.get(base) == b"HEAD",
        route: attempt.route,
        route_deadline: attempt.route_deadline,
    };
    let (first_lease, midway) = (attempt.lease, attempt.midway);
    elsewhere.tried.add(first_lease.index);
    let count = |what| worker.stats.borrow_mut().happened(uid, what);
    let began = Instant::now();
    let after = Duration::from_millis(after_ms);
    let mut timer = Box::pin(tokio::time::sleep(after));
    let mut left = rules.max;
    let mut failed: Option<Failure> = None;
    let mut tries: Vec<Try<'_>> = Vec::new();
    let (ran, won) = {
        let mut first = pin!(attempt.run(scratch, body));
        poll_fn(|cx| {
            if failed.is_none()
                && let Poll::Ready(ran) = first.as_mut().poll(cx)
            {
                match ran {
                    Err(failure) if !failure.client && !tries.is_empty() => failed = Some(failure),
                    ran => return Poll::Ready((Some(ran), None)),
                }
            }
            while left > 0 && failed.is_none() && timer.as_mut().poll(cx).is_ready() {
                left -= 1;
                timer.as_mut().reset(tokio::time::Instant::now() + after);
                match start(&common, &mut elsewhere, uid) {
                    Ok(lease) => tries.push(Box::pin(hedge(&common, lease))),
                    Err(why) => {
                        noted.hedge = "none";
                        count(why);
                    }
                }
            }
            if midway.get() {
                return Poll::Pending;
            }
            let mut index = 0;
            while index < tries.len() {
                match tries[index].as_mut().poll(cx) {
                    Poll::Pending => index += 1,
                    Poll::Ready(Some(won)) => {
                        drop(tries.swap_remove(index));
                        return Poll::Ready((None, Some(won)));
                    }
                    Poll::Ready(None) => {
                        drop(tries.swap_remove(index));
                        noted.hedge = "failed";
                        count("hedge_failed");
                    }
                }
            }
            match failed {
                Some(failure) if tries.is_empty() => Poll::Ready((Some(Err(failure)), None)),
                _ => Poll::Pending,
            }
        })
        .await
    };
    for _ in &tries {
        noted.hedge = "lost";
        count("hedge_lost");
    }
    drop(tries);
    worker.buffers.give_out(common.request);
    let Some((lease, upstream, response)) = won else {
        let ran = ran.unwrap_or_else(|| Err(Failure::status()));
        return (ran, None);
    };
    noted.hedge = "won";
    count("hedge_won");
    match failed {
        Some(failure) if !failure.stale => {
            first_lease.failed(&worker, failure.kind, failure.reason);
        }
        _ => {
            // It would have taken at least that long; without it, what is slow would look quick.
            let waited = began.elapsed();
            let endpoint = &first_lease.member().endpoint;
            let mut stats = worker.stats.borrow_mut();
            let stats = stats.endpoint(endpoint.uid);
            stats.first_byte.record(waited.as_nanos() as u64);
            endpoint.observe_latency(waited.as_secs_f32() * 1000.0, worker.coarse_ms.get());
        }
    }
    first_lease.release();
    scratch.response = response;
    (Ok(upstream), Some(lease))
}

/// A place for a hedge, if there is one and the budget allows it; why not.
fn start(
    common: &Common<'_>,
    elsewhere: &mut HedgeTargets<'_>,
    route: u32,
) -> Result<Lease, &'static str> {
    let worker = &common.worker;
    let mut budgets = worker.budgets.borrow_mut();
    let budget = budgets.entry(route).or_default();
    if budget.tokens < 1.0 {
        return Err("hedge_over_budget");
    }
    let HedgeTargets {
        table,
        pool,
        hash,
        tried,
        ..
    } = elsewhere;
    let lease =
        lease::try_acquire(worker, table, *pool, *hash, tried).map_err(|_| "hedge_unavailable")?;
    budget.tokens -= 1.0;
    tried.add(lease.index);
    Ok(lease)
}

/// Runs one hedge: its answer, if that is a good one.
async fn hedge(common: &Common<'_>, lease: Lease) -> Option<Won> {
    let worker = &common.worker;
    match answered(common, &lease).await {
        Ok((upstream, response)) => {
            let status = response.status;
            if status < 500 && !common.route.retries.statuses.contains(&status) {
                return Some((lease, upstream, response));
            }
            if status >= 500 {
                lease.failed(worker, ErrorKind::Status, Reason::UpstreamReset);
            } else {
                lease.succeeded(worker);
            }
            worker.buffers.give(upstream.buffer);
        }
        Err(failure) => lease.failed(worker, failure.kind, failure.reason),
    }
    None
}

/// Sends the request and awaits the answer's head, on a kept connection first and then on a new one.
async fn answered(common: &Common<'_>, lease: &Lease) -> Result<(Upstream, ResponseHead), Failure> {
    let worker = &common.worker;
    let member = lease.member();
    let slot = worker.timer.own_slot().await;
    let started = Instant::now();
    let mut kept = lease.kept(worker, member.made(), false);
    let deadline = deadline(worker, common.route, common.route_deadline);
    loop {
        let now = worker.coarse_ms.get();
        let made = member.made();
        let reused = kept.is_some();
        let stream = if let Some(stream) = kept.take() {
            stream
        } else {
            slot.arm((now + member.connect_timeout_ms).min(deadline));
            let reached = reach(worker, lease, || common.ends, &slot, false).await;
            reached.map_err(|reason| Failure::new(ErrorKind::Connect, reason))?
        };
        let now = worker.coarse_ms.get();
        slot.arm((now + member.first_byte_timeout_ms).min(deadline));
        let mut upstream = Upstream::new(stream, made);
        let (sent, written) = write_head(&mut upstream.stream, &common.request, b"", &slot).await;
        upstream.sent = sent as u64;
        let timeout = Failure::new(ErrorKind::Timeout, Reason::UpstreamTimeout);
        if let Err(None) = written {
            return Err(timeout);
        }
        let mut response = ResponseHead::default();
        let mut failure = Failure::new(ErrorKind::Protocol, ENDLESS);
        for _ in 0..=MAX_INTERIM {
            let mut scanned = 0;
            let step =
                poll_fn(
                    |cx| match poll_head(cx, worker, &mut upstream, &mut scanned, reused) {
                        Poll::Pending if slot.fired() => Poll::Ready(Step::Failed(timeout)),
                        step => step,
                    },
                )
                .await;
            let len = match step {
                Step::Head(len) => len,
                Step::Failed(reason) => {
                    if reason.kind == ErrorKind::Timeout {
                        upstream.stream.note_timeout();
                    }
                    failure = reason;
                    break;
                }
            };
            let head = &upstream.buffer.bytes()[..len];
            match response.parse(head, common.head_request) {
                Ok(()) if response.status >= 200 => {
                    let latency = started.elapsed();
                    lease.answered_after(latency);
                    let mut stats = worker.stats.borrow_mut();
                    let stats = stats.endpoint(member.endpoint.uid);
                    stats.first_byte.record(latency.as_nanos() as u64);
                    let latency_ms = latency.as_secs_f32() * 1000.0;
                    let now = worker.coarse_ms.get();
                    member.endpoint.observe_latency(latency_ms, now);
                    return Ok((upstream, response));
                }
                Ok(()) if response.status != 101 => upstream.buffer.consume(len),
                Ok(()) => break,
                Err(detail) => {
                    failure.reason = Reason::UpstreamProtocol(detail);
                    break;
                }
            }
        }
        worker.buffers.give(upstream.buffer);
        if !failure.stale {
            return Err(failure);
        }
        // A kept connection that died: its siblings are likely dead too.
        worker.idle.forget(member.endpoint.uid);
    }
}
