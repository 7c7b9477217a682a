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
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use evenflow_rules::hedge::Hedge;
use evenflow_rules::picker::Tried;
use evenflow_rules::reason::Reason;
use evenflow_rules::retry::Cause;
use evenflow_rules::table::Route;
use evenflow_state::stats::ErrorKind;
use evenflow_wire::http1::head::{Length, ResponseHead};
use evenflow_wire::proxy_protocol::AddressPair;

use crate::attempt::Attempt;
use crate::call::{Call, Caller, Failure, Upstream};
use crate::connection::Client;
use crate::lease::{self, Lease};
use crate::record::AccessRecord;
use crate::timer::Slot;
use crate::worker::{Current, Worker};

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

/// What ended a race.
enum Race {
    First(Result<Upstream, Failure>),
    Hedge(Won),
}

type Try<'a> = Pin<Box<dyn Future<Output = Option<Won>> + 'a>>;

/// Whether a request changes nothing and is here as a whole. One that is merely idempotent is not
/// hedged: the try that lost may be carried out late, after the client's next request.
fn may_hedge(attempt: &Attempt<'_>) -> bool {
    let head = attempt.request;
    matches!(attempt.method(), b"GET" | b"HEAD" | b"OPTIONS")
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
    response: &mut ResponseHead,
    mut elsewhere: HedgeTargets<'_>,
    noted: &mut AccessRecord,
) -> (Result<Upstream, Failure>, Option<Lease>) {
    let after_ms = rules.after_ms.load(Ordering::Relaxed);
    if after_ms == 0 || !may_hedge(attempt) {
        return (attempt.run(response).await, None);
    }
    let worker = Rc::clone(&attempt.connection.worker);
    let uid = attempt.route.uid;
    if elsewhere.first {
        let mut budgets = worker.budgets.borrow_mut();
        let tokens = &mut budgets.entry(uid).or_default().tokens;
        *tokens = (*tokens + rules.budget).min(MAX_SAVED);
    }
    let mut request = worker.buffers.take_out();
    attempt.push_head(&mut request, false);
    let common = Common {
        worker: Rc::clone(&worker),
        request,
        ends: attempt.client_ends(),
        head_request: attempt.method() == b"HEAD",
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
    let mut tries: Vec<Try<'_>> = Vec::new();
    let mut race = {
        let mut first = pin!(attempt.run(response));
        poll_fn(|cx| {
            if let Poll::Ready(ran) = first.as_mut().poll(cx) {
                return Poll::Ready(Race::First(ran));
            }
            while left > 0 && timer.as_mut().poll(cx).is_ready() {
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
            poll_tries(cx, &mut tries, || {
                noted.hedge = "failed";
                count("hedge_failed");
            })
            .map(Race::Hedge)
        })
        .await
    };
    let mut failed: Option<Failure> = None;
    if let Race::First(Err(failure)) = race
        && failure.outcome.cause != Cause::Client
        && !tries.is_empty()
    {
        failed = Some(failure);
        race = poll_fn(|cx| {
            if attempt.connection.poll_client_gone(cx).is_ready() {
                let gone = Failure::client(Reason::ClientGone);
                return Poll::Ready(Race::First(Err(gone)));
            }
            let won = poll_tries(cx, &mut tries, || {
                noted.hedge = "failed";
                count("hedge_failed");
            });
            match won.map(Race::Hedge) {
                Poll::Pending if tries.is_empty() => Poll::Ready(Race::First(Err(failure))),
                won => won,
            }
        })
        .await;
    }
    for _ in &tries {
        noted.hedge = "lost";
        count("hedge_lost");
    }
    drop(tries);
    worker.buffers.give_out(common.request);
    let (lease, upstream, answer) = match race {
        Race::First(ran) => return (ran, None),
        Race::Hedge(won) => won,
    };
    noted.hedge = "won";
    count("hedge_won");
    match failed {
        Some(failure) if failure.outcome.is_held_against() => {
            first_lease.failed(&worker, failure.kind(), failure.reason);
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
    *response = answer;
    (Ok(upstream), Some(lease))
}

/// Moves the hedges on; the first good answer. `failed` is told of each that comes to nothing.
fn poll_tries(
    cx: &mut Context<'_>,
    tries: &mut Vec<Try<'_>>,
    mut failed: impl FnMut(),
) -> Poll<Won> {
    let mut index = 0;
    while index < tries.len() {
        match tries[index].as_mut().poll(cx) {
            Poll::Pending => index += 1,
            Poll::Ready(answer) => {
                drop(tries.swap_remove(index));
                match answer {
                    Some(won) => return Poll::Ready(won),
                    None => failed(),
                }
            }
        }
    }
    Poll::Pending
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

/// A hedge's side of its call: it shares nothing with the client's connection.
struct Hedging<'a> {
    request: &'a [u8],
    slot: Slot,
}

impl Caller for Hedging<'_> {
    fn slot(&self) -> &Slot {
        &self.slot
    }

    fn split(&mut self) -> (&Slot, Client<'_>) {
        (&self.slot, Client::NONE)
    }

    fn prepare(&mut self, out: &mut Vec<u8>, _http2: bool) {
        out.extend_from_slice(self.request);
    }
}

/// Runs one hedge: its answer, if that is a good one.
async fn hedge(common: &Common<'_>, lease: Lease) -> Option<Won> {
    let worker = &common.worker;
    let mut response = ResponseHead::default();
    let mut hedging = Hedging {
        request: &common.request,
        slot: worker.timer.own_slot().await,
    };
    let mut call = Call {
        worker,
        lease: &lease,
        ends: common.ends,
        switching: false,
        afresh: false,
        head_request: common.head_request,
        deadline: common.route_deadline,
        per_try_ms: common.route.retries.per_try_timeout_ms,
    };
    match call.run_here(&mut hedging, &mut response, true).await {
        Ok(upstream) => {
            let status = response.status;
            if status < 500 && !common.route.retries.statuses.contains(&status) {
                return Some((lease, upstream, response));
            }
            if status >= 500 {
                lease.failed(worker, ErrorKind::Status, Reason::UpstreamReset);
            } else {
                lease.succeeded(worker);
            }
            upstream.discard(worker);
        }
        Err(failure) => lease.failed(worker, failure.kind(), failure.reason),
    }
    None
}
