//! Circuit breakers, of an endpoint and of a pool as a whole.
//!
//! Python judges shares of failures once a second and says when an open breaker lets probes through.
//! Here is what cannot wait for that: refusing while open, counting the probes while half open, and
//! what a row of failures or a probe's outcome does at once.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// What a breaker does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Lets all pass.
    Closed,
    /// Lets none pass.
    Open,
    /// Lets so many pass, whose outcomes decide.
    HalfOpen,
    /// Lets all pass, whatever comes of it.
    Held,
}

/// One breaker.
#[derive(Debug, Default)]
pub struct Breaker {
    /// The state (from bit 48), how many may pass while half open (32), how many of these have no
    /// outcome yet (16) and how many went well (0).
    gate: AtomicU64,
    consecutive: AtomicU32,
    /// When an open one lets probes through, on the engine's clock; 0 where that is not known.
    pub until_ms: AtomicU64,
    /// Requests with an outcome.
    pub requests: AtomicU64,
    /// Those that failed.
    pub failed: AtomicU64,
    /// Those that were answered too slowly.
    pub slow: AtomicU64,
    /// Requests refused.
    pub refused: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct Admission {
    state: BreakerState,
    limit: u16,
    probes: u16,
    passed: u16,
}

impl From<u64> for Admission {
    fn from(bits: u64) -> Self {
        Self {
            state: match bits >> 48 {
                0 => BreakerState::Closed,
                1 => BreakerState::Open,
                2 => BreakerState::HalfOpen,
                _ => BreakerState::Held,
            },
            limit: (bits >> 32) as u16,
            probes: (bits >> 16) as u16,
            passed: bits as u16,
        }
    }
}

impl From<Admission> for u64 {
    fn from(gate: Admission) -> Self {
        (gate.state as Self) << 48
            | Self::from(gate.limit) << 32
            | Self::from(gate.probes) << 16
            | Self::from(gate.passed)
    }
}

impl Admission {
    fn allows(self) -> bool {
        match self.state {
            BreakerState::Closed | BreakerState::Held => true,
            BreakerState::Open => false,
            BreakerState::HalfOpen => self.probes.saturating_add(self.passed) < self.limit,
        }
    }
}

/// How a request went.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools)] // Four answers to four questions.
pub struct Outcome {
    /// It was answered, and not with a 5xx.
    pub well: bool,
    /// It took too long.
    pub slow: bool,
    /// It was let through by a half-open breaker.
    pub probe: bool,
    /// Its outcome was told before: an answer that broke off.
    pub again: bool,
}

impl Breaker {
    fn gate(&self) -> Admission {
        self.gate.load(Ordering::Acquire).into()
    }

    fn change(&self, change: impl Fn(Admission) -> Option<Admission>) -> Option<Admission> {
        let changed = self
            .gate
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |bits| {
                change(bits.into()).map(u64::from)
            });
        changed.ok().map(Admission::from)
    }

    /// Puts it into a state; so many may pass while it is half open.
    pub fn set(&self, state: BreakerState, limit: u16, until_ms: u64) {
        self.until_ms.store(until_ms, Ordering::Release);
        self.consecutive.store(0, Ordering::Relaxed);
        self.change(|gate| {
            Some(Admission {
                state,
                limit,
                passed: 0,
                ..gate
            })
        });
    }

    /// Whether a request may pass now.
    #[inline]
    pub fn allows(&self) -> bool {
        self.gate().allows()
    }

    /// Lets a request pass, or not; whether it is a probe.
    #[inline]
    pub fn enter(&self) -> Option<bool> {
        let gate = self.gate();
        if gate.state != BreakerState::HalfOpen {
            return gate.allows().then_some(false);
        }
        let before = self.change(|gate| {
            let probes = gate.probes + u16::from(gate.state == BreakerState::HalfOpen);
            gate.allows().then_some(Admission { probes, ..gate })
        });
        before.map(|gate| gate.state == BreakerState::HalfOpen)
    }

    /// A probe ended without an outcome: another one may pass in its place.
    #[inline]
    pub fn leave(&self) {
        self.change(|gate| {
            let probes = gate.probes.saturating_sub(1);
            Some(Admission { probes, ..gate })
        });
    }

    /// Takes a request's outcome; the state that follows from it at once, and why. So many failures
    /// in a row open it; 0 is no bound.
    pub fn told(
        &self,
        outcome: Outcome,
        consecutive_errors: u32,
    ) -> Option<(BreakerState, String)> {
        self.requests
            .fetch_add(u64::from(!outcome.again), Ordering::Relaxed);
        if outcome.slow && !outcome.again {
            self.slow.fetch_add(1, Ordering::Relaxed);
        }
        if outcome.well {
            if self.consecutive.load(Ordering::Relaxed) != 0 {
                self.consecutive.store(0, Ordering::Relaxed);
            }
        } else {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        if outcome.probe {
            return self.probed(outcome.well && !outcome.slow);
        }
        if outcome.well || consecutive_errors == 0 {
            return None;
        }
        let row = self.consecutive.fetch_add(1, Ordering::Relaxed) + 1;
        if row < consecutive_errors {
            return None;
        }
        self.until_ms.store(0, Ordering::Release);
        self.change(|gate| {
            let state = BreakerState::Open;
            (gate.state == BreakerState::Closed).then_some(Admission { state, ..gate })
        })?;
        Some((BreakerState::Open, format!("{row} consecutive errors")))
    }

    fn probed(&self, well: bool) -> Option<(BreakerState, String)> {
        let after = |gate: Admission| {
            let probes = gate.probes.saturating_sub(1);
            let passed = gate.passed.saturating_add(u16::from(well));
            let state = match gate.state {
                BreakerState::HalfOpen if !well => BreakerState::Open,
                BreakerState::HalfOpen if passed >= gate.limit => BreakerState::Closed,
                state => state,
            };
            Admission {
                state,
                probes,
                passed,
                ..gate
            }
        };
        let before = self.change(|gate| Some(after(gate)))?;
        let now = after(before);
        if before.state == now.state {
            return None;
        }
        let reason = match now.state {
            BreakerState::Closed => format!("{} probes went well", now.passed),
            _ => "a probe failed or was too slow".into(),
        };
        Some((now.state, reason))
    }
}
