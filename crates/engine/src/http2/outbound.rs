//! What goes out on a stream of HTTP/2, written as HTTP/1.1: first a head, then the body, taken out
//! of its framing.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use evenflow_wire::http1::body::Decoder;
use evenflow_wire::http1::head::{Length, Scan, scan};
use evenflow_wire::http2::translate::trailers;
use h2::{Reason, SendStream};

use super::broken;

/// The largest head that is written here; those of requests may have been added to.
const MAX_HEAD: usize = 2 * 1024 * 1024;

/// Bytes taken although the receiver's window is full. Framing, which takes no room in it, may be
/// all there is: whoever waited for room then might wait for ever.
const SLACK: usize = 1024;

/// Takes a head's bytes, as many as belong to it.
#[derive(Debug, Default)]
pub struct Head {
    text: BytesMut,
    scanned: usize,
}

impl Head {
    /// Takes from the slices; how many bytes, and the head once it is whole.
    ///
    /// # Errors
    /// It is none.
    pub fn take(&mut self, slices: &[IoSlice<'_>]) -> io::Result<(usize, Option<Bytes>)> {
        let mut taken = 0;
        for slice in slices {
            let before = self.text.len();
            self.text.extend_from_slice(slice);
            match scan(&self.text, self.scanned) {
                Ok(Scan::Complete(len)) => {
                    self.scanned = 0;
                    self.text.truncate(len);
                    let whole = std::mem::take(&mut self.text).freeze();
                    return Ok((taken + len - before, Some(whole)));
                }
                Ok(Scan::Partial(at)) if self.text.len() < MAX_HEAD => self.scanned = at,
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
            taken += slice.len();
        }
        Ok((taken, None))
    }
}

/// A body on its way out.
#[derive(Debug)]
pub struct Outbound {
    frames: SendStream<Bytes>,
    decoder: Decoder,
    /// Taken and not decoded yet: at most the beginning of a line of framing.
    staged: BytesMut,
    /// Data taken beyond the receiver's window since it last had room.
    ahead: usize,
    /// The end is sent.
    ended: bool,
}

impl Outbound {
    /// A body of this length.
    pub fn new(frames: SendStream<Bytes>, length: Length) -> Self {
        Self {
            frames,
            decoder: Decoder::new(length),
            staged: BytesMut::new(),
            ahead: 0,
            ended: length == Length::None,
        }
    }

    /// Whether all of it was handed over.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Takes what the receiver has room for.
    pub fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total = slices.iter().map(|slice| slice.len()).sum();
        if self.ended || total == 0 {
            return Poll::Ready(Ok(0));
        }
        self.frames.reserve_capacity(total);
        let mut room = self.frames.capacity();
        if room == 0 {
            match self.frames.poll_capacity(cx) {
                Poll::Ready(Some(Ok(more))) => room = more,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(broken(&error))),
                Poll::Ready(None) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Poll::Pending => {}
            }
        }
        if room > 0 {
            self.ahead = 0;
        }
        let mut left = total.min(room + (SLACK - self.ahead.min(SLACK)));
        if left == 0 {
            return Poll::Pending;
        }
        let taken = left;
        self.staged.reserve(left);
        for slice in slices {
            let count = slice.len().min(left);
            self.staged.extend_from_slice(&slice[..count]);
            left -= count;
        }
        Poll::Ready(self.send(room).map(|()| taken))
    }

    /// The writer closes: the end of a body that ends so.
    pub fn close(&mut self) -> io::Result<()> {
        if !self.ended && self.decoder.close() {
            self.ended = true;
            let sent = self.frames.send_data(Bytes::new(), true);
            return sent.map_err(|error| broken(&error));
        }
        Ok(())
    }

    /// Sends what can be decoded.
    fn send(&mut self, room: usize) -> io::Result<()> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let decoded = self.decoder.decode(&mut self.staged).map_err(invalid)?;
        let mut data = self.staged.split_to(decoded.used);
        data.truncate(decoded.data.end);
        data.advance(decoded.data.start);
        self.ahead += data.len().saturating_sub(room);
        self.ended = self.decoder.is_done();
        let trailers = match self.decoder.trailers() {
            lines if self.ended && !lines.is_empty() => Some(trailers(lines).map_err(invalid)?),
            _ => None,
        };
        let last = self.ended && trailers.is_none();
        let mut sent = Ok(());
        if last || !data.is_empty() {
            sent = self.frames.send_data(data.freeze(), last);
        }
        if let (Ok(()), Some(trailers)) = (&sent, trailers) {
            sent = self.frames.send_trailers(trailers);
        }
        sent.map_err(|error| broken(&error))
    }

    /// Waits until the receiver gives the stream up.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.frames.poll_reset(cx).map(|_| ())
    }

    /// Tells the receiver that the rest will not come.
    pub fn reset(&mut self, reason: Reason) {
        self.frames.send_reset(reason);
    }
}
