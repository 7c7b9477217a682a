//! Durations counted in fixed buckets.
//!
//! One histogram belongs to one worker, which records into it without atomics; a snapshot merges
//! the workers' copies. Bounds are the same for all, so that merging is addition.

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

/// Number of bounds; there is one bucket more, for what is longer than the last.
pub const BOUNDS: usize = 16;

/// Inclusive upper bounds of the buckets, in seconds.
pub const BOUNDS_S: [f64; BOUNDS] = [
    0.0005, 0.001, 0.0025, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0,
];

/// How many bounds at most lie between two neighbouring powers of two.
const STEPS: usize = 2;

/// [`BOUNDS_S`] in nanoseconds, padded so that [`STEPS`] comparisons never run off the end.
const BOUNDS_NS: [u64; BOUNDS + STEPS] = bounds_ns();

/// For each bit length of a duration, the bucket of the shortest duration of that length.
const FIRST: [u8; 65] = first_buckets();

/// How many durations fell into each bucket, and their sum.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BOUNDS + 1],
    // 64 bits of nanoseconds hold 584 years, which 10,000 requests in flight fill in three weeks.
    sum_ns: u128,
}

impl Histogram {
    /// Counts one duration, in nanoseconds.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        let mut bucket = usize::from(FIRST[(u64::BITS - ns.leading_zeros()) as usize]);
        for _ in 0..STEPS {
            bucket += usize::from(ns > BOUNDS_NS[bucket]);
        }
        self.counts[bucket] += 1;
        self.sum_ns += u128::from(ns);
    }

    /// Adds what another histogram counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.sum_ns += other.sum_ns;
    }

    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Durations per bucket, not cumulative; the last bucket has no upper bound.
    pub fn counts(&self) -> &[u64; BOUNDS + 1] {
        &self.counts
    }

    /// The sum of all durations, in seconds.
    pub fn sum_s(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut document = serializer.serialize_struct("Histogram", 2)?;
        document.serialize_field("counts", &self.counts)?;
        document.serialize_field("sum_s", &self.sum_s())?;
        document.end()
    }
}

const fn bounds_ns() -> [u64; BOUNDS + STEPS] {
    let mut bounds = [u64::MAX; BOUNDS + STEPS];
    let mut i = 0;
    while i < BOUNDS {
        // Half a nanosecond more, because the decimal fractions are not exact in binary.
        bounds[i] = (BOUNDS_S[i] * 1e9 + 0.5) as u64;
        i += 1;
    }
    bounds
}

const fn first_buckets() -> [u8; 65] {
    let mut first = [0; 65];
    let mut bits = 1;
    while bits <= 64 {
        let shortest = 1 << (bits - 1);
        let mut bucket = 0;
        while bucket < BOUNDS && BOUNDS_NS[bucket] < shortest {
            bucket += 1;
        }
        first[bits] = bucket as u8;
        bits += 1;
    }
    first
}
