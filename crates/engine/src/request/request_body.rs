//! A request's body on its way to an endpoint. What came with the head, and small bodies of known
//! length, stay in the connection's buffer, so that they can be sent again; the rest is streamed.

use std::io::IoSlice;
use std::task::{Context, Poll};

use evenflow_rules::reason::Reason;
use evenflow_wire::edit::Edit;
use evenflow_wire::http1::body::{Decoder, encode_size_line};
use evenflow_wire::http1::head::{Length, RequestHead};

use crate::buffer::Buffer;
use crate::connection::Connection;
use crate::relay::{Broken, Relay, Waiting};
use crate::stream::Stream;

/// The largest body of known length that is kept to be sent again.
const REPLAY_BYTES: u64 = 64 * 1024;

/// The body of one request.
#[derive(Debug)]
pub struct RequestBody {
    head_len: usize,
    /// Data in the buffer, relative to the head's beginning.
    data: (usize, usize),
    /// Bytes behind the head that the data stands for.
    used: usize,
    chunked: bool,
    /// Trailer lines of a chunked body that is all here.
    trailers: Vec<u8>,
    rest: Rest,
    /// The receiver takes no more; its answer says why.
    stopped: bool,
}

#[derive(Debug)]
enum Rest {
    /// All data is in the buffer.
    Here,
    /// So many bytes belong into the buffer, and so many of them went to the endpoint.
    FilterState {
        length: usize,
        sent: usize,
        /// Of these, those that went with the head.
        first: usize,
    },
    /// More comes than is kept.
    Stream(Box<Relay>),
}

impl RequestBody {
    /// Looks at what came with the head. `keep` asks for small bodies to be kept whatever the
    /// method; what `edit` takes out of the header is no trailer either.
    ///
    /// # Errors
    /// What is wrong with the body's framing, or that it is too large.
    pub fn new(
        connection: &mut Connection,
        head: &RequestHead,
        limit: u64,
        keep: bool,
        edit: &Edit,
    ) -> Result<Self, Reason> {
        let head_len = head.len;
        let mut body = Self {
            head_len,
            data: (head_len, head_len),
            used: 0,
            chunked: head.length == Length::Chunked,
            trailers: Vec::new(),
            rest: Rest::Here,
            stopped: false,
        };
        if head.length == Length::None {
            return Ok(body);
        }
        if let Length::Known(length) = head.length {
            let room = connection.buffer.size() - connection.buffer.start - head_len;
            let idempotent = matches!(
                head.method.get(connection.buffer.bytes()),
                b"PUT" | b"DELETE" | b"GET" | b"OPTIONS"
            );
            if length <= room as u64 || ((keep || idempotent) && length <= REPLAY_BYTES) {
                let length = length as usize;
                let start = connection.buffer.start;
                connection.buffer.grow(start + head_len + length);
                body.rest = Rest::FilterState {
                    length,
                    sent: 0,
                    first: 0,
                };
                body.take_kept(&connection.buffer, length);
                return Ok(body);
            }
        }
        let mut decoder = Decoder::new(head.length).without(edit.removed());
        let decoded = decoder
            .decode(&mut connection.buffer.bytes_mut()[head_len..])
            .map_err(Reason::BadRequest)?;
        let size = decoded.data.len() as u64;
        if limit != 0 && size > limit {
            return Err(Reason::BodyTooLarge);
        }
        body.data = (head_len + decoded.data.start, head_len + decoded.data.end);
        body.used = decoded.used;
        body.trailers.extend_from_slice(decoder.trailers());
        if !decoder.is_done() {
            let mut buffer = connection.worker.buffers.take(crate::buffer::BODY_BYTES);
            let bytes = connection.buffer.bytes();
            buffer.extend(&bytes[head_len + decoded.used..]);
            body.used = bytes.len() - head_len;
            let left = (limit != 0).then(|| limit - size);
            body.rest = Rest::Stream(Box::new(
                Relay::resume(decoder, body.chunked, Vec::new(), buffer, left).upload(),
            ));
            connection.watch_body();
        }
        Ok(body)
    }

    /// Notes how much of a kept body is in the buffer.
    fn take_kept(&mut self, buffer: &Buffer, length: usize) {
        let here = (buffer.bytes().len() - self.head_len).min(length);
        self.data.1 = self.head_len + here;
        self.used = here;
    }

    /// Begins to send: what is here goes with the head. Data that must be framed is appended to
    /// `out`; else [`first`](Self::first) is to be written behind it.
    pub fn begin(&mut self, buffer: &Buffer, out: &mut Vec<u8>) {
        let here = self.data.1 - self.data.0;
        if let Rest::FilterState { sent, first, .. } = &mut self.rest {
            (*sent, *first) = (here, here);
        }
        if !self.chunked {
            return;
        }
        if here > 0 {
            encode_size_line(here, out);
            out.extend_from_slice(&buffer.bytes()[self.data.0..self.data.1]);
            out.extend_from_slice(b"\r\n");
        }
        if matches!(self.rest, Rest::Here) {
            out.extend_from_slice(b"0\r\n");
            out.extend_from_slice(&self.trailers);
            out.extend_from_slice(b"\r\n");
        }
    }

    /// The data that goes with the head as it is.
    pub fn first<'a>(&self, buffer: &'a Buffer) -> &'a [u8] {
        if self.chunked {
            return b"";
        }
        let end = match self.rest {
            Rest::FilterState { first, .. } => self.data.0 + first,
            Rest::Here | Rest::Stream(_) => self.data.1,
        };
        &buffer.bytes()[self.data.0..end]
    }

    /// Whether all of it was received and sent.
    pub fn is_done(&self) -> bool {
        match &self.rest {
            Rest::Here => true,
            Rest::FilterState { length, sent, .. } => sent == length,
            Rest::Stream(relay) => relay.is_done(),
        }
    }

    /// Whether all of it is here, to be sent once more.
    pub fn is_whole(&self) -> bool {
        !matches!(self.rest, Rest::Stream(_)) && self.is_done()
    }

    /// Whether what was received so far can be sent again.
    pub fn is_replayable(&self) -> bool {
        match &self.rest {
            Rest::Here | Rest::FilterState { .. } => true,
            Rest::Stream(relay) => relay.received == 0 && relay.sent == 0,
        }
    }

    /// What is waited for while the body is under way.
    pub fn waiting(&self) -> Waiting {
        match &self.rest {
            Rest::Stream(relay) => relay.waiting,
            Rest::FilterState { sent, .. } if self.head_len + sent < self.data.1 => Waiting::Write,
            Rest::FilterState { .. } | Rest::Here => Waiting::Read,
        }
    }

    /// Bytes of data received.
    pub fn received(&self) -> u64 {
        let here = (self.data.1 - self.data.0) as u64;
        match &self.rest {
            Rest::Stream(relay) => here + relay.received,
            _ => here,
        }
    }

    /// Bytes sent to the endpoint beyond the first write.
    pub fn streamed(&self) -> u64 {
        match &self.rest {
            Rest::Stream(relay) => relay.sent,
            Rest::FilterState { sent, first, .. } => (sent - first) as u64,
            Rest::Here => 0,
        }
    }

    /// Sends what can be sent now. `Ready(Ok)` once all is sent or the endpoint takes no more.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
        to: &mut Stream,
    ) -> Poll<Result<(), Broken>> {
        if self.stopped {
            return Poll::Ready(Ok(()));
        }
        let polled = match &mut self.rest {
            Rest::Here => return Poll::Ready(Ok(())),
            Rest::FilterState { .. } => self.poll_kept(cx, connection, to),
            Rest::Stream(relay) => {
                relay.poll(cx, &connection.worker.buffers, &mut connection.stream, to)
            }
        };
        if let Poll::Ready(Ok(())) = polled {
            connection.watch_next_request();
        }
        if let Poll::Ready(Err(Broken::Write)) = polled {
            // It may have answered before it closed: whoever reads the answer will see.
            self.stopped = true;
            return Poll::Ready(Ok(()));
        }
        polled
    }

    fn poll_kept(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
        to: &mut Stream,
    ) -> Poll<Result<(), Broken>> {
        loop {
            if let Rest::FilterState { length, .. } = self.rest {
                // Some of it may have been read while the request waited for an endpoint.
                self.take_kept(&connection.buffer, length);
            }
            let Rest::FilterState { length, sent, .. } = &mut self.rest else {
                return Poll::Ready(Ok(()));
            };
            let length = *length;
            let pending = self.head_len + *sent..self.data.1;
            if !pending.is_empty() {
                let data = &connection.buffer.bytes()[pending];
                match to.poll_write_vectored(cx, &[IoSlice::new(data)]) {
                    Poll::Ready(Ok(count)) if count > 0 => *sent += count,
                    Poll::Ready(_) => return Poll::Ready(Err(Broken::Write)),
                    Poll::Pending => return Poll::Pending,
                }
                continue;
            }
            if *sent == length {
                return Poll::Ready(Ok(()));
            }
            match connection.stream.poll_read(cx, connection.buffer.spare()) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Broken::Truncated)),
                Poll::Ready(Ok(count)) => connection.buffer.end += count,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Read)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Goes on sending while the answer is relayed already. Failures stop it silently: the
    /// connections close after the answer, since the body is not done.
    pub fn poll_beside(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection,
        to: &mut Stream,
    ) {
        if !self.is_done() && !self.stopped {
            self.stopped = matches!(self.poll(cx, connection, to), Poll::Ready(Err(_)));
        }
    }

    /// Gives up; the connection closes.
    pub fn abandon(&mut self, connection: &mut Connection) {
        if let Rest::Stream(relay) = std::mem::replace(&mut self.rest, Rest::Here) {
            let (buffer, _) = relay.into_buffers();
            connection.worker.buffers.give(buffer);
        }
    }

    /// Takes a finished body out of the connection's buffer, so that only the head and what
    /// follows the body are left.
    pub fn finish(&mut self, connection: &mut Connection, head_len: usize) {
        if !self.is_done() {
            self.abandon(connection);
            return;
        }
        let bytes = connection.buffer.bytes_mut();
        let len = bytes.len();
        bytes.copy_within(head_len + self.used..len, head_len);
        connection.buffer.end -= self.used;
        if let Rest::Stream(relay) = std::mem::replace(&mut self.rest, Rest::Here) {
            let (buffer, _) = relay.into_buffers();
            // What was read behind the body by the body's own reads came before what was read
            // while the answer was waited for.
            let later = connection.buffer.bytes()[head_len..].to_vec();
            connection.buffer.end = connection.buffer.start + head_len;
            connection.buffer.extend(buffer.bytes());
            connection.buffer.extend(&later);
            connection.worker.buffers.give(buffer);
        }
    }
}
