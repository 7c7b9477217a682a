//! A request on its way to an endpoint: choose, call, and whatever the retry rule says next, until
//! an answer is delivered or the request fails. Whatever is waited for, the client's leaving and
//! the route's deadline end it.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use evenflow_rules::filters::Refusal;
use evenflow_rules::picker::Tried;
use evenflow_rules::pool::Pool;
use evenflow_rules::reason::Reason;
use evenflow_rules::retry::{self, AttemptOutcome, Cause, RetryRules};
use evenflow_rules::table::Route;
use evenflow_state::stats::ErrorKind;
use evenflow_wire::http1::encode::Origin;
use evenflow_wire::http1::head::{RequestHead, ResponseHead};

use crate::attempt::Attempt;
use crate::call::{Failure, Upstream};
use crate::connection::{Connection, origin_of};
use crate::exchange::{Next, NumberedRoute, RequestContext, body_limit};
use crate::hedge::{self, HedgeTargets};
use crate::lease::{self, Lease};
use crate::mirror;
use crate::record::AccessRecord;
use crate::request_body::RequestBody;
use crate::respond::refuse;
use crate::tunnel;
use crate::worker::{Scratch, Worker};

/// Sends the request to an endpoint, again where it may be repeated, and relays the answer.
pub async fn forward(
    connection: &mut Connection,
    scratch: &mut Scratch,
    context: &RequestContext<'_>,
    route: NumberedRoute<'_>,
    to: (usize, Vec<u8>),
    noted: &mut AccessRecord,
) -> (Next, Option<Lease>) {
    let mut forward = match Forward::new(connection, scratch, context, route, to, noted) {
        Ok(forward) => forward,
        Err(reason) => {
            let head = &scratch.request;
            let next = refuse(connection, context, head, noted, reason.into()).await;
            return (next, None);
        }
    };
    let mut here = None;
    loop {
        let mut lease = match here.take() {
            Some(lease) => lease,
            None => match forward.choose().await {
                Ok(lease) => lease,
                Err(refusal) => return (forward.refuse(refusal).await, None),
            },
        };
        let next = match forward.attempt(&mut lease).await {
            Ok(upstream) if forward.scratch.response.status == 101 => {
                return (forward.open_tunnel(lease, upstream), None);
            }
            Ok(upstream) => match forward.judge_answer(&lease, &upstream) {
                retry::NextAttempt::Deliver => match forward.deliver(&lease, upstream).await {
                    Ok(next) => return (next, Some(lease)),
                    Err(failure) => forward.judge(&lease, failure),
                },
                next => {
                    upstream.discard(&forward.worker);
                    next
                }
            },
            Err(failure) => forward.judge(&lease, failure),
        };
        match next {
            retry::NextAttempt::Here { .. } => here = Some(lease),
            retry::NextAttempt::Elsewhere { after_ms } => {
                forward.leave(lease);
                if let Err(reason) = forward.pause(after_ms).await {
                    return (forward.refuse(reason.into()).await, None);
                }
            }
            retry::NextAttempt::Deliver | retry::NextAttempt::GiveUp => {
                lease.release();
                let reason = forward.reason;
                return (forward.refuse(reason.into()).await, Some(lease));
            }
        }
    }
}

/// A request and what became of it so far.
struct Forward<'a> {
    worker: Rc<Worker>,
    connection: &'a mut Connection,
    scratch: &'a mut Scratch,
    context: &'a RequestContext<'a>,
    route: NumberedRoute<'a>,
    noted: &'a mut AccessRecord,
    body: RequestBody,
    origin: Origin<'a>,
    /// What the endpoint is asked for, where it is not the client's target.
    target: Option<Vec<u8>>,
    /// Header lines for the client that belong to this request.
    lines: Vec<u8>,
    pool: usize,
    choice: (u64, Option<u32>),
    /// Endpoints at which it failed.
    tried: Tried,
    /// When the route's time is over, on the engine's clock.
    deadline: u64,
    /// A kept connection was replaced: no second one is.
    replaced: bool,
    /// The next attempt makes a new connection.
    afresh: bool,
    /// Why the last attempt failed.
    reason: Reason,
}

impl<'a> Forward<'a> {
    fn new(
        connection: &'a mut Connection,
        scratch: &'a mut Scratch,
        context: &'a RequestContext<'_>,
        (index, route): NumberedRoute<'a>,
        (pool_index, lines): (usize, Vec<u8>),
        noted: &'a mut AccessRecord,
    ) -> Result<Self, Reason> {
        let worker = Rc::clone(&connection.worker);
        let listener = context.listener;
        let pool = &*context.table.pools[pool_index];
        if pool.breaker.is_none() || pool.state.breaker.allows() {
            worker.fund_retries(route, pool);
        }
        let deadline = match route.timeout_ms {
            0 => u64::MAX,
            timeout => worker.coarse_ms.get() + timeout,
        };
        connection.watch_as(route.on_client_close);
        let head = &scratch.request;
        let limit = body_limit(context, route);
        let edit = &listener.chains[index].edits.request;
        let body = RequestBody::new(connection, head, limit, route.mirror.is_some(), edit)?;
        let origin = origin_of(connection, context, head);
        Ok(Self {
            choice: choice_of(pool, head, connection, origin.client),
            target: route.rewritten(head, connection.buffer.bytes()),
            worker,
            connection,
            scratch,
            context,
            route: (index, route),
            noted,
            body,
            origin,
            lines,
            pool: pool_index,
            tried: Tried::default(),
            deadline,
            replaced: false,
            afresh: false,
            reason: Reason::NoBackend,
        })
    }

    fn pool(&self) -> &'a Pool {
        &self.context.table.pools[self.pool]
    }

    fn rules(&self) -> &'a Route {
        self.route.1
    }

    /// A place at an endpoint of the pool, or of the route's fallback where the pool has none.
    async fn choose(&mut self) -> Result<Lease, Refusal> {
        loop {
            let picked = lease::acquire(
                self.connection,
                self.context.table,
                self.pool,
                self.choice,
                &self.tried,
                self.deadline,
            );
            let reason = match picked.await {
                Ok(lease) => return Ok(lease),
                Err(reason) => reason,
            };
            let none_is_usable = matches!(
                reason,
                Reason::NoBackend | Reason::TooFewBackends | Reason::BreakerOpen
            );
            let fallback = self.rules().fallback.filter(|pool| *pool != self.pool);
            if let Some(pool) = fallback.filter(|_| none_is_usable) {
                self.fall_back(pool);
                continue;
            }
            let rest_ms = self.pool().broken(self.worker.coarse_ms.get());
            return Err(Refusal {
                reason,
                retry_after_ns: rest_ms.unwrap_or_default() * 1_000_000,
            });
        }
    }

    fn fall_back(&mut self, pool: usize) {
        self.pool = pool;
        self.choice = choice_of(
            self.pool(),
            &self.scratch.request,
            self.connection,
            self.origin.client,
        );
        self.tried = Tried::default();
        let mut stats = self.worker.stats.borrow_mut();
        stats.happened(self.rules().uid, "fallback");
    }

    /// One attempt at an endpoint. Where the route hedges, another endpoint may answer first: then
    /// the lease is of that one.
    async fn attempt(&mut self, lease: &mut Lease) -> Result<Upstream, Failure> {
        self.noted.attempts += 1;
        let hedges = self.rules().hedge.as_ref().filter(|_| !self.afresh);
        let midway = Cell::new(false);
        let Some(rules) = hedges else {
            let (mut attempt, response, _) = self.attempt_at(lease, &midway);
            return attempt.run(response).await;
        };
        let elsewhere = HedgeTargets {
            table: self.context.table,
            pool: self.pool,
            hash: self.choice.0,
            tried: self.tried,
            first: self.noted.attempts == 1,
        };
        let (mut attempt, response, noted) = self.attempt_at(lease, &midway);
        let race = hedge::race(&mut attempt, rules, response, elsewhere, noted);
        let (ran, won) = Box::pin(race).await;
        if let Some(won) = won {
            *lease = won;
        }
        ran
    }

    fn attempt_at<'b>(
        &'b mut self,
        lease: &'b Lease,
        midway: &'b Cell<bool>,
    ) -> (Attempt<'b>, &'b mut ResponseHead, &'b mut AccessRecord) {
        let Scratch {
            request,
            response,
            filter_context,
        } = &mut *self.scratch;
        let (index, route) = self.route;
        let attempt = Attempt {
            connection: self.connection,
            request,
            body: &mut self.body,
            request_lines: &filter_context.request_lines,
            listener: self.context.listener,
            route,
            edits: &self.context.listener.chains[index].edits,
            lease,
            origin: &self.origin,
            target: self.target.as_deref(),
            route_deadline: self.deadline,
            afresh: self.afresh,
            midway,
            progress: None,
        };
        (attempt, response, self.noted)
    }

    /// Relays an answer to the client.
    async fn deliver(&mut self, lease: &Lease, upstream: Upstream) -> Result<Next, Failure> {
        let mut lines = std::mem::take(&mut self.lines);
        let kept_lines = lines.len();
        if let Some(sticky) = &self.pool().sticky
            && self.choice.1 != Some(lease.index)
        {
            sticky.push_line(&mut lines, lease.index, self.origin.secure);
        }
        let midway = Cell::new(false);
        let (mut attempt, response, noted) = self.attempt_at(lease, &midway);
        let delivered = attempt.deliver(response, noted, upstream, &lines).await;
        lines.truncate(kept_lines);
        self.lines = lines;
        if delivered.is_ok() {
            self.finish();
        }
        delivered
    }

    /// Sends a copy of a request that was answered to the route's mirror, and takes its body out of
    /// the connection's buffer.
    fn finish(&mut self) {
        mirror::send(
            self.connection,
            self.scratch,
            self.context,
            self.route,
            &self.origin,
            &mut self.body,
        );
        let head_len = self.scratch.request.len;
        self.body.finish(self.connection, head_len);
    }

    fn open_tunnel(&mut self, lease: Lease, upstream: Upstream) -> Next {
        tunnel::open(
            self.connection,
            self.context,
            self.scratch,
            self.noted,
            lease,
            upstream,
        );
        Next::Tunnel
    }

    /// What follows an answer.
    fn judge_answer(&mut self, lease: &Lease, upstream: &Upstream) -> retry::NextAttempt {
        let repeats = &self.rules().retries.statuses;
        if !repeats.contains(&self.scratch.response.status) {
            return retry::NextAttempt::Deliver;
        }
        let (sent, received) = (upstream.sent, self.scratch.response.len as u64);
        let reason = Reason::UpstreamReset;
        let failure = Failure::answering(Cause::Status, reason, sent, received);
        self.judge(lease, failure)
    }

    /// What follows a failed attempt, and what it means for the endpoint.
    fn judge(&mut self, lease: &Lease, failure: Failure) -> retry::NextAttempt {
        self.noted.sent = 0;
        self.reason = failure.reason;
        let (route, pool) = (self.rules(), self.pool());
        let outcome: AttemptOutcome = failure.outcome;
        let now = self.worker.coarse_ms.get();
        let method = self
            .scratch
            .request
            .method
            .get(self.connection.buffer.bytes());
        let request = retry::RetriedRequest {
            idempotent: is_idempotent(method),
            replayable: self.body.is_replayable(),
            attempts: self.noted.attempts,
            replaced: self.replaced,
            left_ms: (self.deadline != u64::MAX).then(|| self.deadline.saturating_sub(now)),
        };
        let rules = RetryRules {
            max: route.retries.max,
            delay_ms: route.retries.delay_ms,
            on_timeout: route.retries.on_timeout,
        };
        let verdict = retry::judge(&outcome, &request, &rules, || {
            self.worker.spend_retry(route, pool)
        });
        if verdict.held_against {
            lease.failed(&self.worker, failure.kind(), failure.reason);
        }
        self.afresh = verdict.afresh;
        if verdict.afresh {
            // Those kept beside it are likely dead too.
            self.worker.idle.forget(lease.member().endpoint.uid);
        }
        match verdict.next {
            retry::NextAttempt::Here { counted: false } => {
                self.replaced = true;
                self.noted.attempts -= 1;
            }
            retry::NextAttempt::Here { counted: true } | retry::NextAttempt::Elsewhere { .. } => {
                count_retry(pool, failure.kind());
            }
            retry::NextAttempt::Deliver | retry::NextAttempt::GiveUp => {}
        }
        verdict.next
    }

    /// Leaves an endpoint for another one.
    fn leave(&mut self, lease: Lease) {
        self.tried.add(lease.index);
        drop(lease);
        if self.pool().all_tried(&self.tried) {
            // Nobody else is left: the same ones again.
            self.tried = Tried::default();
        }
    }

    /// Waits before another attempt, which is made for nobody who has left.
    async fn pause(&mut self, for_ms: u64) -> Result<(), Reason> {
        if for_ms > 0 {
            return Box::pin(self.connection.pause(for_ms)).await;
        }
        let gone =
            std::future::poll_fn(|cx| Poll::Ready(self.connection.poll_client_gone(cx).is_ready()));
        if gone.await {
            return Err(Reason::ClientGone);
        }
        Ok(())
    }

    async fn refuse(&mut self, refusal: Refusal) -> Next {
        self.body.abandon(self.connection);
        let head = &self.scratch.request;
        refuse(self.connection, self.context, head, self.noted, refusal).await
    }
}

fn count_retry(pool: &Pool, kind: ErrorKind) {
    let counter = match kind {
        ErrorKind::Connect => 0,
        ErrorKind::Timeout => 2,
        ErrorKind::Status => 3,
        ErrorKind::Reset | ErrorKind::Protocol => 1,
    };
    pool.state.retries[counter].fetch_add(1, Ordering::Relaxed);
}

/// What decides which endpoint of a pool a request goes to: its hash, and the endpoint that its
/// session belongs to.
fn choice_of(
    pool: &Pool,
    head: &RequestHead,
    connection: &Connection,
    client: Option<IpAddr>,
) -> (u64, Option<u32>) {
    let base = connection.buffer.bytes();
    let sticky = pool.sticky.as_ref();
    let wanted = sticky.and_then(|sticky| sticky.member(head, base));
    (lease::choice_hash(pool, head, connection, client), wanted)
}

/// Whether a method promises that doing it twice is doing it once (RFC 9110 §9.2.2).
pub fn is_idempotent(method: &[u8]) -> bool {
    matches!(
        method,
        b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE"
    )
}
