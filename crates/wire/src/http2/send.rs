//! What is sent: heads, data and trailers, as far as windows and room in the output allow.

use super::connection::Connection;
use super::error::ErrorCode;
use super::frame::{self, HEADER_LEN, Header, flag, kind};
use super::hpack;
use super::stream::{Half, Key};

/// The largest frame of data in bytes that is sent, whatever the peer takes: a larger one would keep
/// other streams waiting.
const MAX_DATA: usize = 16 * 1024;

impl<T> Connection<T> {
    /// Begins a stream with a request's head, whose fields `write` appends in the form of HPACK.
    /// `None`: it cannot be begun now, see [`can_open`](Self::can_open).
    pub fn open(
        &mut self,
        user: T,
        head_request: bool,
        end: bool,
        now_ms: u64,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Option<Key> {
        if !self.can_open() {
            return None;
        }
        let key = self.add(self.next, now_ms, user);
        self.next += 2;
        if let Some(stream) = self.streams.get_mut(key) {
            stream.head_request = head_request;
        }
        self.send_head(key, end, write);
        Some(key)
    }

    /// Sends a head, whose fields `write` appends in the form of HPACK. `end`: there is no body.
    /// `false`: the stream is over.
    pub fn send_head(&mut self, key: Key, end: bool, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let sending = if end { Half::Ended } else { Half::Body };
        self.send_block(key, Half::Head, sending, write)
    }

    /// Sends the head of an interim response.
    pub fn send_interim(&mut self, key: Key, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.send_block(key, Half::Head, Half::Head, write)
    }

    /// Ends a body with trailers.
    pub fn send_trailers(&mut self, key: Key, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.send_block(key, Half::Body, Half::Ended, write)
    }

    fn send_block(
        &mut self,
        key: Key,
        from: Half,
        to: Half,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let Some(stream) = self.streams.get_mut(key) else {
            return false;
        };
        if stream.is_closed() || stream.sending != from {
            return false;
        }
        stream.sending = to;
        let id = stream.id;
        let start = frame::begin_headers(&mut self.out);
        if std::mem::take(&mut self.size_update) {
            hpack::size_update(&mut self.out);
        }
        write(&mut self.out);
        let end = to == Half::Ended;
        frame::finish_headers(&mut self.out, start, id, end, self.peer.max_payload);
        self.streams.settle(key);
        true
    }

    /// Bytes of data that windows and output take now.
    pub fn sendable(&self, key: Key) -> usize {
        let stream = self.streams.get(key).filter(|stream| !stream.is_closed());
        stream.map_or(0, |stream| {
            let windows = stream
                .send_window
                .available()
                .min(self.send_window.available());
            windows.min(self.room())
        })
    }

    /// Whether it is the stream's own window that lets nothing through.
    pub fn is_stream_window_closed(&self, key: Key) -> bool {
        let stream = self.streams.get(key);
        stream.is_some_and(|stream| stream.send_window.available() == 0)
    }

    /// Sends data, as much as [`sendable`](Self::sendable) says; answers how much. `end`: if that is
    /// all of it, it is the last.
    pub fn send_data(&mut self, key: Key, data: &[u8], end: bool) -> usize {
        let count = data.len().min(self.sendable(key));
        let whole = count == data.len();
        let Some(stream) = self.streams.get_mut(key) else {
            return 0;
        };
        if stream.is_closed() || stream.sending != Half::Body || (count == 0 && !(whole && end)) {
            return 0;
        }
        let max = self.peer.max_payload.min(MAX_DATA);
        let mut rest = &data[..count];
        loop {
            let (piece, further) = rest.split_at(rest.len().min(max));
            let last = whole && end && further.is_empty();
            let header = Header {
                len: piece.len(),
                kind: kind::DATA,
                flags: if last { flag::END_STREAM } else { 0 },
                stream: stream.id,
            };
            self.out.reserve(HEADER_LEN + piece.len());
            self.out.extend_from_slice(&header.bytes());
            self.out.extend_from_slice(piece);
            // The peer answers data with updates of windows.
            self.idle_frames.refund(4 + piece.len() as u32 / 256);
            rest = further;
            if rest.is_empty() {
                break;
            }
        }
        stream.send_window.sent(count as u32);
        self.send_window.sent(count as u32);
        if whole && end {
            stream.sending = Half::Ended;
            self.streams.settle(key);
        }
        count
    }

    /// Received bytes were used up: the stream's window opens again, up to `limit` bytes, which is at
    /// least 1.
    pub fn release(&mut self, key: Key, count: usize, limit: u32) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        let increment = stream.receive_window.release(count as u32, limit);
        if let Some(increment) = increment
            && stream.receiving == Half::Body
            && stream.failure.is_none()
        {
            frame::window_update(&mut self.out, stream.id, increment);
        }
    }

    /// Tells the peer that a stream will get no more, for an error of this side's.
    pub fn abort(&mut self, key: Key) {
        self.reset(key, ErrorCode::INTERNAL_ERROR);
    }
}
