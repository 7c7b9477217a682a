//! Limits that hold over several engines together: how their keys are told apart, and what passed
//! them here since somebody last asked.
//!
//! All engines of a fleet hash a limit's keys with the same secret, so that a key of one is the same
//! key for the others and nobody learns an address or a token from it. What passes is noted by each
//! worker for itself. Carrying that to other engines, and theirs to this one, is the control plane's
//! matter; what arrives is charged with [`evenflow_state::limiter::Limiter::charge`].

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_lc_rs::hmac;
use evenflow_state::limiter::leading_bits;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::plan;

/// The shortest secret, in bytes.
pub const MIN_SEED: usize = 16;
/// Keys that one worker notes between two askings: 24 bytes each. What else passes is not told.
const MAX_NOTED: usize = 1 << 14;

static NUMBERS: AtomicU32 = AtomicU32::new(1);

/// One limit's part in a fleet.
#[derive(Debug)]
pub struct Fleet {
    /// Tells limits apart in [`FleetUsage`]; never used again.
    number: u32,
    secret: hmac::Key,
}

impl Fleet {
    /// The part of the limit that `filter` describes. Limits that count by another name or by
    /// something else have other keys for the same client.
    pub fn new(seed: &[u8], filter: &plan::LimitFilter) -> Self {
        let seed = hmac::Key::new(hmac::HMAC_SHA256, seed);
        // As a plan has it: engines of other versions write it alike.
        let what = (&filter.name, &filter.key, filter.ipv6_prefix);
        let what = serde_json::to_vec(&what).unwrap_or_default();
        let own = hmac::sign(&seed, &what);
        Self {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            secret: hmac::Key::new(hmac::HMAC_SHA256, own.as_ref()),
        }
    }

    /// The number that a plan's limit is noted under.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The key of a client's address, as [`evenflow_state::limiter::client_key`] has it for one engine.
    pub fn client_key(&self, ip: IpAddr, ipv6_prefix: u8) -> u64 {
        match ip.to_canonical() {
            IpAddr::V4(ip) => self.bytes_key(&ip.octets()),
            IpAddr::V6(ip) => self.bytes_key(&leading_bits(ip, ipv6_prefix).to_be_bytes()),
        }
    }

    /// The key of any other property of a request.
    pub fn bytes_key(&self, bytes: &[u8]) -> u64 {
        let tag = hmac::sign(&self.secret, bytes);
        tag.as_ref()
            .first_chunk()
            .map_or(0, |first| u64::from_be_bytes(*first))
    }
}

/// What passed one limit, by key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitUsage {
    /// The limit's name.
    pub limit: String,
    /// How many requests of each key.
    pub keys: Vec<(u64, u32)>,
}

/// What passed the limits of the fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitUsages {
    /// Each limit that something passed.
    pub limits: Vec<LimitUsage>,
}

/// Counts by the limit's number and the key.
pub type Counts = FxHashMap<(u32, u64), u32>;

/// One worker's notes.
#[derive(Debug, Default)]
pub struct FleetUsage {
    counts: RefCell<Counts>,
    missed: Cell<u64>,
}

impl FleetUsage {
    /// Notes that one request of this key passed.
    pub fn note(&self, limit: u32, key: u64) {
        let mut counts = self.counts.borrow_mut();
        if counts.len() >= MAX_NOTED && !counts.contains_key(&(limit, key)) {
            self.missed.update(|missed| missed + 1);
            return;
        }
        let count = counts.entry((limit, key)).or_default();
        *count = count.saturating_add(1);
    }

    /// Takes all notes, and how many requests there was no room for.
    pub fn take(&self) -> (Counts, u64) {
        (self.counts.take(), self.missed.take())
    }
}

/// What several workers noted, as one document, of the limits that `name` knows.
pub fn merged(notes: Vec<Counts>, name: impl Fn(u32) -> Option<String>) -> LimitUsages {
    let mut all = Counts::default();
    for ((limit, key), count) in notes.into_iter().flatten() {
        let sum = all.entry((limit, key)).or_default();
        *sum = sum.saturating_add(count);
    }
    let mut keys: FxHashMap<u32, Vec<(u64, u32)>> = FxHashMap::default();
    for ((limit, key), count) in all {
        keys.entry(limit).or_default().push((key, count));
    }
    let limits = keys
        .into_iter()
        .filter_map(|(number, keys)| name(number).map(|limit| LimitUsage { limit, keys }));
    LimitUsages {
        limits: limits.collect(),
    }
}
