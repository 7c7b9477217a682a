//! What goes out on a stream of HTTP/2, written as HTTP/1.1: first a head, then the body, taken out
//! of its framing.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use evenflow_wire::http1::body::Decoder;
use evenflow_wire::http1::head::{Length, Scan, scan};
use evenflow_wire::http2::Key;
use evenflow_wire::http2::translate::trailer_block;

use super::session::{BROKEN_OFF, Protocol, Session};

/// The largest head that is written here; those of requests may have been added to.
const MAX_HEAD: usize = 2 * 1024 * 1024;

/// Bytes taken although the receiver's window is full. Framing, which takes no room in it, may be
/// all there is: whoever waited for room then might wait for ever.
const SLACK: usize = 64;

/// Takes a head's bytes, as many as belong to it.
#[derive(Debug, Default)]
pub struct Head {
    text: Vec<u8>,
    scanned: usize,
}

impl Head {
    /// Takes from the slices, and gives the head to `whole` once it is that; answers how many bytes
    /// were taken.
    ///
    /// # Errors
    /// It is none, or what `whole` says.
    pub fn take(
        &mut self,
        slices: &[IoSlice<'_>],
        whole: impl FnOnce(&[u8]) -> io::Result<()>,
    ) -> io::Result<usize> {
        // Most heads come in one piece.
        if let Some(first) = slices.first()
            && self.text.is_empty()
            && let Ok(Scan::Complete(len)) = scan(first, 0)
        {
            return whole(&first[..len]).map(|()| len);
        }
        let mut taken = 0;
        for slice in slices {
            let before = self.text.len();
            self.text.extend_from_slice(slice);
            match scan(&self.text, self.scanned) {
                Ok(Scan::Complete(len)) => {
                    self.scanned = 0;
                    let text = std::mem::take(&mut self.text);
                    return whole(&text[..len]).map(|()| taken + len - before);
                }
                Ok(Scan::Partial(at)) if self.text.len() < MAX_HEAD => self.scanned = at,
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
            taken += slice.len();
        }
        Ok(taken)
    }
}

/// What a writer has handed over and the windows do not take yet.
#[derive(Debug, Default)]
pub struct Rest {
    data: Vec<u8>,
    /// The body ends behind the data.
    end: bool,
    /// The lines of its trailers.
    trailers: Vec<u8>,
}

impl Rest {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty() && !self.end
    }

    /// Whether the body ends with it.
    pub fn is_last(&self) -> bool {
        self.end
    }

    /// Sends what the windows take; what is left.
    pub fn send(mut self, protocol: &mut Protocol, key: Key) -> Self {
        if self.is_empty() {
            return self;
        }
        let last = self.end && self.trailers.is_empty();
        let sent = protocol.send_data(key, &self.data, last);
        self.data.drain(..sent);
        if !self.data.is_empty() {
            return self;
        }
        if self.end && !last {
            send_trailers(protocol, key, &self.trailers);
        }
        Self::default()
    }
}

/// Ends a body with trailers; malformed ones must not look like its end.
fn send_trailers(protocol: &mut Protocol, key: Key, lines: &[u8]) {
    let mut block = Vec::new();
    if trailer_block(lines, &mut block).is_ok() {
        protocol.send_trailers(key, |out| out.extend_from_slice(&block));
    } else {
        protocol.reset(key, BROKEN_OFF);
    }
}

/// A body on its way out.
#[derive(Debug)]
pub struct Outbound {
    framing: Framing,
    /// The end was handed over.
    ended: bool,
}

#[derive(Debug)]
enum Framing {
    /// So many bytes are to come.
    Known(u64),
    /// All bytes are data, until the writer closes.
    UntilClose,
    /// Chunks: what was taken and not decoded is at most the beginning of a line of framing.
    Chunked(Box<Decoder>, Vec<u8>),
}

impl Outbound {
    /// A body of this length.
    pub fn new(length: Length) -> Self {
        Self {
            ended: length == Length::None,
            framing: match length {
                Length::None => Framing::Known(0),
                Length::Known(length) => Framing::Known(length),
                Length::UntilClose => Framing::UntilClose,
                Length::Chunked => Framing::Chunked(Box::new(Decoder::new(length)), Vec::new()),
            },
        }
    }

    /// Whether all of it was handed over.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Takes what the receiver has room for.
    pub fn poll_write(
        &mut self,
        session: &Session,
        key: Key,
        cx: &Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        if self.ended || total == 0 {
            return Poll::Ready(Ok(0));
        }
        session.change(|protocol| {
            if let Some(error) = session.error(protocol, key) {
                return Poll::Ready(Err(error));
            }
            let waits = protocol
                .user(key)
                .is_some_and(|state| !state.rest.is_empty());
            let taken = match protocol.sendable(key) {
                _ if waits => 0,
                room => self.take(protocol, key, slices, total.min(room.max(SLACK)))?,
            };
            if protocol
                .user(key)
                .is_some_and(|state| !state.rest.is_empty())
            {
                session.enlist(protocol, key);
            }
            if taken > 0 {
                return Poll::Ready(Ok(taken));
            }
            if protocol.is_stream_window_closed(key) {
                session.wait(protocol, key, cx);
            } else {
                session.wait_for_connection(protocol, key, cx);
            }
            Poll::Pending
        })
    }

    /// Takes what may be sent; of a body in chunks up to `room` bytes.
    fn take(
        &mut self,
        protocol: &mut Protocol,
        key: Key,
        slices: &[IoSlice<'_>],
        room: usize,
    ) -> io::Result<usize> {
        let mut taken = 0;
        match &mut self.framing {
            Framing::Known(length) => {
                for slice in slices {
                    let most = usize::try_from(*length).unwrap_or(usize::MAX);
                    let piece = &slice[..slice.len().min(most)];
                    let sent = protocol.send_data(key, piece, piece.len() == most);
                    *length -= sent as u64;
                    taken += sent;
                    self.ended = *length == 0;
                    if self.ended || sent < piece.len() {
                        break;
                    }
                }
                Ok(taken)
            }
            Framing::UntilClose => {
                for slice in slices {
                    let sent = protocol.send_data(key, slice, false);
                    taken += sent;
                    if sent < slice.len() {
                        break;
                    }
                }
                Ok(taken)
            }
            Framing::Chunked(decoder, staged) => {
                let mut left = room;
                for slice in slices {
                    let count = slice.len().min(left);
                    staged.extend_from_slice(&slice[..count]);
                    taken += count;
                    left -= count;
                }
                let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
                let decoded = decoder.decode(staged).map_err(invalid)?;
                self.ended = decoder.is_done();
                let trailers = if self.ended { decoder.trailers() } else { b"" };
                let mut rest = Rest::default();
                let data = &staged[decoded.data];
                let last = self.ended && trailers.is_empty();
                let sent = protocol.send_data(key, data, last);
                if sent < data.len() {
                    rest.data.extend_from_slice(&data[sent..]);
                    rest.end = self.ended;
                    rest.trailers.extend_from_slice(trailers);
                } else if self.ended && !last {
                    send_trailers(protocol, key, trailers);
                }
                staged.drain(..decoded.used);
                if let Some(state) = protocol.user(key) {
                    state.rest = rest;
                }
                Ok(taken)
            }
        }
    }

    /// The writer closes: the end of a body that ends so.
    pub fn close(&mut self, session: &Session, key: Key) {
        if !self.ended && matches!(self.framing, Framing::UntilClose) {
            self.ended = true;
            session.change(|protocol| protocol.send_data(key, b"", true));
        }
    }
}
