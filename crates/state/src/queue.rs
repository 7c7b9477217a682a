//! A queue of requests that wait for a place at one of a pool's endpoints, in order of arrival over
//! all workers.
//!
//! Who has a place to give calls [`Queue::offer`], which looks at the waiters in order of arrival
//! under a lock and hands the place to the first that can use it. A grant belongs to its waiter from
//! then on: a newcomer cannot take it, and no wake-up can be lost on a waiter that has no use for
//! it. A waiter that leaves with a grant in hand drops it, and a grant gives its place back when it
//! is dropped. While nobody waits, no lock is taken: [`Queue::waiting`] is one load.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// What a waiter answers to an offer.
#[derive(Debug)]
pub enum Offer<G> {
    /// It takes the place, and waits no longer.
    Take(G),
    /// It cannot use the place: the next waiter is asked.
    Pass,
    /// There is nothing left to offer: nobody else is asked.
    Stop,
}

/// Waiters `W`, who wait for a grant `G`.
pub struct Queue<W, G> {
    waiting: AtomicU32,
    inner: Mutex<Inner<W, G>>,
}

struct Inner<W, G> {
    /// The last ticket drawn.
    last: u64,
    /// By ticket, and so in order of arrival.
    waiters: BTreeMap<u64, Waiter<W>>,
    /// Grants that their waiters have not fetched yet.
    granted: HashMap<u64, G>,
}

struct Waiter<W> {
    wants: W,
    waker: Option<Waker>,
}

impl<W, G> Default for Queue<W, G> {
    fn default() -> Self {
        Self {
            waiting: AtomicU32::new(0),
            inner: Mutex::new(Inner {
                last: 0,
                waiters: BTreeMap::new(),
                granted: HashMap::new(),
            }),
        }
    }
}

impl<W, G> fmt::Debug for Queue<W, G> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Queue")
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}

impl<W, G> Queue<W, G> {
    fn lock(&self) -> MutexGuard<'_, Inner<W, G>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait and have no grant yet. Read after a place was given back by a read-modify-write
    /// of order `SeqCst`, it cannot miss a waiter that saw the place still taken.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Joins at the end. What becomes free from now on is offered to this waiter in its turn; what
    /// was free before, the caller has to look for afterwards, and offer.
    pub fn join(self: &Arc<Self>, wants: W) -> Place<W, G> {
        let mut inner = self.lock();
        inner.last += 1;
        let ticket = inner.last;
        let waker = None;
        inner.waiters.insert(ticket, Waiter { wants, waker });
        let ahead = self.waiting.fetch_add(1, Ordering::SeqCst);
        drop(inner);
        fence(Ordering::SeqCst);
        Place {
            queue: Arc::clone(self),
            ticket,
            ahead,
        }
    }

    /// Asks the waiters in order of arrival what they can use, until one stops it. `ask` runs under
    /// the queue's lock: it must not drop a grant.
    pub fn offer(&self, mut ask: impl FnMut(&W) -> Offer<G>) {
        let mut inner = self.lock();
        let Inner {
            waiters, granted, ..
        } = &mut *inner;
        let mut wakers = Vec::new();
        let mut taken = Vec::new();
        for (&ticket, waiter) in waiters.iter_mut() {
            match ask(&waiter.wants) {
                Offer::Take(grant) => {
                    granted.insert(ticket, grant);
                    wakers.extend(waiter.waker.take());
                    taken.push(ticket);
                }
                Offer::Pass => {}
                Offer::Stop => break,
            }
        }
        let gone: Vec<_> = taken.iter().map(|ticket| waiters.remove(ticket)).collect();
        self.waiting.fetch_sub(taken.len() as u32, Ordering::SeqCst);
        drop(inner);
        drop(gone);
        for waker in wakers {
            waker.wake();
        }
    }

    /// Whether nothing is left of anybody: no waiter, and no grant that was not fetched.
    pub fn is_empty(&self) -> bool {
        let inner = self.lock();
        inner.waiters.is_empty() && inner.granted.is_empty() && self.waiting() == 0
    }
}

/// One waiter's place in a [`Queue`], left when it is dropped.
pub struct Place<W, G> {
    queue: Arc<Queue<W, G>>,
    ticket: u64,
    /// How many waited already when it joined.
    pub ahead: u32,
}

impl<W, G> fmt::Debug for Place<W, G> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Place")
            .field("ticket", &self.ticket)
            .finish_non_exhaustive()
    }
}

impl<W, G> Place<W, G> {
    /// The grant, if there is one by now.
    pub fn fetch(&self) -> Option<G> {
        self.queue.lock().granted.remove(&self.ticket)
    }

    /// Ready with the grant, once.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<G> {
        let mut inner = self.queue.lock();
        if let Some(grant) = inner.granted.remove(&self.ticket) {
            return Poll::Ready(grant);
        }
        let mut old = None;
        if let Some(waiter) = inner.waiters.get_mut(&self.ticket) {
            let same = waiter.waker.as_ref();
            if !same.is_some_and(|waker| waker.will_wake(cx.waker())) {
                old = waiter.waker.replace(cx.waker().clone());
            }
        }
        drop(inner);
        drop(old);
        Poll::Pending
    }
}

impl<W, G> Drop for Place<W, G> {
    fn drop(&mut self) {
        let mut inner = self.queue.lock();
        let waiter = inner.waiters.remove(&self.ticket);
        if waiter.is_some() {
            self.queue.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        let grant = inner.granted.remove(&self.ticket);
        drop(inner);
        // Without the lock: a grant that is dropped is offered to the others.
        drop((waiter, grant));
    }
}
