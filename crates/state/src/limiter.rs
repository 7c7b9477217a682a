//! Rate limits: the generic cell rate algorithm (GCRA), per key, shared by all workers.
//!
//! A key's whole state is the time at which it would be at rest again, its theoretical arrival time
//! (TAT). A request that passes moves it on by one interval (1 / rate); a request is refused when
//! that would put it further ahead of now than the burst allows.
//!
//! A slot packs a 24-bit tag of the key and a 40-bit TAT into one atomic word. So claiming, charging
//! and evicting are each one compare-and-swap, a torn state cannot exist, and what passes is exact
//! over all threads without a lock. The price: one key in about two million shares the limit of
//! another one. Which ones cannot be chosen from outside, as keys are hashed with a secret seed.
//!
//! The TAT counts 1024ths of an interval and wraps around after 2³⁰ intervals. A TAT that no recent
//! request can have left is taken for one at rest, so a wrap is noticed only by a key that returns
//! after months to the very moment, and costs it part of one burst.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

const TAT_BITS: u32 = 40;
const TAT_MASK: u64 = (1 << TAT_BITS) - 1;
const TAG_MASK: u64 = (1 << (u64::BITS - TAT_BITS)) - 1;
/// Ticks in one interval.
const INTERVAL: u64 = 1024;
/// More could not be told from a TAT in the past.
const MAX_BURST: u32 = 1 << 28;
const RATES: std::ops::RangeInclusive<f64> = 1e-9..=1e9;
/// The furthest that a debt may put a TAT ahead: so many bursts and so many seconds at the rate.
const DEBT_BURSTS: u64 = 16;
const DEBT_S: f64 = 10.0;
/// How far the clock readings of two threads may lie apart.
const MAX_SKEW_S: f64 = 10.0;
const WAYS: usize = 8;

/// A limit and the state of its keys.
#[derive(Debug)]
pub struct Limiter {
    /// Ticks per nanosecond are `scale` / 2^`shift`.
    scale: u64,
    shift: u32,
    tick_ns: f64,
    /// The burst in ticks.
    burst: u64,
    /// The furthest in ticks that a TAT may be ahead: the burst, or more where there is debt.
    most: u64,
    /// The furthest in ticks that a TAT may be ahead of a thread's reading of the clock.
    horizon: u64,
    /// Slots used in each set; below [`WAYS`] only when fewer keys are wanted.
    ways: usize,
    sets: Box<[Set]>,
}

/// The slots that a key may live in: one cache line. Zero is an empty slot; they fill in order.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

/// What became of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may pass; only then was it charged.
    pub allowed: bool,
    /// How many more could pass at this moment.
    pub remaining: u32,
    /// When one will pass again, in nanoseconds from now; 0 when this one was allowed.
    pub retry_after_ns: u64,
    /// When the whole burst is available again, in nanoseconds from now.
    pub reset_ns: u64,
}

impl Limiter {
    /// Allows `rps` requests per second and key, `burst` of them at once, and remembers up to
    /// `max_keys` keys in eight bytes each.
    ///
    /// A key may live in eight places. When all are taken, the key there that is nearest to rest
    /// makes room. A key at rest loses nothing by that, so a limit is exact as long as the keys
    /// that are not at rest are clearly fewer than `max_keys`.
    ///
    /// A rate that is not positive counts as the lowest there is, 10⁻⁹; a burst of 0 as 1.
    pub fn new(rps: f64, burst: u32, max_keys: usize) -> Self {
        let rps = if rps > *RATES.start() {
            rps.min(*RATES.end())
        } else {
            *RATES.start()
        };
        let ticks_per_s = rps * INTERVAL as f64;
        let (mut scale, mut shift) = (ticks_per_s / 1e9, 0);
        while scale < (1_u64 << 62) as f64 {
            scale *= 2.0;
            shift += 1;
        }
        let burst = u64::from(burst.clamp(1, MAX_BURST)) * INTERVAL;
        let skew = (ticks_per_s * MAX_SKEW_S) as u64;
        Self {
            scale: scale as u64,
            shift,
            tick_ns: 1e9 / ticks_per_s,
            burst,
            most: burst,
            horizon: burst + skew.min(TAT_MASK / 4),
            ways: max_keys.clamp(1, WAYS),
            sets: (0..(max_keys / WAYS).max(1))
                .map(|_| Set::default())
                .collect(),
        }
    }

    /// Takes debts: what [`Limiter::charge`] puts on a key beyond its burst is remembered, up to 16
    /// bursts and 10 s at the rate.
    #[must_use]
    pub fn with_debt(mut self) -> Self {
        let seconds = 1e9 / self.tick_ns * DEBT_S;
        let debt = self.burst * DEBT_BURSTS + (seconds as u64).min(TAT_MASK / 4);
        let skew = self.horizon - self.burst;
        self.most = debt.min(TAT_MASK / 2);
        self.horizon = self.most + skew;
        self
    }

    /// Charges a key for requests that passed elsewhere, whether it would let them pass or not.
    /// Charges add up to the same in any order.
    pub fn charge(&self, key: u64, count: u32, now_ns: u64) {
        let (slots, tag, now) = self.place(key, now_ns);
        loop {
            let (slot, word) = self.find(slots, tag, now);
            let ahead = self.ahead_of(word, tag, now);
            let charged = (ahead + u64::from(count) * INTERVAL).min(self.most.max(ahead));
            if store(slot, word, tag, now + charged) {
                return;
            }
        }
    }

    /// Decides about one request of `key` (from [`client_key`] or [`bytes_key`]) at `now_ns`, a
    /// monotonic clock that all threads share with any origin; readings may be some seconds stale.
    #[inline]
    pub fn check(&self, key: u64, now_ns: u64) -> Decision {
        let (slots, tag, now) = self.place(key, now_ns);
        loop {
            let (slot, word) = self.find(slots, tag, now);
            let ahead = self.ahead_of(word, tag, now);
            let charged = ahead + INTERVAL;
            if charged > self.burst {
                return self.decision(false, ahead);
            }
            if store(slot, word, tag, now + charged) {
                return self.decision(true, charged);
            }
        }
    }

    /// The slots that a key may live in, its tag, and the moment in ticks.
    #[inline]
    fn place(&self, key: u64, now_ns: u64) -> (&[AtomicU64], u64, u64) {
        let now = ((u128::from(now_ns) * u128::from(self.scale)) >> self.shift) as u64 & TAT_MASK;
        let set = ((u128::from(key) * self.sets.len() as u128) >> u64::BITS) as usize;
        let tag = (key & TAG_MASK).max(1);
        (&self.sets[set].0[..self.ways], tag, now)
    }

    /// The key's slot, or else the one it should take, and what that holds.
    fn find<'a>(&self, slots: &'a [AtomicU64], tag: u64, now: u64) -> (&'a AtomicU64, u64) {
        let mut oldest = (&slots[0], slots[0].load(Ordering::Relaxed));
        let mut oldest_age = 0;
        for slot in slots {
            let word = slot.load(Ordering::Relaxed);
            if word == 0 || word >> TAT_BITS == tag {
                return (slot, word);
            }
            let age = (now + self.horizon).wrapping_sub(word) & TAT_MASK;
            if age > oldest_age {
                oldest_age = age;
                oldest = (slot, word);
            }
        }
        oldest
    }

    /// How many ticks the key of this tag is ahead, whoever's the word is.
    #[inline]
    fn ahead_of(&self, word: u64, tag: u64, now: u64) -> u64 {
        if word >> TAT_BITS == tag {
            self.ahead(word, now)
        } else {
            0
        }
    }

    /// How many ticks the TAT lies ahead of now; 0 for a key at rest.
    fn ahead(&self, word: u64, now: u64) -> u64 {
        let ahead = word.wrapping_sub(now) & TAT_MASK;
        if ahead > self.horizon { 0 } else { ahead }
    }

    fn decision(&self, allowed: bool, ahead: u64) -> Decision {
        let left = self.burst.saturating_sub(ahead);
        let wait = (ahead + INTERVAL).saturating_sub(self.burst);
        Decision {
            allowed,
            remaining: (left / INTERVAL) as u32,
            retry_after_ns: if allowed { 0 } else { self.ns(wait) },
            reset_ns: self.ns(ahead),
        }
    }

    fn ns(&self, ticks: u64) -> u64 {
        (ticks as f64 * self.tick_ns).ceil() as u64
    }
}

/// Puts a key's TAT where `word` was; false when another thread was quicker.
#[inline]
fn store(slot: &AtomicU64, word: u64, tag: u64, tat: u64) -> bool {
    let next = (tag << TAT_BITS) | (tat & TAT_MASK);
    // Relaxed: the word is all the state there is. A failure means that another thread's
    // succeeded, so whoever loops makes progress.
    slot.compare_exchange_weak(word, next, Ordering::Relaxed, Ordering::Relaxed)
        .is_ok()
}

/// Secret to this process, so that nobody can make keys that collide.
static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The key of a client's address. IPv6 clients count by their first `ipv6_prefix` bits, as one host
/// usually has all addresses of a /64; an IPv6 address that maps an IPv4 one counts as that.
pub fn client_key(ip: IpAddr, ipv6_prefix: u8) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => SEED.hash_one(ip.to_bits()),
        IpAddr::V6(ip) => SEED.hash_one(leading_bits(ip, ipv6_prefix)),
    }
}

/// The bits of an IPv6 address that make a client.
pub fn leading_bits(ip: Ipv6Addr, prefix: u8) -> u128 {
    let host_bits = 128 - u32::from(prefix.min(128));
    ip.to_bits().checked_shr(host_bits).unwrap_or(0)
}

/// The key of any other property of a request, such as a header field's value.
pub fn bytes_key(bytes: &[u8]) -> u64 {
    SEED.hash_one(bytes)
}
