//! The engine's clock, one for all workers.
//!
//! Times are milliseconds since just before the engine's start and begin above 0, which means never.
//! One thread may look at the clock later than another and pass it an older time: differences of
//! times are taken by `saturating_sub`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// What the clock shows when it starts.
const START_NS: u64 = 1_000_000_000;

/// The clock. Exact on demand; [`Clock::get`] is the time of the last sweep of any worker, which
/// costs a load and is good enough for deadlines.
#[derive(Debug)]
pub struct Clock {
    epoch: Instant,
    coarse_ms: AtomicU64,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self {
            epoch: Instant::now(),
            coarse_ms: AtomicU64::new(START_NS / 1_000_000),
        }
    }

    /// A moment in nanoseconds.
    pub fn at_ns(&self, moment: Instant) -> u64 {
        moment.saturating_duration_since(self.epoch).as_nanos() as u64 + START_NS
    }

    /// The exact time in nanoseconds.
    pub fn now_ns(&self) -> u64 {
        self.at_ns(Instant::now())
    }

    /// The exact time in milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.now_ns() / 1_000_000
    }

    /// Brings the coarse time forward to now, for all workers; the exact time in milliseconds. The
    /// coarse time never goes back.
    pub fn advance(&self) -> u64 {
        let now = self.now_ms();
        self.coarse_ms.fetch_max(now, Ordering::Relaxed);
        now
    }

    /// The coarse time in milliseconds.
    #[inline]
    pub fn get(&self) -> u64 {
        self.coarse_ms.load(Ordering::Relaxed)
    }
}
