//! One stream's state (RFC 9113 §5.1), and the table that streams are in.

use rustc_hash::FxHashMap;

use super::error::ErrorCode;
use super::flow::{ReceiveWindow, SendWindow};

/// A stream's place in its connection, from its beginning until it is given up by
/// [`Connection::close`](super::Connection::close).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(u32);

/// How far one direction of a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// A head is to come.
    Head,
    /// Data follows.
    Body,
    /// The end was seen or sent.
    Ended,
}

/// Why a stream is over before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// The code in `RST_STREAM`.
    pub code: ErrorCode,
    /// The peer has not worked on the stream (RFC 9113 §8.7): it refused it, or gave a lower last
    /// stream in `GOAWAY`.
    pub unprocessed: bool,
    /// The peer said so, and not this side.
    pub remote: bool,
}

/// A stream.
#[derive(Debug)]
pub(super) struct Stream<T> {
    pub id: u32,
    pub receiving: Half,
    pub sending: Half,
    pub failure: Option<Failure>,
    pub send_window: SendWindow,
    pub receive_window: ReceiveWindow,
    /// Bytes of data that are to come, where `content-length` says so.
    pub content: Option<u64>,
    /// The request is one whose response has no body.
    pub head_request: bool,
    pub opened_ms: u64,
    pub user: T,
}

impl<T> Stream<T> {
    /// Whether nothing more comes or goes.
    pub fn is_closed(&self) -> bool {
        self.failure.is_some() || (self.receiving == Half::Ended && self.sending == Half::Ended)
    }
}

/// The streams of a connection: those that are not closed by their number, and those that the user
/// of the connection has not given up by their key.
#[derive(Debug)]
pub(super) struct Streams<T> {
    slots: Vec<Option<Stream<T>>>,
    free: Vec<u32>,
    keys: FxHashMap<u32, Key>,
}

impl<T> Streams<T> {
    pub fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            keys: FxHashMap::default(),
        }
    }

    pub fn insert(&mut self, stream: Stream<T>) -> Key {
        let id = stream.id;
        let key = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(stream);
            Key(slot)
        } else {
            self.slots.push(Some(stream));
            Key(self.slots.len() as u32 - 1)
        };
        self.keys.insert(id, key);
        key
    }

    /// The key of a stream that is not closed.
    pub fn find(&self, id: u32) -> Option<Key> {
        self.keys.get(&id).copied()
    }

    pub fn get(&self, key: Key) -> Option<&Stream<T>> {
        self.slots.get(key.0 as usize)?.as_ref()
    }

    pub fn get_mut(&mut self, key: Key) -> Option<&mut Stream<T>> {
        self.slots.get_mut(key.0 as usize)?.as_mut()
    }

    /// Streams that are not closed.
    pub fn open(&self) -> usize {
        self.keys.len()
    }

    /// Streams that are not given up.
    pub fn held(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Forgets a stream's number if it is closed.
    pub fn settle(&mut self, key: Key) {
        if let Some(stream) = self.get(key)
            && stream.is_closed()
        {
            let id = stream.id;
            self.keys.remove(&id);
        }
    }

    /// Takes a stream out.
    pub fn remove(&mut self, key: Key) -> Option<Stream<T>> {
        let stream = self.slots.get_mut(key.0 as usize)?.take()?;
        self.keys.remove(&stream.id);
        if self.held() == 1 {
            // The last one: many streams at once do not hold memory for ever.
            *self = Self::new();
        } else {
            self.free.push(key.0);
        }
        Some(stream)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut Stream<T>)> {
        let slots = self.slots.iter_mut().enumerate();
        slots.filter_map(|(at, slot)| slot.as_mut().map(|stream| (Key(at as u32), stream)))
    }
}
