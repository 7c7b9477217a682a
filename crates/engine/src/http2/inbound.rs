//! What comes in on a stream of HTTP/2, to be read as HTTP/1.1: a head that was written down
//! already, then the body in its framing.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use evenflow_wire::http1::body::encode_size_line;
use evenflow_wire::http2::translate::trailer_lines;
use h2::RecvStream;

use super::broken;

/// A message on its way in.
#[derive(Debug)]
pub struct Inbound {
    /// Read first: the head, a chunk's size line, what ends a body.
    text: Bytes,
    /// Read then.
    data: Bytes,
    chunked: bool,
    /// A chunk's data was read, its end was not written yet.
    open: bool,
    ended: bool,
    /// Where more comes from.
    frames: RecvStream,
}

impl Inbound {
    /// A message whose head is written down in `head`.
    pub fn new(head: Vec<u8>, frames: RecvStream, chunked: bool) -> Self {
        Self {
            text: head.into(),
            data: Bytes::new(),
            chunked,
            open: false,
            ended: !chunked && frames.is_end_stream(),
            frames,
        }
    }

    /// Waits until there is something to read; `false` is the end.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.text.is_empty() && self.data.is_empty() {
            if self.ended {
                return Poll::Ready(Ok(false));
            }
            let mut text = Vec::new();
            match ready!(self.frames.poll_data(cx)) {
                Some(Ok(data)) => {
                    if self.chunked && !data.is_empty() {
                        self.end_chunk(&mut text);
                        encode_size_line(data.len(), &mut text);
                        self.open = true;
                    }
                    self.data = data;
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(&error))),
                None => {
                    let trailers = match ready!(self.frames.poll_trailers(cx)) {
                        Ok(trailers) => trailers,
                        Err(error) => return Poll::Ready(Err(broken(&error))),
                    };
                    self.ended = true;
                    if self.chunked {
                        self.end_chunk(&mut text);
                        text.extend_from_slice(b"0\r\n");
                        if let Some(trailers) = trailers {
                            trailer_lines(&trailers, &mut text)
                                .map_err(|what| io::Error::new(io::ErrorKind::InvalidData, what))?;
                        }
                        text.extend_from_slice(b"\r\n");
                    }
                }
            }
            self.text = text.into();
        }
        Poll::Ready(Ok(true))
    }

    fn end_chunk(&mut self, text: &mut Vec<u8>) {
        if std::mem::take(&mut self.open) {
            text.extend_from_slice(b"\r\n");
        }
    }

    /// Reads into `buffer`. `Ok(0)` is the end of the message. What was read of a body makes room
    /// in the sender's window.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let (mut filled, mut taken) = (0, 0);
        let polled = loop {
            filled += copy(&mut self.text, &mut buffer[filled..]);
            let count = copy(&mut self.data, &mut buffer[filled..]);
            filled += count;
            taken += count;
            if filled == buffer.len() {
                break Poll::Ready(Ok(true));
            }
            match self.poll_ready(cx) {
                Poll::Ready(Ok(true)) => {}
                polled => break polled,
            }
        };
        if taken > 0 {
            // Fails only where nobody sends any more.
            let _ = self.frames.flow_control().release_capacity(taken);
        }
        match polled {
            // What hinders the next byte is told when it is asked for.
            _ if filled > 0 => Poll::Ready(Ok(filled)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(0)),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Moves what fits from one to the other.
fn copy(from: &mut Bytes, to: &mut [u8]) -> usize {
    let count = from.len().min(to.len());
    from.copy_to_slice(&mut to[..count]);
    count
}
