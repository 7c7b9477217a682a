//! The byte budget of buffers: one limit for the process, and what each worker holds against it.
//!
//! Everything that holds bytes of a client's or an endpoint's charges an [`Account`] through a
//! [`Charge`], which gives them back when it is dropped. Near the limit, buffers become smaller and
//! windows of HTTP/2 shrink; at [`Pressure::Refuse`] no new request is served. The rest below the
//! limit is room for what was admitted before.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicU64, Ordering::Relaxed};

/// A worker's change that it keeps to itself. More of it is told to the others, so that workers
/// seldom write to what they share.
const UNTOLD: isize = 128 * 1024;

/// The process's budget.
#[derive(Debug)]
pub struct MemoryBudget {
    /// In bytes.
    limit: AtomicU64,
    /// What workers have told, in bytes; it may lag behind by [`UNTOLD`] for each of them.
    held: AtomicIsize,
}

impl MemoryBudget {
    /// A budget of so many bytes.
    pub fn new(limit: u64) -> Self {
        Self {
            limit: limit.into(),
            held: 0.into(),
        }
    }

    /// The limit in bytes.
    pub fn limit(&self) -> u64 {
        self.limit.load(Relaxed)
    }

    /// Changes the limit, for what is charged from now on.
    pub fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, Relaxed);
    }

    /// What is held in bytes.
    pub fn held(&self) -> u64 {
        self.held.load(Relaxed).max(0) as u64
    }
}

/// How much of the budget is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Less than half.
    Low,
    /// Half: what is held for one stream or body shrinks.
    Shrink,
    /// Three quarters: no new request is served either.
    Refuse,
}

/// One worker's part of what is held.
#[derive(Debug)]
pub struct Account {
    budget: Arc<MemoryBudget>,
    held: Cell<isize>,
    told: Cell<isize>,
}

impl Account {
    /// A worker's account, with nothing on it.
    pub fn new(budget: Arc<MemoryBudget>) -> Rc<Self> {
        Rc::new(Self {
            budget,
            held: Cell::new(0),
            told: Cell::new(0),
        })
    }

    /// How much of the budget all workers use.
    pub fn pressure(&self) -> Pressure {
        let untold = self.held.get() - self.told.get();
        let held = (self.budget.held.load(Relaxed) + untold).max(0) as u64;
        let limit = self.budget.limit();
        if held < limit / 2 {
            Pressure::Low
        } else if held < limit / 4 * 3 {
            Pressure::Shrink
        } else {
            Pressure::Refuse
        }
    }

    /// Tells the others all of what this worker holds.
    pub fn tell(&self) {
        let held = self.held.get();
        let untold = held - self.told.replace(held);
        if untold != 0 {
            self.budget.held.fetch_add(untold, Relaxed);
        }
    }

    fn add(&self, bytes: isize) {
        let held = self.held.get() + bytes;
        self.held.set(held);
        if (held - self.told.get()).abs() >= UNTOLD {
            self.tell();
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.held.set(0);
        self.tell();
    }
}

/// Bytes that are held until this is dropped.
#[derive(Debug, Default)]
pub struct Charge {
    account: Option<Rc<Account>>,
    bytes: usize,
}

impl Charge {
    /// Charges an account with so many bytes.
    pub fn new(account: &Rc<Account>, bytes: usize) -> Self {
        account.add(bytes.cast_signed());
        Self {
            account: Some(Rc::clone(account)),
            bytes,
        }
    }

    /// Charges so many bytes instead.
    pub fn set(&mut self, bytes: usize) {
        if let Some(account) = &self.account {
            account.add(bytes.cast_signed() - self.bytes.cast_signed());
        }
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(account) = &self.account {
            account.add(-self.bytes.cast_signed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn pressure_grows_with_what_all_workers_hold_and_ends_with_it() {
        let budget = Arc::new(MemoryBudget::new(8 * MIB as u64));
        let (one, two) = (
            Account::new(Arc::clone(&budget)),
            Account::new(Arc::clone(&budget)),
        );
        let first = Charge::new(&one, 3 * MIB);
        assert_eq!(two.pressure(), Pressure::Low);
        let mut second = Charge::new(&two, MIB);
        assert_eq!(one.pressure(), Pressure::Shrink);
        second.set(3 * MIB);
        assert_eq!(one.pressure(), Pressure::Refuse);
        assert_eq!(budget.held(), 6 * MIB as u64);
        budget.set_limit(64 * MIB as u64);
        assert_eq!(one.pressure(), Pressure::Low);
        drop((first, second));
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn small_changes_are_told_when_the_worker_ends_or_is_asked() {
        let budget = Arc::new(MemoryBudget::new(MIB as u64));
        let worker = Account::new(Arc::clone(&budget));
        let charge = Charge::new(&worker, 1000);
        assert_eq!(budget.held(), 0);
        worker.tell();
        assert_eq!(budget.held(), 1000);
        drop((charge, worker));
        assert_eq!(budget.held(), 0);
    }
}
