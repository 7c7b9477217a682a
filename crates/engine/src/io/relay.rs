//! One body on its way from one stream to another, with back-pressure: nothing is read before what
//! was read last has been written. Used for requests, responses and TCP alike.

use std::io;
use std::task::{Context, Poll, ready};

use evenflow_rules::reason::Reason;
use evenflow_wire::http1::body::{Decoder, encode_size_line};
use evenflow_wire::http1::head::Length;

use crate::buffer::{BODY_BYTES, Buffer, Buffers, LARGE_BYTES, UPLOAD_BYTES};
use crate::stream::Stream;
use crate::write::poll_write_all;

/// Bodies with more than this still to come are read into large buffers.
const LARGE_BODY: u64 = 128 * 1024;

/// Why a body did not arrive whole.
#[derive(Debug)]
pub enum Broken {
    /// The sender's connection failed.
    Read,
    /// The receiver's connection failed.
    Write,
    /// The sender closed before the end, or without TLS's word for it.
    Truncated,
    /// The sender's framing is wrong.
    Framing(&'static str),
    /// The body is larger than allowed.
    TooLarge,
}

impl Broken {
    /// Why a session ended: `sender` is to blame for it, or `receiver`. Nobody is where a stream at
    /// rest ended without TLS's word for it: RFC 8446 §6.1 asks for that word, but many leave it
    /// out, and nothing was cut short.
    pub fn reason(&self, at_rest: bool, sender: Reason, receiver: Reason) -> Option<Reason> {
        match self {
            Self::Truncated if at_rest => None,
            Self::Write => Some(receiver),
            _ => Some(sender),
        }
    }
}

/// What a relay waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// The sender.
    Read,
    /// The receiver.
    Write,
}

/// The state of one transfer.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // Facts that are independent of each other.
pub struct Relay {
    decoder: Decoder,
    chunked_out: bool,
    /// Written before the data: a message's head, a chunk's size line.
    lead: Vec<u8>,
    buffer: Buffer,
    /// The staged data, as positions in the buffer's room.
    data: (usize, usize),
    /// Buffered bytes that the staged data stands for.
    used: usize,
    /// Written after the data.
    tail: Vec<u8>,
    /// Of lead, data and tail together.
    written: usize,
    /// The last bytes are staged.
    finished: bool,
    limit: Option<u64>,
    /// One read while much is still to come.
    large: usize,
    /// The receiver is gone, and what comes is thrown away.
    discards: bool,
    /// The sender is done, and whoever asked has been told.
    told: bool,
    /// Data bytes taken from the sender.
    pub received: u64,
    /// Bytes written to the receiver, framing included.
    pub sent: u64,
    /// What the last `Pending` waits for.
    pub waiting: Waiting,
    /// Something moved since this was last cleared.
    pub moved: bool,
}

impl Relay {
    /// A transfer of a body of this length. `lead` is written first, in the same call as the first
    /// data; `buffer` may hold the body's beginning. `limit` bounds the data in bytes.
    pub fn new(
        length: Length,
        chunked_out: bool,
        lead: Vec<u8>,
        buffer: Buffer,
        limit: Option<u64>,
    ) -> Self {
        Self::resume(Decoder::new(length), chunked_out, lead, buffer, limit)
    }

    /// The same for bodies that clients send: larger reads.
    pub fn upload(mut self) -> Self {
        self.large = UPLOAD_BYTES;
        self
    }

    /// A transfer of what `decoder` has not seen yet.
    pub fn resume(
        decoder: Decoder,
        chunked_out: bool,
        lead: Vec<u8>,
        buffer: Buffer,
        limit: Option<u64>,
    ) -> Self {
        Self {
            finished: decoder.is_done(),
            decoder,
            chunked_out,
            lead,
            buffer,
            data: (0, 0),
            used: 0,
            tail: Vec::new(),
            written: 0,
            limit,
            large: LARGE_BYTES,
            discards: false,
            told: false,
            received: 0,
            sent: 0,
            waiting: Waiting::Read,
            moved: false,
        }
    }

    /// Whether everything was received and written.
    pub fn is_done(&self) -> bool {
        self.finished && self.staged() == 0
    }

    /// Takes the buffers back; the first holds what came behind the body.
    pub fn into_buffers(self) -> (Buffer, Vec<u8>) {
        (self.buffer, self.lead)
    }

    /// The receiver is gone: the rest is read and thrown away.
    pub fn discard(&mut self) {
        self.discards = true;
    }

    /// Whether the receiver is gone.
    pub fn discards(&self) -> bool {
        self.discards
    }

    /// Whether all that came was passed on.
    pub fn is_at_rest(&self) -> bool {
        self.staged() == 0 && self.buffer.is_empty()
    }

    fn staged(&self) -> usize {
        self.lead.len() + (self.data.1 - self.data.0) + self.tail.len()
    }

    /// Moves what can be moved now.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &Buffers,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<Result<(), Broken>> {
        self.poll_telling(cx, buffers, from, to, || {})
    }

    /// Moves what can be moved now, and says once when the sender is done, before the last bytes
    /// are written: the receiver may act on these at once.
    pub fn poll_telling(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &Buffers,
        from: &mut Stream,
        to: &mut Stream,
        mut sender_done: impl FnMut(),
    ) -> Poll<Result<(), Broken>> {
        loop {
            // The first bytes of a body may be in the buffer already: they go with the head.
            if self.data.0 == self.data.1 && self.tail.is_empty() && !self.finished {
                self.stage()?;
            }
            if self.finished && !self.told {
                self.told = true;
                sender_done();
            }
            if self.staged() > 0 {
                self.waiting = Waiting::Write;
                ready!(self.poll_write(cx, to))?;
            }
            if self.finished {
                return Poll::Ready(Ok(()));
            }
            if self.buffer.is_empty() || self.decoder_needs_more() {
                self.waiting = Waiting::Read;
                ready!(self.poll_fill(cx, buffers, from))?;
            }
        }
    }

    /// Whether what is buffered is only the beginning of a size line or of trailers.
    fn decoder_needs_more(&self) -> bool {
        self.used == 0
    }

    /// Decodes what is buffered and stages it for writing.
    fn stage(&mut self) -> Result<(), Broken> {
        self.used = 0;
        if self.buffer.is_empty() {
            return Ok(());
        }
        let base = self.buffer.start;
        let decoded = self
            .decoder
            .decode(self.buffer.bytes_mut())
            .map_err(Broken::Framing)?;
        self.used = decoded.used;
        let size = decoded.data.len();
        self.received += size as u64;
        if self.limit.is_some_and(|limit| self.received > limit) {
            return Err(Broken::TooLarge);
        }
        self.data = (base + decoded.data.start, base + decoded.data.end);
        self.finished = self.decoder.is_done();
        if self.chunked_out {
            if size > 0 {
                encode_size_line(size, &mut self.lead);
                self.tail.extend_from_slice(b"\r\n");
            }
            if self.finished {
                self.stage_end();
            }
        }
        if self.staged() == 0 {
            self.buffer.consume(self.used);
        }
        Ok(())
    }

    fn stage_end(&mut self) {
        self.tail.extend_from_slice(b"0\r\n");
        self.tail.extend_from_slice(self.decoder.trailers());
        self.tail.extend_from_slice(b"\r\n");
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, to: &mut Stream) -> Poll<Result<(), Broken>> {
        let data = self.buffer.slice(self.data.0, self.data.1);
        let parts = [&self.lead[..], data, &self.tail[..]];
        let before = self.written;
        let polled = if self.discards {
            Poll::Ready(Ok(()))
        } else {
            poll_write_all(cx, to, parts, &mut self.written)
        };
        self.sent += (self.written - before) as u64;
        self.moved |= self.written > before;
        if ready!(polled).is_err() {
            return Poll::Ready(Err(Broken::Write));
        }
        self.lead.clear();
        self.tail.clear();
        self.written = 0;
        self.data = (0, 0);
        self.buffer.consume(self.used);
        Poll::Ready(Ok(()))
    }

    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &Buffers,
        from: &mut Stream,
    ) -> Poll<Result<(), Broken>> {
        if self.buffer.is_empty() {
            if self.buffer.size() > 0 {
                buffers.give(std::mem::take(&mut self.buffer));
            }
            // No buffer is held while the sender is silent.
            if ready!(from.poll_read_ready(cx)).is_err() {
                return Poll::Ready(Err(Broken::Read));
            }
            self.buffer = buffers.take(self.read_size());
        } else if self.buffer.spare().is_empty() {
            self.buffer.compact();
            if self.buffer.spare().is_empty() {
                self.buffer.grow(self.buffer.size() * 2);
            }
        }
        match from.poll_read(cx, self.buffer.spare()) {
            Poll::Ready(Ok(0)) => {
                if !self.decoder.close() {
                    return Poll::Ready(Err(Broken::Truncated));
                }
                self.finished = true;
                if self.chunked_out {
                    self.stage_end();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(count)) => {
                self.buffer.end += count;
                self.moved = true;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Err(Broken::Truncated))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(Broken::Read)),
            Poll::Pending => {
                if self.buffer.is_empty() {
                    buffers.give(std::mem::take(&mut self.buffer));
                }
                Poll::Pending
            }
        }
    }

    fn read_size(&self) -> usize {
        let large = self
            .decoder
            .remaining()
            .map_or(self.received > LARGE_BODY, |left| left > LARGE_BODY);
        if large { self.large } else { BODY_BYTES }
    }
}
