//! Received field blocks: assembled within bounds, and matched with the stream they are for.

use super::connection::{Connection, Role};
use super::error::{ConnectionError, ErrorCode, FrameError};
use super::input::Block;
use super::receive::Event;
use super::section::Kind;
use super::stream::{Half, Key, Stream};

/// How much larger than the largest section a block may be before it is not even decoded.
const BLOCK_SLACK: usize = 64 * 1024;

impl<T> Stream<T> {
    /// Counts data against `content-length`.
    pub(super) fn expect_content(&mut self, count: u64, last: bool) -> Result<(), ErrorCode> {
        if let Some(content) = &mut self.content {
            *content = content
                .checked_sub(count)
                .ok_or(ErrorCode::PROTOCOL_ERROR)?;
            if last && *content > 0 {
                return Err(ErrorCode::PROTOCOL_ERROR);
            }
        }
        Ok(())
    }
}

impl<T: Default> Connection<T> {
    pub(super) fn take_headers(
        &mut self,
        about: Block,
        block: &[u8],
        end_headers: bool,
        now_ms: u64,
    ) -> Result<Option<Event>, FrameError> {
        if end_headers {
            return self.finish_block(about, block, now_ms);
        }
        self.input.fragments.clear();
        self.input.block = Some(about);
        self.add_fragment(block)?;
        Ok(None)
    }

    pub(super) fn take_continuation(
        &mut self,
        block: &[u8],
        end_headers: bool,
        now_ms: u64,
    ) -> Result<Option<Event>, FrameError> {
        // Many small ones cost as much as empty ones.
        if block.len() < 1024 && !end_headers {
            self.idle_frame(now_ms)?;
        }
        self.add_fragment(block)?;
        if !end_headers {
            return Ok(None);
        }
        let Some(about) = self.input.block.take() else {
            return Ok(None);
        };
        let fragments = std::mem::take(&mut self.input.fragments);
        self.finish_block(about, &fragments, now_ms)
    }

    fn add_fragment(&mut self, block: &[u8]) -> Result<(), ConnectionError> {
        self.input.fragments.extend_from_slice(block);
        if self.input.fragments.len() > self.config.max_section as usize + BLOCK_SLACK {
            return Err(ConnectionError::calm("a field block is too large"));
        }
        Ok(())
    }

    /// A whole block is here. Whatever becomes of its stream, it is decoded, since later blocks
    /// depend on it.
    fn finish_block(
        &mut self,
        about: Block,
        block: &[u8],
        now_ms: u64,
    ) -> Result<Option<Event>, FrameError> {
        self.idle_frames.refund(2);
        let id = about.stream;
        let key = self.streams.find(id);
        let receiving = key
            .and_then(|key| self.streams.get(key))
            .map(|stream| stream.receiving);
        let kind = match (receiving, self.config.role) {
            (Some(Half::Body), _) => Kind::Trailers,
            (_, Role::Server) => Kind::Request,
            (_, Role::Client) => Kind::Response,
        };
        let limit = self.config.max_section as usize;
        self.section.decode(&mut self.decoder, block, kind, limit)?;
        let reset = |code| Err(FrameError::Stream(id, code));
        if about.depends_on_itself {
            self.last_peer = self.last_peer.max(id);
            return reset(ErrorCode::PROTOCOL_ERROR);
        }
        match (key, receiving) {
            (Some(key), Some(Half::Body)) => self.trailers(key, about),
            (Some(key), Some(Half::Head)) => self.response(key, about),
            (Some(_), _) => reset(ErrorCode::STREAM_CLOSED),
            (None, _) if self.config.role == Role::Server => self.request(about, now_ms),
            (None, _) if id % 2 == 1 && id < self.next => Ok(None),
            (None, _) => Err(ConnectionError::protocol("a server began a stream").into()),
        }
    }

    fn request(&mut self, about: Block, now_ms: u64) -> Result<Option<Event>, FrameError> {
        let id = about.stream;
        if id.is_multiple_of(2) {
            return Err(ConnectionError::protocol("a client began a stream of even number").into());
        }
        if id <= self.last_peer {
            let (from, to) = self.skipped;
            return match id {
                _ if self.may_be_late(id) => Ok(None),
                _ if from < id && id < to => {
                    Err(ConnectionError::protocol("a lower stream begins after a higher").into())
                }
                _ => {
                    let code = ErrorCode::STREAM_CLOSED;
                    Err(ConnectionError::new(code, "a head came for a closed stream").into())
                }
            };
        }
        if id > self.last_peer + 2 {
            self.skipped = (self.last_peer, id);
        }
        self.last_peer = id;
        if self.goodbye.is_some() {
            return Ok(None);
        }
        let limit = self.config.max_concurrent_streams as usize;
        // Those that are over and still held count as well, but a client cannot know of them.
        if self.streams.open() >= limit || self.streams.held() >= limit.saturating_mul(2) {
            return Err(FrameError::Stream(id, ErrorCode::REFUSED_STREAM));
        }
        let content = self.section.content_length();
        let short = about.end_stream && content.is_some_and(|length| length > 0);
        let rule = short.then_some("there is less content than said");
        if let Some(rule) = self.section.malformed().or(rule) {
            self.stream_error(id, ErrorCode::PROTOCOL_ERROR, now_ms)?;
            return Ok(Some(Event::Malformed(rule)));
        }
        let key = self.add(id, now_ms, T::default());
        if let Some(stream) = self.streams.get_mut(key) {
            stream.receiving = if about.end_stream {
                Half::Ended
            } else {
                Half::Body
            };
            stream.content = content;
        }
        Ok(Some(if self.section.is_too_large() {
            Event::TooLarge(key)
        } else {
            Event::Head(key)
        }))
    }

    fn response(&mut self, key: Key, about: Block) -> Result<Option<Event>, FrameError> {
        let malformed = FrameError::Stream(about.stream, ErrorCode::PROTOCOL_ERROR);
        if self.section.malformed().is_some() || self.section.is_too_large() {
            return Err(malformed);
        }
        let status = self.section.status();
        if status < 200 {
            let event = Event::Interim(key);
            return if about.end_stream {
                Err(malformed)
            } else {
                Ok(Some(event))
            };
        }
        let Some(stream) = self.streams.get_mut(key) else {
            return Ok(None);
        };
        stream.content = if stream.head_request || status == 204 || status == 304 {
            Some(0)
        } else {
            self.section.content_length()
        };
        stream.receiving = Half::Body;
        if about.end_stream {
            stream.expect_content(0, true).map_err(|_| malformed)?;
            self.ended(key);
        }
        Ok(Some(Event::Head(key)))
    }

    fn trailers(&mut self, key: Key, about: Block) -> Result<Option<Event>, FrameError> {
        let malformed = FrameError::Stream(about.stream, ErrorCode::PROTOCOL_ERROR);
        let Some(stream) = self.streams.get_mut(key) else {
            return Ok(None);
        };
        let wrong = self.section.malformed().is_some() || self.section.is_too_large();
        if wrong || !about.end_stream || stream.expect_content(0, true).is_err() {
            return Err(malformed);
        }
        self.ended(key);
        Ok(Some(Event::End(key, true)))
    }
}
