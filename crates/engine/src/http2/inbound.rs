//! What comes in on a stream of HTTP/2, to be read as HTTP/1.1: a head that is written down already,
//! then the body in its framing.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use evenflow_wire::http1::body::encode_size_line;
use evenflow_wire::http2::Key;

use super::session::{Protocol, Session};
use crate::memory::{Account, Charge};

/// A queue of bytes.
#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    start: usize,
}

impl Queue {
    fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn push(&mut self, bytes: &[u8]) {
        // What was read makes room, so that the queue is as large as what it holds at the most.
        if self.start > 0 && self.bytes.len() + bytes.len() > self.bytes.capacity() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Moves bytes out, at most so many.
    fn pop(&mut self, to: &mut [u8], most: usize) -> usize {
        let count = self.len().min(to.len()).min(most);
        to[..count].copy_from_slice(&self.bytes[self.start..self.start + count]);
        self.start += count;
        if self.start == self.bytes.len() {
            // An empty queue holds no memory.
            *self = Self::default();
        }
        count
    }
}

/// A message on its way in.
#[derive(Debug, Default)]
pub struct Inbound {
    /// Read first: heads, a chunk's size line, what ends a body.
    text: Queue,
    data: Queue,
    /// Counts the data as memory in use.
    charge: Option<Charge>,
    /// The lines of trailers.
    trailers: Vec<u8>,
    /// The body is to be read in chunks.
    chunked: bool,
    /// Bytes of the begun chunk that are not read.
    chunk: usize,
    /// All of it came.
    ended: bool,
    /// What ends the body was put into the text.
    closed: bool,
}

impl Inbound {
    /// A head came: `write` writes it down and answers whether its body is to be read in chunks.
    pub fn begin(&mut self, write: impl FnOnce(&mut Vec<u8>) -> bool) {
        self.chunked = write(&mut self.text.bytes);
    }

    /// Data came.
    pub fn push(&mut self, data: &[u8], account: &Rc<Account>) {
        self.data.push(data);
        let bytes = self.data.bytes.capacity();
        match &mut self.charge {
            Some(charge) => charge.set(bytes),
            none => *none = Some(Charge::new(account, bytes)),
        }
    }

    /// All of the message came, with these lines of trailers.
    pub fn end(&mut self, trailers: Vec<u8>) {
        self.trailers = trailers;
        self.ended = true;
    }

    /// Puts framing into the text once what is before it is read. `false`: there is nothing to read.
    fn prepare(&mut self) -> bool {
        if self.text.len() > 0 || self.chunk > 0 {
            return true;
        }
        if !self.chunked {
            return self.data.len() > 0;
        }
        if self.data.len() > 0 {
            let mut line = Vec::with_capacity(16);
            self.chunk = self.data.len();
            encode_size_line(self.chunk, &mut line);
            self.text.push(&line);
            return true;
        }
        if self.ended && !std::mem::replace(&mut self.closed, true) {
            self.text.push(b"0\r\n");
            let trailers = std::mem::take(&mut self.trailers);
            self.text.push(&trailers);
            self.text.push(b"\r\n");
            return true;
        }
        false
    }

    /// Moves bytes out; answers how many, and how many of them are data.
    fn take(&mut self, buffer: &mut [u8]) -> (usize, usize) {
        let (mut filled, mut taken) = (0, 0);
        while filled < buffer.len() && self.prepare() {
            filled += self.text.pop(&mut buffer[filled..], usize::MAX);
            if self.text.len() > 0 {
                break;
            }
            let most = if self.chunked { self.chunk } else { usize::MAX };
            let count = self.data.pop(&mut buffer[filled..], most);
            if self.data.len() == 0 {
                self.charge = None;
            }
            filled += count;
            taken += count;
            if self.chunked && count > 0 {
                self.chunk -= count;
                if self.chunk == 0 {
                    self.text.push(b"\r\n");
                }
            }
        }
        (filled, taken)
    }
}

/// Waits until there is something to read; `false` is the end.
pub fn poll_ready(session: &Session, key: Key, cx: &Context<'_>) -> Poll<io::Result<bool>> {
    session.change(|protocol| look(session, protocol, key, cx))
}

fn look(
    session: &Session,
    protocol: &mut Protocol,
    key: Key,
    cx: &Context<'_>,
) -> Poll<io::Result<bool>> {
    let Some(state) = protocol.user(key) else {
        return Poll::Ready(Ok(false));
    };
    if state.inbound.prepare() {
        return Poll::Ready(Ok(true));
    }
    if state.inbound.ended {
        return Poll::Ready(Ok(false));
    }
    if let Some(error) = session.error(protocol, key) {
        return Poll::Ready(Err(error));
    }
    session.wait(protocol, key, cx);
    Poll::Pending
}

/// Reads into `buffer`. `Ok(0)` is the end of the message. What was read of a body makes room in the
/// sender's window.
pub fn poll_read(
    session: &Session,
    key: Key,
    cx: &Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    session.change(|protocol| {
        let Some(state) = protocol.user(key) else {
            return Poll::Ready(Ok(0));
        };
        let (filled, taken) = state.inbound.take(buffer);
        if taken > 0 {
            protocol.release(key, taken, session.window_limit());
        }
        if filled > 0 {
            return Poll::Ready(Ok(filled));
        }
        look(session, protocol, key, cx).map_ok(|_| 0)
    })
}
