//! What the engine knows of one endpoint while it runs. Joined to plans by identity (pool, id and
//! target), so that it outlives every plan that keeps the endpoint.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::address::{Address, Preferred};
use arc_swap::ArcSwap;

use crate::breaker::Breaker;

/// Healthy as the control plane sees it.
pub const UP: u32 = 1;
/// Takes no new requests.
pub const DRAIN: u32 = 2;
/// Set aside for failing requests.
pub const EJECTED: u32 = 4;
/// There is an address to connect to.
pub const RESOLVED: u32 = 8;
/// No plan has it any more.
pub const GONE: u32 = 16;

/// The time over which a latency estimate forgets.
const LATENCY_TAU_MS: f32 = 10_000.0;

/// How far an estimate may be ahead of the clock of who reads it.
const AHEAD_MS: u32 = 60_000;

/// Runtime state, shared by all workers. Aligned so that two endpoints never share a cache line; what
/// each request reads or writes comes first, in one line.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Endpoint {
    state: AtomicU32,
    in_flight: AtomicU32,
    max_connections: AtomicU32,
    weight: AtomicU32,
    consecutive: AtomicU32,
    /// Raised when connections made so far are not to be used again.
    epoch: AtomicU32,
    /// A number never used again in this process: the key of worker-local state.
    pub uid: u32,
    /// How often it was ejected without a long calm between.
    pub ejections: AtomicU32,
    /// The decaying latency (f32 bits of milliseconds, high half) and when it was last updated
    /// (milliseconds, low half).
    latency: AtomicU64,
    /// Lets requests pass or not.
    pub breaker: Breaker,
    /// Milliseconds on the engine's clock; 0 while not ejected.
    pub ejected_until_ms: AtomicU64,
    /// Where to connect, tried by Happy Eyeballs.
    pub addresses: ArcSwap<Vec<Address>>,
    /// Which of them worked last.
    pub preferred: Preferred,
    /// The pool's name.
    pub pool: String,
    /// The endpoint's id.
    pub id: String,
    /// Host and port as configured.
    pub target: String,
}

/// Why an endpoint takes no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// Its name has no address.
    Unresolved,
    /// Health checks failed.
    Down,
    /// It is being drained.
    Draining,
    /// It failed too many requests in a row.
    Ejected,
    /// Its breaker is open, or half open with as many probes out as may be.
    Broken,
    /// It has as many requests in flight as it may.
    Full,
}

impl Unusable {
    /// The word for it in explanations.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unresolved => "unresolved",
            Self::Down => "down",
            Self::Draining => "draining",
            Self::Ejected => "ejected",
            Self::Broken => "breaker_open",
            Self::Full => "full",
        }
    }
}

impl Endpoint {
    /// A new endpoint that is down and without addresses until [`Endpoint::configure`].
    pub fn new(uid: u32, pool: &str, id: &str, target: &str) -> Self {
        Self {
            uid,
            pool: pool.into(),
            id: id.into(),
            target: target.into(),
            addresses: ArcSwap::from_pointee(Vec::new()),
            preferred: Preferred::default(),
            state: AtomicU32::new(0),
            in_flight: AtomicU32::new(0),
            weight: AtomicU32::new(1),
            max_connections: AtomicU32::new(0),
            consecutive: AtomicU32::new(0),
            epoch: AtomicU32::new(0),
            ejected_until_ms: AtomicU64::new(0),
            ejections: AtomicU32::new(0),
            latency: AtomicU64::new(0),
            breaker: Breaker::default(),
        }
    }

    /// Takes over what a plan or an update says; `None` leaves a value as it is. Whether the
    /// connections made so far are of no more use: they lead where the endpoint is no longer, or
    /// it takes no requests.
    pub fn configure(
        &self,
        up: Option<bool>,
        drain: Option<bool>,
        weight: Option<u32>,
        max_connections: Option<u32>,
        addresses: Option<&[Address]>,
    ) -> bool {
        let mut stale = false;
        if let Some(addresses) = addresses {
            let old = self.addresses.load();
            if old.as_slice() != addresses {
                stale = old.iter().any(|address| !addresses.contains(address));
                self.addresses.store(addresses.to_vec().into());
            }
            self.flag(RESOLVED, !addresses.is_empty());
        }
        if let Some(up) = up {
            stale |= self.flag(UP, up) && !up;
        }
        if let Some(drain) = drain {
            stale |= !self.flag(DRAIN, drain) && drain;
        }
        if let Some(weight) = weight {
            self.weight.store(weight.max(1), Ordering::Relaxed);
        }
        if let Some(max) = max_connections {
            self.max_connections.store(max, Ordering::Relaxed);
        }
        if stale {
            self.epoch.fetch_add(1, Ordering::AcqRel);
        }
        stale
    }

    /// What a connection remembers when it is made; another one later means that it is not to be
    /// used again. To be read before the addresses.
    #[inline]
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// What `Host` says to it where the client said nothing.
    pub fn authority(&self) -> &str {
        if self.target.starts_with("unix:") {
            "localhost"
        } else {
            &self.target
        }
    }

    /// Sets or clears a state bit; whether it was set before.
    #[inline]
    pub fn flag(&self, bit: u32, on: bool) -> bool {
        let before = if on {
            self.state.fetch_or(bit, Ordering::AcqRel)
        } else {
            self.state.fetch_and(!bit, Ordering::AcqRel)
        };
        before & bit != 0
    }

    /// Whether a state bit is set.
    #[inline]
    pub fn has(&self, bit: u32) -> bool {
        self.state.load(Ordering::Acquire) & bit != 0
    }

    /// Whether it may take a request now. `desperate` looks past health: only draining, missing
    /// addresses, an open breaker and a full house count.
    #[inline]
    pub fn usable(&self, desperate: bool) -> Result<(), Unusable> {
        let state = self.state.load(Ordering::Acquire);
        if state & RESOLVED == 0 {
            return Err(Unusable::Unresolved);
        }
        if state & DRAIN != 0 {
            return Err(Unusable::Draining);
        }
        if !desperate {
            if state & UP == 0 {
                return Err(Unusable::Down);
            }
            if state & EJECTED != 0 {
                return Err(Unusable::Ejected);
            }
        }
        if !self.breaker.allows() {
            return Err(Unusable::Broken);
        }
        let max = self.max_connections.load(Ordering::Relaxed);
        if max != 0 && self.in_flight.load(Ordering::Relaxed) >= max {
            return Err(Unusable::Full);
        }
        Ok(())
    }

    /// Counts a request in, unless that would exceed the bound.
    #[inline]
    pub fn enter(&self) -> bool {
        let max = self.max_connections.load(Ordering::Relaxed);
        if max == 0 {
            self.in_flight.fetch_add(1, Ordering::AcqRel);
            return true;
        }
        // Never above the bound, not even for a moment: a place that becomes free just then would
        // look taken to whoever offers it to those who wait.
        let entered = |count| (count < max).then_some(count + 1);
        self.in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, entered)
            .is_ok()
    }

    /// Counts a request out. `SeqCst`: whoever looks for waiters afterwards finds those who saw the
    /// place taken.
    #[inline]
    pub fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    /// Requests (TCP: connections) in flight.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Relative weight.
    #[inline]
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// A request went well.
    #[inline]
    pub fn succeeded(&self) {
        // Read first: a store would take the cache line from the other workers each time.
        if self.consecutive.load(Ordering::Relaxed) != 0 {
            self.consecutive.store(0, Ordering::Relaxed);
        }
    }

    /// A request failed; how many did in a row.
    pub fn failed(&self) -> u32 {
        self.consecutive.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Forgets the failures in a row.
    pub fn forget_failures(&self) {
        self.consecutive.store(0, Ordering::Relaxed);
    }

    /// Takes one answer's latency into the estimate: an exponentially weighted moving average over
    /// about ten seconds, whatever the request rate. Two workers may overwrite each other's
    /// update; an estimate can bear that.
    pub fn observe_latency(&self, latency_ms: f32, now_ms: u64) {
        let (old, age) = self.raw_latency(now_ms);
        let keep = if old == 0.0 {
            0.0
        } else {
            LATENCY_TAU_MS / (LATENCY_TAU_MS + age.max(LATENCY_TAU_MS / 20.0))
        };
        let new = old.mul_add(keep, latency_ms * (1.0 - keep)).max(0.001);
        let packed = u64::from(new.to_bits()) << 32 | (now_ms & 0xffff_ffff);
        self.latency.store(packed, Ordering::Relaxed);
    }

    /// The estimate in milliseconds; one that was not renewed for long fades, so that an idle
    /// endpoint is tried again. 0 before the first answer.
    #[inline]
    pub fn latency_ms(&self, now_ms: u64) -> f32 {
        let (value, age) = self.raw_latency(now_ms);
        value * LATENCY_TAU_MS / (LATENCY_TAU_MS + age)
    }

    fn raw_latency(&self, now_ms: u64) -> (f32, f32) {
        let packed = self.latency.load(Ordering::Relaxed);
        let mut age = (now_ms as u32).wrapping_sub(packed as u32);
        if age > u32::MAX - AHEAD_MS {
            // Another worker has looked at the clock since this one did.
            age = 0;
        }
        (f32::from_bits((packed >> 32) as u32), age as f32)
    }
}
