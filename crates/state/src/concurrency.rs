//! Counts of what one key has in flight at once, requests or connections, over all workers.
//!
//! A key is remembered only while it has something in flight, so the memory is bounded by the
//! connections there are, whatever keys a client makes up. What passed is counted down when its
//! [`Permit`] goes, however the request ends.

use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;

/// Keys are spread over so many locks, each held for a look into a small map.
const SHARDS: usize = 64;

/// What is in flight.
#[derive(Debug)]
pub struct Concurrency {
    shards: Box<[Shard]>,
}

/// One lock and its keys, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(Mutex<FxHashMap<u64, u32>>);

/// One request or connection in flight.
#[derive(Debug)]
pub struct Permit {
    of: Arc<Concurrency>,
    key: u64,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
        }
    }
}

impl Concurrency {
    /// Takes one of `max` places of `key` (a well-mixed hash); `None` where all are taken.
    pub fn enter(self: &Arc<Self>, key: u64, max: u32) -> Option<Permit> {
        let mut shard = self.shard(key);
        let count = shard.entry(key).or_insert(0);
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Permit {
            of: Arc::clone(self),
            key,
        })
    }

    /// How much of a key is in flight.
    pub fn in_flight(&self, key: u64) -> u32 {
        self.shard(key).get(&key).copied().unwrap_or(0)
    }

    /// How many keys are remembered.
    pub fn keys(&self) -> usize {
        let shards = self.shards.iter();
        shards
            .map(|shard| shard.0.lock().unwrap_or_else(PoisonError::into_inner).len())
            .sum()
    }

    fn shard(&self, key: u64) -> std::sync::MutexGuard<'_, FxHashMap<u64, u32>> {
        let shard = &self.shards[(key >> 58) as usize % SHARDS];
        // Nothing in here can panic half-way through a change.
        shard.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut shard = self.of.shard(self.key);
        if let Entry::Occupied(mut entry) = shard.entry(self.key) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}
