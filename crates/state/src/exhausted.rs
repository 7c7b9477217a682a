//! What is known of a large pool in which no endpoint takes a request: to look through all of them
//! again for each request would make a refusal cost more, the larger the pool is.
//!
//! Once a pool is declared exhausted, every endpoint that gets room is told here, and any other
//! change ends the declaration. So a look at what was told is enough.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many endpoints with room, and the pool is no longer exhausted.
const MOST: usize = 64;

/// The declaration, and the endpoints that got room since.
#[derive(Debug, Default)]
pub struct Exhausted {
    /// The number of the rules by which the pool was looked through, and whether some endpoints are
    /// full (bit 0); 0 where nothing is known.
    known: AtomicU64,
    freed: Mutex<Vec<u32>>,
}

fn packed(rules: u32, full: bool) -> u64 {
    u64::from(rules) << 1 | u64::from(full)
}

impl Exhausted {
    fn lock(&self) -> MutexGuard<'_, Vec<u32>> {
        self.freed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the pool is exhausted by these rules; then, whether that is for full endpoints.
    #[inline]
    pub fn by(&self, rules: u32) -> Option<bool> {
        let known = self.known.load(Ordering::SeqCst);
        (known >> 1 == u64::from(rules) && known != 0).then_some(known & 1 != 0)
    }

    /// Declares a pool exhausted. Whoever does that has to look through the pool again afterwards,
    /// and to call [`Exhausted::end`] if there is room after all: an endpoint may have got some
    /// between the look before and this.
    pub fn declare(&self, rules: u32, full: bool) {
        let mut freed = self.lock();
        freed.clear();
        self.known.store(packed(rules, full), Ordering::SeqCst);
        drop(freed);
        fence(Ordering::SeqCst);
    }

    /// The pool has changed: nothing is known of it.
    pub fn end(&self) {
        if self.known.load(Ordering::SeqCst) != 0 {
            let mut freed = self.lock();
            self.known.store(0, Ordering::SeqCst);
            freed.clear();
        }
    }

    /// The member of this index has got room.
    #[inline]
    pub fn freed(&self, rules: u32, index: u32) {
        if self.known.load(Ordering::SeqCst) != 0 {
            self.remember(rules, index);
        }
    }

    fn remember(&self, rules: u32, index: u32) {
        let mut freed = self.lock();
        if self.by(rules).is_some() && freed.len() < MOST {
            freed.push(index);
        } else {
            self.known.store(0, Ordering::SeqCst);
            freed.clear();
        }
    }

    /// The first of the members that got room for which `is_free` holds; the others are forgotten.
    /// It is forgotten as well unless it is to stay.
    pub fn find(&self, stays: bool, mut is_free: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut freed = self.lock();
        while let Some(index) = freed.pop() {
            if is_free(index) {
                if stays {
                    freed.push(index);
                }
                return Some(index);
            }
        }
        None
    }
}
