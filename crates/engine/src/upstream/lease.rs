//! A request's hold on an endpoint: taken when it is chosen, given back when the exchange ends, and
//! where what happened is told to passive health.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use evenflow_rules::key::hash_key;
use evenflow_rules::member::{ConnectionVersion, Member};
use evenflow_rules::picker::{Choice, Picked, Tried};
use evenflow_rules::plan::{Http, Panic};
use evenflow_rules::pool::{POOL_PROBE, PROBE, Pool, Seat, Waiter, offer_all};
use evenflow_rules::reason::Reason;
use evenflow_state::breaker::Outcome;
use evenflow_state::endpoint::{EJECTED, GONE};
use evenflow_state::stats::ErrorKind;
use evenflow_wire::http1::head::RequestHead;

use crate::connection::Connection;
use crate::events::Event;
use crate::stream::Stream;
use crate::worker::{Current, Worker};

/// A place at an endpoint.
#[derive(Debug)]
pub struct Lease {
    hold: Hold,
    /// The member's number in the pool.
    pub index: u32,
    /// What became of it so far; [`PROBE`] and [`POOL_PROBE`] besides these.
    marks: Cell<u8>,
}

/// The place is given back already.
const RELEASED: u8 = 1;
/// The answer took longer than the pool's breaker likes.
const SLOW: u8 = 8;
/// Breakers know the outcome.
const TOLD: u8 = 16;

/// How a lease knows its pool.
#[derive(Debug)]
enum Hold {
    /// By its number in a table: costs a request next to nothing.
    Table(Current, usize),
    /// By itself: a tunnel may outlive many tables.
    Pool(Arc<Pool>),
}

/// What the pool's picker needs to know of a request.
pub fn choice_hash(
    pool: &Pool,
    head: &RequestHead,
    connection: &Connection,
    client: Option<IpAddr>,
) -> u64 {
    pool.picker.key().map_or(0, |key| {
        hash_key(key, Some((head, connection.buffer.bytes())), client)
    })
}

/// Takes a place at an endpoint, waiting in the pool's queue when all are full or others wait.
///
/// # Errors
/// Why there is none.
pub async fn acquire(
    connection: &mut Connection,
    table: &Current,
    pool: usize,
    (hash, wanted): (u64, Option<u32>),
    tried: &Tried,
    deadline_ms: u64,
) -> Result<Lease, Reason> {
    if let Some(index) = wanted
        && let Some(lease) = try_member(table, pool, index, tried)
    {
        return Ok(lease);
    }
    match try_acquire(&connection.worker, table, pool, hash, tried) {
        Ok(lease) => Ok(lease),
        Err(Picked::Full) => {
            let waiter = Waiter {
                pool: Arc::clone(&table.pools[pool]),
                hash,
                wanted,
                tried: *tried,
                joined_ms: connection.worker.shared.now_ms(),
            };
            Box::pin(queue(connection, waiter, deadline_ms)).await
        }
        Err(_) => Err(none_of(&connection.worker, &table.pools[pool])),
    }
}

/// Takes a place at the endpoint that a session belongs to.
fn try_member(table: &Current, pool: usize, index: u32, tried: &Tried) -> Option<Lease> {
    let rules = &table.pools[pool];
    if rules.state.queue.waiting() > 0 {
        return None;
    }
    let marks = rules.enter(index, tried)?;
    Some(Lease::new(table, pool, index, marks))
}

/// Why no endpoint of a pool takes a request.
pub fn none_of(worker: &Worker, pool: &Pool) -> Reason {
    let own = &pool.state.breaker;
    if pool.panic == Some(Panic::Fail) && own.allows() {
        return Reason::TooFewBackends;
    }
    if pool.broken(worker.coarse_ms.get()).is_none() {
        return Reason::NoBackend;
    }
    own.refused.fetch_add(1, Ordering::Relaxed);
    Reason::BreakerOpen
}

/// Takes a place at an endpoint if there is one now and nobody waits for it.
///
/// # Errors
/// [`Picked::Full`] or [`Picked::None`].
pub fn try_acquire(
    worker: &Worker,
    table: &Current,
    pool: usize,
    hash: u64,
    tried: &Tried,
) -> Result<Lease, Picked> {
    let rules = &table.pools[pool];
    if rules.state.queue.waiting() > 0 {
        return Err(Picked::Full);
    }
    let choice = Choice {
        hash,
        tried,
        now_ms: worker.coarse_ms.get(),
        dry: false,
    };
    let (index, marks) = rules.choose(&choice, |index| rules.offer_place(index))?;
    Ok(Lease::new(table, pool, index, marks))
}

/// Waits in the pool's queue for a place.
async fn queue(
    connection: &mut Connection,
    waiter: Waiter,
    deadline_ms: u64,
) -> Result<Lease, Reason> {
    let pool = Arc::clone(&waiter.pool);
    let (rules, state) = (pool.queue, &pool.state);
    let until_ms = waiter.joined_ms + rules.timeout_ms;
    let rejected = || {
        state.queue_rejected.fetch_add(1, Ordering::Relaxed);
        Err(Reason::QueueFull)
    };
    if state.queue.waiting() >= rules.max && waiter.finds_full() {
        return rejected();
    }
    let waits_for = waiter.clone();
    let place = state.queue.join(waiter);
    // What became free before it joined was offered to nobody, or to others that had no use for it.
    if !waits_for.finds_full() {
        offer_all(state);
    }
    let worker = Rc::clone(&connection.worker);
    let granted = |seat: Option<Seat>| seat.map(Lease::from).ok_or_else(|| none_of(&worker, &pool));
    if let Some(seat) = place.fetch() {
        return granted(seat);
    }
    if place.ahead >= rules.max {
        return rejected();
    }
    connection.slot.arm(until_ms.min(deadline_ms));
    poll_fn(|cx| {
        if connection.poll_client_gone(cx).is_ready() {
            return Poll::Ready(Err(Reason::ClientGone));
        }
        if let Poll::Ready(seat) = place.poll(cx) {
            return Poll::Ready(granted(seat));
        }
        if connection.slot.fired() {
            state.queue_timeouts.fetch_add(1, Ordering::Relaxed);
            return Poll::Ready(Err(Reason::QueueTimeout));
        }
        Poll::Pending
    })
    .await
}

impl Lease {
    /// For a request that is counted in.
    fn new(table: &Current, pool: usize, index: u32, marks: u8) -> Self {
        Self {
            hold: Hold::Table(Rc::clone(table), pool),
            index,
            marks: Cell::new(marks),
        }
    }

    /// The pool's rules.
    pub fn pool(&self) -> &Pool {
        match &self.hold {
            Hold::Table(table, pool) => &table.pools[*pool],
            Hold::Pool(pool) => pool,
        }
    }

    /// A kept connection to the endpoint that was made as one would be made now. With PROXY headers
    /// there is none: a header says who the whole connection is from. `switching` as in
    /// [`reach`](crate::upstream::reach).
    pub fn kept(
        &self,
        worker: &Worker,
        made: ConnectionVersion,
        switching: bool,
    ) -> Option<Stream> {
        if self.pool().send_proxy.is_some() {
            return None;
        }
        let member = self.member();
        let uid = member.endpoint.uid;
        match member.http {
            Http::H1 => worker.idle.take(uid, made),
            Http::H2 => worker.idle.links.take(uid, made),
            Http::Auto if switching => worker.idle.take(uid, made),
            Http::Auto => {
                let stream = worker.idle.links.take(uid, made);
                stream.or_else(|| worker.idle.take(uid, made))
            }
        }
    }

    /// Whether a connection of HTTP/2 to the endpoint carries the exchanges of others as well.
    pub fn shares(&self) -> bool {
        self.pool().send_proxy.is_none() && self.pool().connections.max_idle != Some(0)
    }

    /// Keeps a connection for later, unless the endpoint has become another since it was made, or
    /// a PROXY header made it one client's.
    pub fn keep(&self, worker: &Worker, made: ConnectionVersion, stream: Stream) {
        if stream.is_http2() || self.pool().send_proxy.is_some() || made != self.member().made() {
            return;
        }
        let rules = &self.pool().connections;
        let until = worker.coarse_ms.get() + rules.idle_ms;
        let uid = self.member().endpoint.uid;
        worker.idle.give(uid, made, stream, rules.max_idle, until);
    }

    /// Lets go of the table, which may be replaced long before the lease ends.
    pub fn settle(&mut self) {
        if let Hold::Table(table, pool) = &self.hold {
            self.hold = Hold::Pool(Arc::clone(&table.pools[*pool]));
        }
    }

    /// The endpoint and its timeouts.
    pub fn member(&self) -> &Member {
        &self.pool().members[self.index as usize]
    }

    fn mark(&self, mark: u8) {
        self.marks.set(self.marks.get() | mark);
    }

    /// Notes how long the endpoint took to begin its answer.
    pub fn answered_after(&self, latency: Duration) {
        if let Some(breaker) = &self.pool().breaker
            && breaker.slow_ms != 0
            && latency.as_millis() as u64 > breaker.slow_ms
        {
            self.mark(SLOW);
        }
    }

    /// The endpoint answered well.
    pub fn succeeded(&self, worker: &Worker) {
        self.member().endpoint.succeeded();
        self.tell_breakers(worker, true);
    }

    /// Tells the breakers how it went.
    fn tell_breakers(&self, worker: &Worker, well: bool) {
        #[cfg(feature = "fault-injection")]
        worker.inject(crate::worker::PanicAt::Request);
        let pool = self.pool();
        let Some(rules) = &pool.breaker else { return };
        let marks = self.marks.get();
        self.marks.set(marks & !(PROBE | POOL_PROBE) | TOLD);
        let endpoint = &self.member().endpoint;
        let own = (
            rules.endpoints.then_some(rules.consecutive_errors),
            &endpoint.breaker,
            PROBE,
            Some(&endpoint.id),
        );
        let whole = (
            rules.whole.then_some(rules.pool_consecutive_errors),
            &pool.state.breaker,
            POOL_PROBE,
            None,
        );
        for (row, breaker, probe, backend) in [own, whole] {
            let outcome = Outcome {
                well,
                slow: marks & SLOW != 0,
                probe: marks & probe != 0,
                again: marks & TOLD != 0,
            };
            if let Some(row) = row
                && let Some((state, reason)) = breaker.told(outcome, row)
            {
                offer_all(&pool.state);
                worker.shared.events.push(Event::Breaker {
                    pool: endpoint.pool.clone(),
                    backend: backend.cloned(),
                    state,
                    reason,
                });
            }
        }
    }

    /// The endpoint failed; after too many in a row it is ejected. It is not to blame for what this
    /// machine lacks.
    pub fn failed(&self, worker: &Worker, kind: ErrorKind, reason: Reason) {
        if reason == Reason::NoSocket {
            return;
        }
        let endpoint = &self.member().endpoint;
        worker.stats.borrow_mut().endpoint(endpoint.uid).errors[kind as usize] += 1;
        self.tell_breakers(worker, false);
        let Some(outlier) = &self.pool().outlier else {
            return;
        };
        let failures = endpoint.failed();
        if failures < outlier.consecutive_errors || endpoint.has(EJECTED) {
            return;
        }
        let pool = self.pool();
        let size = pool.members.len() as f64;
        let share = (size * outlier.max_ejected).floor() as u32;
        let max = match pool.members.len() {
            1 => 0,
            _ if outlier.max_ejected > 0.0 => share.max(1),
            _ => 0,
        };
        let ejected = &pool.state.ejected;
        if ejected.fetch_add(1, Ordering::AcqRel) >= max {
            ejected.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        if endpoint.flag(EJECTED, true) {
            ejected.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        let now = worker.shared.now_ms();
        let calm = endpoint.ejected_until_ms.load(Ordering::Acquire) + outlier.max_ejection_ms;
        if calm < now {
            endpoint.ejections.store(0, Ordering::Release);
        }
        let times = u64::from(endpoint.ejections.fetch_add(1, Ordering::AcqRel)) + 1;
        let for_ms = (outlier.base_ejection_ms * times).min(outlier.max_ejection_ms);
        endpoint
            .ejected_until_ms
            .store(now + for_ms, Ordering::Release);
        let shared = &worker.shared;
        let entry = (Arc::clone(endpoint), Arc::clone(&pool.state));
        let mut list = shared
            .ejected
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if endpoint.has(GONE) {
            // A plan took it away meanwhile, and looked for it in the list before this.
            ejected.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        list.push(entry);
        drop(list);
        pool.state.ejections.fetch_add(1, Ordering::Relaxed);
        let last = match kind {
            ErrorKind::Status => "a 5xx status",
            _ => reason.label(),
        };
        shared.events.push(Event::Ejected {
            pool: endpoint.pool.clone(),
            backend: endpoint.id.clone(),
            reason: format!("{failures} consecutive errors, the last: {last}"),
            for_s: for_ms as f64 / 1000.0,
        });
    }

    /// Adds to the endpoint's byte counts.
    pub fn count_bytes(&self, worker: &Worker, sent: u64, received: u64) {
        let mut stats = worker.stats.borrow_mut();
        let endpoint = stats.endpoint(self.member().endpoint.uid);
        endpoint.bytes_sent += sent;
        endpoint.bytes_received += received;
    }
}

impl Lease {
    /// Gives the place back before the lease itself ends.
    pub fn release(&self) {
        let marks = self.marks.get();
        if marks & RELEASED != 0 {
            return;
        }
        self.marks.set(RELEASED | marks & TOLD);
        self.pool().give_back(self.index, marks);
    }
}

impl From<Seat> for Lease {
    fn from(seat: Seat) -> Self {
        let (pool, index, marks) = seat.taken();
        Self {
            hold: Hold::Pool(pool),
            index,
            marks: Cell::new(marks),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.release();
    }
}
