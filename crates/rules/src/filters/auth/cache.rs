//! Credentials that were verified, so that the next request with them is one look-up.
//!
//! They are remembered by SHA-256. The number of entries is bounded; a full shard lets go of any
//! one of them. Refusals are not remembered: an attacker could fill the table with them.

use std::sync::{Mutex, PoisonError};

use rustc_hash::FxHashMap;

const SHARDS: usize = 16;

type Shard<T> = Mutex<FxHashMap<[u8; 32], T>>;

/// A bounded map from digests.
#[derive(Debug)]
pub struct Cache<T> {
    shards: Box<[Shard<T>]>,
    per_shard: usize,
}

impl<T: Clone> Cache<T> {
    /// Room for about `entries`.
    pub fn new(entries: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            per_shard: entries.div_ceil(SHARDS).max(1),
        }
    }

    /// What is remembered.
    pub fn get(&self, digest: &[u8; 32]) -> Option<T> {
        self.shard(digest).get(digest).cloned()
    }

    /// Remembers.
    pub fn put(&self, digest: [u8; 32], value: T) {
        let mut shard = self.shard(&digest);
        if shard.len() >= self.per_shard
            && !shard.contains_key(&digest)
            && let Some(any) = shard.keys().next().copied()
        {
            shard.remove(&any);
        }
        shard.insert(digest, value);
    }

    /// Forgets.
    pub fn remove(&self, digest: &[u8; 32]) {
        self.shard(digest).remove(digest);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        let shards = self.shards.iter();
        shards
            .map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len())
            .sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, digest: &[u8; 32]) -> std::sync::MutexGuard<'_, FxHashMap<[u8; 32], T>> {
        let shard = &self.shards[digest[31] as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
