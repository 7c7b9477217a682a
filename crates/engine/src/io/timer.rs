//! Deadlines: one coarse sweep per worker instead of a timer per request.
//!
//! Each connection owns a slot with one deadline, the next thing it waits for. Arming a slot is one
//! store; the sweep reads all deadlines in a row and wakes the tasks whose time has come.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How often deadlines are looked at, and so how late one may be noticed.
pub const SWEEP: Duration = Duration::from_millis(20);

const NEVER: u64 = u64::MAX;
const FIRED: u64 = 0;

/// All slots of one worker. Times are milliseconds on the engine's clock, which starts above 0.
#[derive(Debug, Default)]
pub struct Timer {
    slots: RefCell<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    deadlines: Vec<u64>,
    wakers: Vec<Option<Waker>>,
    free: Vec<u32>,
    /// Tasks that look around at the next sweep.
    soon: Vec<Waker>,
}

impl Timer {
    /// A slot without a deadline.
    pub fn slot(self: &Rc<Self>) -> Slot {
        let mut slots = self.slots.borrow_mut();
        let index = slots.free.pop().unwrap_or_else(|| {
            slots.deadlines.push(NEVER);
            slots.wakers.push(None);
            slots.deadlines.len() as u32 - 1
        });
        slots.deadlines[index as usize] = NEVER;
        drop(slots);
        Slot {
            timer: Rc::clone(self),
            index,
        }
    }

    /// A slot of the task that awaits this.
    pub async fn own_slot(self: &Rc<Self>) -> Slot {
        let slot = self.slot();
        slot.follow().await;
        slot
    }

    /// Wakes every task, to look around.
    pub fn wake_all(&self) {
        for waker in self.slots.borrow().wakers.iter().flatten() {
            waker.wake_by_ref();
        }
    }

    /// Has a task woken at the next sweep, for what no event tells of.
    pub fn wake_soon(&self, waker: &Waker) {
        self.slots.borrow_mut().soon.push(waker.clone());
    }

    /// Wakes every task whose deadline has passed.
    pub fn sweep(&self, now_ms: u64) {
        let mut slots = self.slots.borrow_mut();
        let Slots {
            deadlines,
            wakers,
            soon,
            ..
        } = &mut *slots;
        soon.drain(..).for_each(Waker::wake);
        for (index, deadline) in deadlines.iter_mut().enumerate() {
            if *deadline <= now_ms && *deadline != FIRED {
                *deadline = FIRED;
                if let Some(waker) = &wakers[index] {
                    waker.wake_by_ref();
                }
            }
        }
    }
}

/// One task's deadline.
#[derive(Debug)]
pub struct Slot {
    timer: Rc<Timer>,
    index: u32,
}

impl Slot {
    /// Remembers whom to wake. Once per task is enough: nothing here wraps wakers.
    pub fn register(&self, cx: &Context<'_>) {
        self.timer.slots.borrow_mut().wakers[self.index as usize] = Some(cx.waker().clone());
    }

    /// Has the slot wake the task that awaits this.
    pub async fn follow(&self) {
        poll_fn(|cx| {
            self.register(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// Lets the time be over now.
    pub fn fire(&self) {
        let mut slots = self.timer.slots.borrow_mut();
        let index = self.index as usize;
        slots.deadlines[index] = FIRED;
        if let Some(waker) = &slots.wakers[index] {
            waker.wake_by_ref();
        }
    }

    /// Sets the deadline, in place of an earlier one.
    pub fn arm(&self, at_ms: u64) {
        self.timer.slots.borrow_mut().deadlines[self.index as usize] = at_ms;
    }

    /// Whether the deadline passed.
    pub fn fired(&self) -> bool {
        self.timer.slots.borrow().deadlines[self.index as usize] == FIRED
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut slots = self.timer.slots.borrow_mut();
        slots.deadlines[self.index as usize] = NEVER;
        slots.wakers[self.index as usize] = None;
        slots.free.push(self.index);
    }
}
