//! A pool: its members and rules, how a request is counted in at an endpoint and out again, and how a
//! place that became free goes to the request that has waited longest.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use evenflow_state::breaker::Breaker;
use evenflow_state::endpoint::Unusable;
use evenflow_state::queue::{Offer, Queue};

use crate::member::Member;
use crate::picker::{Candidates, Choice, Picked, Picker, Tried, pick};
use crate::plan::{self, Panic};
use crate::sticky::Sticky;
use crate::tls::client::Rules;

/// A pool's members and rules.
#[derive(Debug, Clone)]
pub struct Pool {
    /// The number of these rules and members, never used again in this process.
    pub rules: u32,
    /// Its name.
    pub name: Arc<str>,
    /// How a member is chosen.
    pub picker: Picker,
    /// The members.
    pub members: Arc<[Member]>,
    /// When none is usable, use all that are not draining.
    pub use_all: bool,
    /// What happens while too few are usable.
    pub panic: Option<plan::Panic>,
    /// Requests that wait while all are full.
    pub queue: plan::QueuePlan,
    /// Passive health.
    pub outlier: Option<plan::Outlier>,
    /// Circuit breakers.
    pub breaker: Option<plan::BreakerPlan>,
    /// Upstream connections.
    pub connections: plan::Connections,
    /// Sessions that stay with an endpoint.
    pub sticky: Option<Arc<Sticky>>,
    /// Retries as a share of live requests.
    pub retry_budget: f64,
    /// Retries per second allowed in any case.
    pub retry_floor: u32,
    /// The PROXY header that connections begin with.
    pub send_proxy: Option<plan::ProxyVersion>,
    /// Whether `state.in_flight` is kept.
    pub counts_in_flight: bool,
    /// Encryption to endpoints, as it was wanted and compiled.
    pub tls: Option<Arc<(plan::UpstreamTls, Rules)>>,
    /// Runtime state, kept across tables by name.
    pub state: Arc<LivePool>,
}

impl Pool {
    /// The pool as pickers see it.
    #[inline]
    pub fn candidates(&self) -> Candidates<'_> {
        Candidates {
            picker: &self.picker,
            members: &self.members,
            use_all: self.use_all,
            panic: self.panic,
            cursor: &self.state.cursor,
            in_flight: &self.state.in_flight,
            rules: self.rules,
            exhausted: &self.state.exhausted,
        }
    }

    /// Whether endpoints get requests although their health speaks against it.
    pub fn looks_past_health(&self) -> bool {
        self.use_all || self.panic == Some(plan::Panic::UseAll)
    }

    /// Whether every member that could serve has been tried.
    pub fn all_tried(&self, tried: &Tried) -> bool {
        let choice = Choice {
            hash: 0,
            tried,
            now_ms: 0,
            dry: true,
        };
        !matches!(pick(&self.candidates(), &choice), Picked::Member(_))
    }

    /// Whether breakers refuse requests that endpoints could serve otherwise: the time in
    /// milliseconds until one lets some pass.
    pub fn broken(&self, now_ms: u64) -> Option<u64> {
        self.breaker?;
        let left = |breaker: &Breaker| {
            let until = breaker.until_ms.load(Ordering::Acquire);
            until.saturating_sub(now_ms)
        };
        if !self.state.breaker.allows() {
            return Some(left(&self.state.breaker));
        }
        let all = self.members.iter().map(|member| &member.endpoint);
        let past_health = self.looks_past_health();
        all.filter(|endpoint| endpoint.usable(past_health) == Err(Unusable::Broken))
            .map(|endpoint| left(&endpoint.breaker))
            .min()
    }
}

/// What is known of a pool while it runs. In its queue, a grant of `None` says that no endpoint can
/// serve the request any more.
pub type LivePool = evenflow_state::pool::PoolState<Queue<Waiter, Option<Seat>>>;

/// The endpoint's half-open breaker admitted the request.
pub const PROBE: u8 = 2;
/// The pool's half-open breaker admitted the request.
pub const POOL_PROBE: u8 = 4;

impl Pool {
    /// Counts a request in at one endpoint, if that takes it; which breakers it is a probe of.
    pub fn enter(&self, index: u32, tried: &Tried) -> Option<u8> {
        let endpoint = &self.members.get(index as usize)?.endpoint;
        if tried.contains(index) || endpoint.usable(false).is_err() || !endpoint.enter() {
            return None;
        }
        self.admit(index)
    }

    /// Picks an endpoint until the breakers admit the request there: another request may take the
    /// last probe's place, of which `refused` is told.
    ///
    /// # Errors
    /// [`Picked::Full`] or [`Picked::None`].
    pub fn choose(&self, choice: &Choice<'_>, refused: impl Fn(u32)) -> Result<(u32, u8), Picked> {
        while self.lets_pass() {
            match pick(&self.candidates(), choice) {
                Picked::Member(index) => match self.admit(index) {
                    None => refused(index),
                    Some(probe) => return Ok((index, probe)),
                },
                none => return Err(none),
            }
        }
        Err(Picked::None)
    }

    /// Whether the pool's own breaker admits requests.
    fn lets_pass(&self) -> bool {
        self.breaker.is_none() || self.state.breaker.allows()
    }

    /// Has a request that is counted in at an endpoint pass the breakers, or counts it out again.
    fn admit(&self, index: u32) -> Option<u8> {
        if self.counts_in_flight {
            self.state.in_flight.fetch_add(1, Ordering::Relaxed);
        }
        if self.breaker.is_none() {
            return Some(0);
        }
        let own = &self.members[index as usize].endpoint.breaker;
        let mut probe = 0;
        for (breaker, bit) in [(&self.state.breaker, POOL_PROBE), (own, PROBE)] {
            match breaker.enter() {
                Some(true) => probe |= bit,
                Some(false) => {}
                None => {
                    self.count_out(index, probe);
                    return None;
                }
            }
        }
        Some(probe)
    }

    fn count_out(&self, index: u32, probe: u8) {
        let endpoint = &self.members[index as usize].endpoint;
        if probe & POOL_PROBE != 0 {
            self.state.breaker.leave();
        }
        if probe & PROBE != 0 {
            endpoint.breaker.leave();
        }
        if self.counts_in_flight {
            self.state.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
        endpoint.leave();
        self.state.exhausted.freed(self.rules, index);
    }

    /// Gives a place back; where requests wait, the first that can use it has it then.
    pub fn give_back(&self, index: u32, probe: u8) {
        self.count_out(index, probe);
        if probe & POOL_PROBE == 0 {
            self.offer_place(index);
        } else {
            offer_all(&self.state);
        }
    }

    /// Offers what is free at one endpoint to those who wait.
    pub fn offer_place(&self, index: u32) {
        let queue = &self.state.queue;
        if queue.waiting() > 0 {
            queue.offer(|waiter| waiter.asked_for(self, index));
        }
    }
}

/// Offers whatever is free in a pool to those who wait, after a change that may let more of them, or
/// none any more, be served.
pub fn offer_all(state: &LivePool) {
    state.exhausted.end();
    if state.queue.waiting() == 0 {
        return;
    }
    // What one without any constraint finds full is full for all who know the same members.
    let mut full = None;
    state.queue.offer(|waiter| {
        let pool = Arc::as_ptr(&waiter.pool);
        if full == Some(pool) {
            return Offer::Pass;
        }
        let offer = waiter.asked();
        if matches!(offer, Offer::Pass) && waiter.tried.is_empty() {
            full = Some(pool);
        }
        offer
    });
}

/// A request that waits for a place at an endpoint of a pool.
#[derive(Debug, Clone)]
pub struct Waiter {
    /// The pool as the request's table has it.
    pub pool: Arc<Pool>,
    /// The request's key, as [`Choice::hash`].
    pub hash: u64,
    /// The endpoint that its session belongs to.
    pub wanted: Option<u32>,
    /// Not these.
    pub tried: Tried,
    /// When it joined the queue, on the engine's clock.
    pub joined_ms: u64,
}

impl Waiter {
    fn choice(&self, dry: bool) -> Choice<'_> {
        Choice {
            hash: self.hash,
            tried: &self.tried,
            now_ms: self.joined_ms,
            dry,
        }
    }

    /// Whether all that could serve it are full.
    pub fn finds_full(&self) -> bool {
        self.pool.lets_pass() && pick(&self.pool.candidates(), &self.choice(true)) == Picked::Full
    }

    /// Takes whatever place there is for it.
    fn asked(&self) -> Offer<Option<Seat>> {
        if let Some(index) = self.wanted
            && self.pool.lets_pass()
            && let Some(probe) = self.pool.enter(index, &self.tried)
        {
            return Offer::Take(Some(self.seat(index, probe)));
        }
        match self.pool.choose(&self.choice(false), |_| {}) {
            Ok((index, probe)) => Offer::Take(Some(self.seat(index, probe))),
            Err(Picked::Full) => Offer::Pass,
            Err(_) => Offer::Take(None),
        }
    }

    /// Takes a place at an endpoint of a pool: its own as the same table or another one has it.
    fn asked_for(&self, pool: &Pool, index: u32) -> Offer<Option<Seat>> {
        let endpoint = &pool.members[index as usize].endpoint;
        let Some(own) = self.index_of(pool, index) else {
            return Offer::Pass;
        };
        if self.tried.contains(own) {
            return Offer::Pass;
        }
        if !self.pool.lets_pass() || self.pool.panic == Some(Panic::Fail) {
            return Offer::Stop;
        }
        match endpoint.usable(false) {
            Ok(()) => match self.pool.enter(own, &self.tried) {
                Some(probe) => Offer::Take(Some(self.seat(own, probe))),
                None => Offer::Stop,
            },
            Err(Unusable::Full) => Offer::Stop,
            Err(_) if self.pool.looks_past_health() => self.asked(),
            Err(_) => Offer::Stop,
        }
    }

    fn index_of(&self, pool: &Pool, index: u32) -> Option<u32> {
        if Arc::ptr_eq(&self.pool.members, &pool.members) {
            return Some(index);
        }
        let uid = pool.members[index as usize].endpoint.uid;
        let mut members = self.pool.members.iter();
        let found = members.position(|member| member.endpoint.uid == uid);
        found.map(|index| index as u32)
    }

    fn seat(&self, index: u32, probe: u8) -> Seat {
        Seat {
            pool: Arc::clone(&self.pool),
            index,
            probe,
            taken: false,
        }
    }
}

/// A place at an endpoint that a waiting request was granted, given back unless it is taken.
#[derive(Debug)]
pub struct Seat {
    pool: Arc<Pool>,
    index: u32,
    probe: u8,
    taken: bool,
}

impl Seat {
    /// The pool, the member and which breakers the request is a probe of; whoever takes it has to
    /// give the place back.
    pub fn taken(mut self) -> (Arc<Pool>, u32, u8) {
        self.taken = true;
        (Arc::clone(&self.pool), self.index, self.probe)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.taken {
            self.pool.give_back(self.index, self.probe);
        }
    }
}
