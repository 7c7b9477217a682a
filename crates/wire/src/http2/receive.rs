//! Received bytes: frames taken apart, checked against the state, and turned into events.

use std::ops::Range;

use super::connection::{Connection, Role};
use super::error::{ConnectionError, ErrorCode, FrameError};
use super::frame::{self, Frame, HEADER_LEN, Header, MAX_PAYLOAD, flag, kind};
use super::input::{Block, Data};
use super::stream::{Failure, Half, Key};

/// What happened on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A head came, in [`Connection::section`]: a request's on a new stream, or a response's.
    Head(Key),
    /// The head of an interim response came, in [`Connection::section`].
    Interim(Key),
    /// A request's head came that is larger than allowed. What came of it is in
    /// [`Connection::section`].
    TooLarge(Key),
    /// Data came: this range of the bytes that were given. It is held in the stream's window until
    /// [`Connection::release`].
    Data(Key, Range<usize>),
    /// The end of a body came, behind trailers in [`Connection::section`] if `true`.
    End(Key, bool),
    /// The stream is over, see [`Connection::failure`].
    Reset(Key),
    /// A malformed request was refused before it had a stream here.
    Malformed(&'static str),
    /// A stream may send again.
    StreamWindow(Key),
    /// The connection may send again, or all streams may.
    ConnectionWindow,
    /// The peer's settings came or changed.
    Settings,
    /// The peer works on no further streams; those beyond its last have failed.
    GoAway,
    /// The answer to a `PING`.
    Pong([u8; 8]),
}

/// What was made of received bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Bytes used up; the rest is to be given again, with more behind it.
    pub used: usize,
    /// What happened. `None`: more bytes are needed.
    pub event: Option<Event>,
}

impl<T: Default> Connection<T> {
    /// Takes received bytes up to the next event; to be called until there is none. `now_ms` is any
    /// clock in milliseconds.
    ///
    /// # Errors
    /// The connection cannot go on; [`Connection::fail`] tells the peer.
    pub fn receive(&mut self, bytes: &[u8], now_ms: u64) -> Result<Received, ConnectionError> {
        let mut used = self.take_preface(bytes)?;
        loop {
            let rest = &bytes[used..];
            if let Some(data) = self.input.data {
                let (count, event) = self.take_data(data, rest.len(), used);
                used += count;
                if event.is_some() {
                    return Ok(Received { used, event });
                }
                if self.input.data.is_some() {
                    return Ok(Received { used, event: None });
                }
                continue;
            }
            let partial = Received { used, event: None };
            let Some((header, rest)) = rest.split_first_chunk() else {
                return Ok(partial);
            };
            let header = Header::parse(*header);
            self.check_header(header)?;
            let begun = if header.kind == kind::DATA {
                let padded = usize::from(header.has(flag::PADDED));
                let Some(pad) = rest.get(..padded.min(header.len)) else {
                    return Ok(partial);
                };
                used += HEADER_LEN + pad.len();
                self.begin_data(header, pad.first().copied(), now_ms)
                    .map(|()| None)
            } else {
                let Some(payload) = rest.get(..header.len) else {
                    return Ok(partial);
                };
                used += HEADER_LEN + header.len;
                frame::parse(header, payload)
                    .and_then(|frame| self.take_frame(header, frame, now_ms))
            };
            self.check_output()?;
            let event = match begun {
                Ok(event) => event,
                Err(FrameError::Connection(error)) => return Err(error),
                Err(FrameError::Stream(id, code)) => {
                    self.stream_error(id, code, now_ms)?.map(Event::Reset)
                }
            };
            if event.is_some() {
                return Ok(Received { used, event });
            }
        }
    }

    fn take_preface(&mut self, bytes: &[u8]) -> Result<usize, ConnectionError> {
        let count = self.input.preface.len().min(bytes.len());
        let (expected, rest) = self.input.preface.split_at(count);
        if bytes[..count] != *expected {
            return Err(ConnectionError::protocol("the preface is not valid"));
        }
        self.input.preface = rest;
        Ok(count)
    }

    fn check_header(&self, header: Header) -> Result<(), ConnectionError> {
        if header.len > MAX_PAYLOAD {
            return Err(ConnectionError::size("a frame is larger than allowed"));
        }
        let is_settings = header.kind == kind::SETTINGS && !header.has(flag::ACK);
        if !self.input.settled && !is_settings {
            return Err(ConnectionError::protocol("the first frame is not SETTINGS"));
        }
        let continues = header.kind == kind::CONTINUATION;
        match &self.input.block {
            Some(block) if continues && block.stream == header.stream => Ok(()),
            None if !continues => Ok(()),
            _ => Err(ConnectionError::protocol("a field block is interrupted")),
        }
    }

    /// A frame that moves nothing came.
    pub(super) fn idle_frame(&mut self, now_ms: u64) -> Result<(), ConnectionError> {
        if self.idle_frames.spend(now_ms) {
            return Ok(());
        }
        Err(ConnectionError::calm(
            "there are too many frames that move nothing",
        ))
    }

    /// Refuses frames for streams that were never begun (RFC 9113 §5.1, idle).
    fn check_begun(&self, id: u32) -> Result<(), ConnectionError> {
        let begun = match self.config.role {
            Role::Server => id <= self.last_peer,
            Role::Client => id < self.next,
        };
        if begun && id % 2 == 1 {
            return Ok(());
        }
        Err(ConnectionError::protocol(
            "a frame came for a stream that is not begun",
        ))
    }

    fn begin_data(
        &mut self,
        header: Header,
        pad: Option<u8>,
        now_ms: u64,
    ) -> Result<(), FrameError> {
        let id = header.stream;
        self.check_begun(id)?;
        let size = header.len as u32;
        if !self.receive_window.received(size) {
            let code = ErrorCode::FLOW_CONTROL_ERROR;
            return Err(ConnectionError::new(code, "the connection's window is exceeded").into());
        }
        let window = self.config.connection_window;
        if let Some(increment) = self.receive_window.release(size, window) {
            frame::window_update(&mut self.out, 0, increment);
        }
        let overhead = pad.map_or(usize::from(header.has(flag::PADDED)), |pad| {
            usize::from(pad) + 1
        });
        let Some(left) = header.len.checked_sub(overhead) else {
            return Err(ConnectionError::protocol("there is more padding than payload").into());
        };
        if left == 0 && !header.has(flag::END_STREAM) {
            self.idle_frame(now_ms)?;
        } else {
            self.idle_frames.refund(1);
        }
        let mut data = Data {
            key: None,
            left,
            padding: overhead.saturating_sub(1),
            end_stream: header.has(flag::END_STREAM),
        };
        self.input.data = Some(data);
        let Some(key) = self.streams.find(id) else {
            let late = self.may_be_late(id);
            return if late {
                Ok(())
            } else {
                Err(FrameError::Stream(id, ErrorCode::STREAM_CLOSED))
            };
        };
        let window = self.config.stream_window;
        let Some(stream) = self.streams.get_mut(key) else {
            return Ok(());
        };
        let checked = match stream.receiving {
            Half::Body if !stream.receive_window.received(size) => {
                Err(ErrorCode::FLOW_CONTROL_ERROR)
            }
            Half::Body => stream.expect_content(left as u64, data.end_stream),
            Half::Head => Err(ErrorCode::PROTOCOL_ERROR),
            Half::Ended => Err(ErrorCode::STREAM_CLOSED),
        };
        checked.map_err(|code| FrameError::Stream(id, code))?;
        if overhead > 0
            && let Some(increment) = stream.receive_window.release(overhead as u32, window)
        {
            frame::window_update(&mut self.out, id, increment);
        }
        data.key = Some(key);
        self.input.data = Some(data);
        Ok(())
    }

    /// Takes what is here of the data; answers how much that is. `offset` is where in the bytes it
    /// begins.
    fn take_data(
        &mut self,
        mut data: Data,
        available: usize,
        offset: usize,
    ) -> (usize, Option<Event>) {
        let count = data.left.min(available);
        data.left -= count;
        let skipped = if data.left == 0 {
            data.padding.min(available - count)
        } else {
            0
        };
        data.padding -= skipped;
        let whole = data.left == 0 && data.padding == 0;
        let mut event = None;
        if let Some(key) = data.key {
            if count > 0 {
                event = Some(Event::Data(key, offset..offset + count));
            } else if whole && data.end_stream {
                data.key = None;
                self.ended(key);
                event = Some(Event::End(key, false));
            }
        }
        // The end is an event of its own, so a frame that has one is not over with its last byte.
        let over = whole && (data.key.is_none() || !data.end_stream);
        self.input.data = (!over).then_some(data);
        (count + skipped, event)
    }

    /// The peer has sent all of a stream.
    pub(super) fn ended(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.receiving = Half::Ended;
            self.streams.settle(key);
        }
    }

    fn take_frame(
        &mut self,
        header: Header,
        frame: Frame<'_>,
        now_ms: u64,
    ) -> Result<Option<Event>, FrameError> {
        match frame {
            Frame::Headers {
                block,
                end_stream,
                end_headers,
                depends_on_itself,
            } => {
                let about = Block {
                    stream: header.stream,
                    end_stream,
                    depends_on_itself,
                };
                return self.take_headers(about, block, end_headers, now_ms);
            }
            Frame::Continuation { block, end_headers } => {
                return self.take_continuation(block, end_headers, now_ms);
            }
            Frame::Reset(code) => {
                self.check_begun(header.stream)?;
                if let Some(key) = self.streams.find(header.stream) {
                    self.was_reset(key, code, now_ms)?;
                    return Ok(Some(Event::Reset(key)));
                }
                self.idle_frame(now_ms)?;
            }
            Frame::Settings(payload) => {
                self.idle_frame(now_ms)?;
                self.take_settings(payload)?;
                return Ok(Some(Event::Settings));
            }
            Frame::Ping(data) => {
                self.idle_frame(now_ms)?;
                self.pong(data);
            }
            Frame::Pong(data) => return Ok(self.ponged(data).then_some(Event::Pong(data))),
            Frame::GoAway { last, .. } => {
                self.idle_frame(now_ms)?;
                self.take_goodbye(last);
                return Ok(Some(Event::GoAway));
            }
            Frame::WindowUpdate(increment) => {
                return self.take_window(header.stream, increment, now_ms);
            }
            Frame::Priority | Frame::SettingsAck | Frame::Unknown => self.idle_frame(now_ms)?,
        }
        Ok(None)
    }

    fn take_settings(&mut self, payload: &[u8]) -> Result<(), ConnectionError> {
        let before = self.peer;
        self.peer.apply(payload, self.config.role == Role::Client)?;
        self.input.settled = true;
        self.size_update |= self.peer.header_table_size < before.header_table_size;
        let by = i64::from(self.peer.initial_window) - i64::from(before.initial_window);
        if by != 0 {
            for (_, stream) in self.streams.iter_mut() {
                if stream.send_window.change(by).is_none() {
                    let code = ErrorCode::FLOW_CONTROL_ERROR;
                    return Err(ConnectionError::new(code, "a window is too large"));
                }
            }
        }
        frame::write(&mut self.out, kind::SETTINGS, flag::ACK, 0, &[]);
        Ok(())
    }

    fn take_goodbye(&mut self, last: u32) {
        let last = self.peer_goodbye.map_or(last, |earlier| earlier.min(last));
        self.peer_goodbye = Some(last);
        if self.config.role == Role::Server {
            return;
        }
        let mut keys = Vec::new();
        for (key, stream) in self.streams.iter_mut() {
            if stream.id > last && !stream.is_closed() {
                keys.push(key);
            }
        }
        for key in keys {
            let failure = Failure {
                code: ErrorCode::REFUSED_STREAM,
                unprocessed: true,
                remote: true,
            };
            self.break_off(key, failure);
        }
    }

    fn take_window(
        &mut self,
        id: u32,
        increment: u32,
        now_ms: u64,
    ) -> Result<Option<Event>, FrameError> {
        self.idle_frame(now_ms)?;
        let by = i64::from(increment);
        if id == 0 {
            let opened = self.send_window.change(by).ok_or(ConnectionError::new(
                ErrorCode::FLOW_CONTROL_ERROR,
                "the connection's window is too large",
            ))?;
            return Ok(opened.then_some(Event::ConnectionWindow));
        }
        self.check_begun(id)?;
        let Some(key) = self.streams.find(id) else {
            return Ok(None);
        };
        let Some(stream) = self.streams.get_mut(key) else {
            return Ok(None);
        };
        match stream.send_window.change(by) {
            None => Err(FrameError::Stream(id, ErrorCode::FLOW_CONTROL_ERROR)),
            Some(opened) => Ok(opened.then_some(Event::StreamWindow(key))),
        }
    }
}
