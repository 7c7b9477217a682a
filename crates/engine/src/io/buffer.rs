//! Buffers, lent from last-in-first-out pools so that the one used last, still in the processor's
//! cache, is used next. Idle connections hold none. While they are lent, they are charged to the
//! budget of [`crate::memory`].

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::memory::{Account, Charge, Pressure};

/// Holds a whole head and what came with it.
pub const HEAD_BYTES: usize = 16 * 1024;
/// One read of a body of ordinary size.
pub const BODY_BYTES: usize = 64 * 1024;
/// One read of a response body known to be large.
pub const LARGE_BYTES: usize = 256 * 1024;
/// One read of a request body known to be large. A client that sends fills its socket while the
/// endpoint is written to, so uploads gain more from room than downloads: with 512 KiB they cost
/// 0.6 of what nginx needs, with 256 KiB 0.8, and downloads the same with either.
pub const UPLOAD_BYTES: usize = 512 * 1024;
/// Bytes of buffers of one size kept for reuse, per worker; those that nobody needs are freed.
const KEPT_BYTES: usize = 32 * 1024 * 1024;
/// Vectors to write heads into kept for reuse, per worker.
const KEPT_OUT: usize = 256;

/// Bytes received and not used up yet: `start..end` of a fixed room.
#[derive(Debug, Default)]
pub struct Buffer {
    room: Vec<u8>,
    /// Where the bytes begin.
    pub start: usize,
    /// Where they end.
    pub end: usize,
    /// Counts the room as memory in use.
    charge: Charge,
}

impl Buffer {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.room[self.start..self.end]
    }

    /// The bytes, to be rearranged.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.room[self.start..self.end]
    }

    /// The room behind the bytes.
    pub fn spare(&mut self) -> &mut [u8] {
        &mut self.room[self.end..]
    }

    /// A part of the room by absolute position.
    pub fn slice(&self, start: usize, end: usize) -> &[u8] {
        &self.room[start..end]
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes `count` bytes off the front.
    pub fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Moves the bytes to the front of the room.
    pub fn compact(&mut self) {
        if self.start > 0 {
            self.room.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }

    /// Makes the room at least `size` bytes.
    pub fn grow(&mut self, size: usize) {
        if self.room.len() < size {
            self.room.resize(size, 0);
            self.charge.set(size);
        }
    }

    /// The size of the room.
    pub fn size(&self) -> usize {
        self.room.len()
    }

    /// Appends bytes, growing the room as needed.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.grow(self.end + bytes.len());
        self.room[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }
}

/// Buffers of one size.
#[derive(Debug, Default)]
struct Shelf {
    rooms: RefCell<Vec<Vec<u8>>>,
    /// The fewest rooms that lay unused since the last trim.
    unused: Cell<usize>,
}

impl Shelf {
    fn take(&self) -> Option<Vec<u8>> {
        let mut rooms = self.rooms.borrow_mut();
        let room = rooms.pop();
        self.unused.set(self.unused.get().min(rooms.len()));
        room
    }

    fn give(&self, room: Vec<u8>) {
        let mut rooms = self.rooms.borrow_mut();
        if rooms.len() < KEPT_BYTES / room.len() {
            rooms.push(room);
        }
    }

    fn trim(&self, all: bool) {
        let mut rooms = self.rooms.borrow_mut();
        let kept = if all {
            0
        } else {
            rooms.len().saturating_sub(self.unused.get())
        };
        rooms.truncate(kept);
        self.unused.set(kept);
    }
}

/// One worker's buffers.
#[derive(Debug)]
pub struct Buffers {
    account: Rc<Account>,
    head: Shelf,
    body: Shelf,
    large: Shelf,
    upload: Shelf,
    out: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    /// Buffers that are charged to this account while they are lent.
    pub fn new(account: Rc<Account>) -> Self {
        Self {
            account,
            head: Shelf::default(),
            body: Shelf::default(),
            large: Shelf::default(),
            upload: Shelf::default(),
            out: RefCell::default(),
        }
    }

    /// What is charged for memory in use.
    pub fn account(&self) -> &Rc<Account> {
        &self.account
    }

    fn shelf(&self, size: usize) -> Option<&Shelf> {
        match size {
            HEAD_BYTES => Some(&self.head),
            BODY_BYTES => Some(&self.body),
            LARGE_BYTES => Some(&self.large),
            UPLOAD_BYTES => Some(&self.upload),
            _ => None,
        }
    }

    /// An empty buffer of one of this file's sizes; of the smallest one while memory is short.
    pub fn take(&self, size: usize) -> Buffer {
        let size = match self.account.pressure() {
            Pressure::Low => size,
            Pressure::Shrink | Pressure::Refuse => HEAD_BYTES,
        };
        let room = self.shelf(size).and_then(Shelf::take);
        Buffer {
            room: room.unwrap_or_else(|| vec![0; size]),
            start: 0,
            end: 0,
            charge: Charge::new(&self.account, size),
        }
    }

    /// Gives a buffer back; one that outgrew its size is dropped, and any while memory is short.
    pub fn give(&self, buffer: Buffer) {
        if let Some(shelf) = self.shelf(buffer.room.len())
            && self.account.pressure() == Pressure::Low
        {
            shelf.give(buffer.room);
        }
    }

    /// Frees the buffers that nobody needed since this was called last, so that a burst does not
    /// hold its memory for ever; while memory is short, all that are not lent.
    pub fn trim(&self) {
        let all = self.account.pressure() > Pressure::Low;
        for shelf in [&self.head, &self.body, &self.large, &self.upload] {
            shelf.trim(all);
        }
    }

    /// An empty vector to write heads into.
    pub fn take_out(&self) -> Vec<u8> {
        let kept = self.out.borrow_mut().pop();
        kept.unwrap_or_else(|| Vec::with_capacity(4096))
    }

    /// Gives one back.
    pub fn give_out(&self, mut out: Vec<u8>) {
        let mut shelf = self.out.borrow_mut();
        if shelf.len() < KEPT_OUT && (1..=HEAD_BYTES * 4).contains(&out.capacity()) {
            out.clear();
            shelf.push(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::memory::MemoryBudget;

    fn buffers(limit: u64) -> Buffers {
        Buffers::new(Account::new(Arc::new(MemoryBudget::new(limit))))
    }

    #[test]
    fn a_burst_of_large_bodies_gives_its_memory_back() {
        let buffers = buffers(u64::MAX);
        let burst: Vec<Buffer> = (0..10).map(|_| buffers.take(LARGE_BYTES)).collect();
        for buffer in burst {
            buffers.give(buffer);
        }
        buffers.trim();
        for _ in 0..5 {
            let pair = [buffers.take(LARGE_BYTES), buffers.take(LARGE_BYTES)];
            for buffer in pair {
                buffers.give(buffer);
            }
        }
        buffers.trim();
        let kept = || buffers.large.rooms.borrow().len();
        assert_eq!(kept(), 2, "two were in use at once");
        buffers.trim();
        assert_eq!(kept(), 0);
    }

    #[test]
    fn buffers_become_small_near_the_limit_and_are_not_kept() {
        let buffers = buffers(4 * LARGE_BYTES as u64);
        let first = [buffers.take(LARGE_BYTES), buffers.take(LARGE_BYTES)];
        let small = buffers.take(LARGE_BYTES);
        assert_eq!(small.size(), HEAD_BYTES);
        buffers.give(small);
        assert_eq!(buffers.head.rooms.borrow().len(), 0);
        drop(first);
        assert_eq!(buffers.take(LARGE_BYTES).size(), LARGE_BYTES);
    }
}
