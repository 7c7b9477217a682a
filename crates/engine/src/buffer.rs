//! Buffers, lent from last-in-first-out pools so that the one used last, still in the processor's
//! cache, is used next. Idle connections hold none.

use std::cell::{Cell, RefCell};

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
/// Buffers of one size kept for reuse, per worker.
const KEPT: usize = 64;

/// Bytes received and not used up yet: `start..end` of a fixed room.
#[derive(Debug, Default)]
pub struct Buffer {
    room: Vec<u8>,
    /// Where the bytes begin.
    pub start: usize,
    /// Where they end.
    pub end: usize,
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

/// One worker's buffers.
#[derive(Debug, Default)]
pub struct Buffers {
    head: RefCell<Vec<Buffer>>,
    body: RefCell<Vec<Buffer>>,
    large: RefCell<Vec<Buffer>>,
    upload: RefCell<Vec<Buffer>>,
    /// The fewest large and upload buffers that lay unused since the last trim.
    unused: [Cell<usize>; 2],
    out: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    fn shelf(&self, size: usize) -> Option<&RefCell<Vec<Buffer>>> {
        match size {
            HEAD_BYTES => Some(&self.head),
            BODY_BYTES => Some(&self.body),
            LARGE_BYTES => Some(&self.large),
            UPLOAD_BYTES => Some(&self.upload),
            _ => None,
        }
    }

    /// An empty buffer of one of this file's sizes.
    pub fn take(&self, size: usize) -> Buffer {
        let kept = self.shelf(size).and_then(|shelf| shelf.borrow_mut().pop());
        match size {
            LARGE_BYTES => note_low(&self.unused[0], &self.large),
            UPLOAD_BYTES => note_low(&self.unused[1], &self.upload),
            _ => {}
        }
        kept.unwrap_or_else(|| Buffer {
            room: vec![0; size],
            start: 0,
            end: 0,
        })
    }

    /// Gives a buffer back; one that outgrew its size is dropped.
    pub fn give(&self, mut buffer: Buffer) {
        if let Some(shelf) = self.shelf(buffer.room.len()) {
            let mut shelf = shelf.borrow_mut();
            if shelf.len() < KEPT {
                buffer.start = 0;
                buffer.end = 0;
                shelf.push(buffer);
            }
        }
    }

    /// Frees the large buffers that nobody needed since this was called last, so that a burst of
    /// large bodies does not hold its memory for ever.
    pub fn trim(&self) {
        for (unused, shelf) in self.unused.iter().zip([&self.large, &self.upload]) {
            let mut shelf = shelf.borrow_mut();
            let kept = shelf.len().saturating_sub(unused.get());
            shelf.truncate(kept);
            unused.set(kept);
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
        if shelf.len() < KEPT && (1..=HEAD_BYTES * 4).contains(&out.capacity()) {
            out.clear();
            shelf.push(out);
        }
    }
}

fn note_low(unused: &Cell<usize>, shelf: &RefCell<Vec<Buffer>>) {
    unused.set(unused.get().min(shelf.borrow().len()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_large_bodies_gives_its_memory_back() {
        let buffers = Buffers::default();
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
        assert_eq!(buffers.large.borrow().len(), 2, "two were in use at once");
        buffers.trim();
        assert_eq!(buffers.large.borrow().len(), 0);
    }
}
