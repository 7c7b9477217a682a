//! A connection's state: what both directions share, its limits, and its end.

use std::collections::VecDeque;

use super::allowance::Allowance;
use super::error::{ConnectionError, ErrorCode};
use super::flow::{DEFAULT_WINDOW, ReceiveWindow, SendWindow};
use super::frame::{self, flag, kind};
use super::hpack::Decoder;
use super::input::Input;
use super::section::Section;
use super::settings::{self, Settings};
use super::stream::{Failure, Half, Key, Stream, Streams};

/// What a client begins with (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream that its client gives up within this time of its beginning is counted, see
/// [`Connection::hasty`].
const HASTY_MS: u64 = 250;
/// Streams reset here of which late frames are still ignored.
const REMEMBERED: usize = 512;
/// The highest stream number.
const MAX_STREAM: u32 = 0x7fff_ffff;
/// Output beyond this many bytes that nobody reads ends the connection. Data waits long before, see
/// [`Connection::room`], so that the rest is answers to what the peer asks for.
const MAX_OUT: usize = 1024 * 1024;
/// Output beyond which no more data is taken.
const DATA_OUT: usize = 128 * 1024;
/// What the `PING` carries that tells when a goodbye has arrived.
const GOODBYE: [u8; 8] = *b"goodbye!";

/// Which side of a connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Requests are sent.
    Client,
    /// Requests are received.
    Server,
}

/// What a connection is told of its limits.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Which side this is.
    pub role: Role,
    /// Streams that the client may have open at once; for a server.
    pub max_concurrent_streams: u32,
    /// The window in bytes that each stream begins with, at least 65,535: the peer may send that much
    /// before it hears of less.
    pub stream_window: u32,
    /// The window in bytes of the connection. It is given back as bytes come, whether or not their
    /// streams are read: the streams' windows bound what is held, and none can starve another.
    pub connection_window: u32,
    /// The largest field section, each field counting for 32 bytes more than it has.
    pub max_section: u32,
}

/// A connection, with something of its user's beside each stream.
#[derive(Debug)]
pub struct Connection<T> {
    pub(super) config: Config,
    /// What is to be sent, from `out_start` on.
    pub(super) out: Vec<u8>,
    out_start: usize,
    pub(super) streams: Streams<T>,
    pub(super) peer: Settings,
    pub(super) send_window: SendWindow,
    pub(super) receive_window: ReceiveWindow,
    /// The last stream that the client of this server began.
    pub(super) last_peer: u32,
    /// The numbers that the client jumped over last.
    pub(super) skipped: (u32, u32),
    /// The next stream that this client begins.
    pub(super) next: u32,
    /// The last stream that this side works on, once it said goodbye.
    pub(super) goodbye: Option<u32>,
    /// The last stream that the peer works on, once it said goodbye.
    pub(super) peer_goodbye: Option<u32>,
    /// The peer is to be told that its table is not used.
    pub(super) size_update: bool,
    pub(super) section: Section,
    pub(super) decoder: Decoder,
    pub(super) input: Input,
    reset_here: VecDeque<u32>,
    /// Frames that cost work and move nothing (`PING`, `SETTINGS`, empty ones and their like).
    pub(super) idle_frames: Allowance,
    /// Streams given up by the client right after their beginning (CVE-2023-44487).
    hasty: Allowance,
    /// Streams reset here for errors of the peer's.
    errors: Allowance,
}

impl<T> Connection<T> {
    /// A connection; what it begins with is in its output.
    pub fn new(config: Config) -> Self {
        let mut out = Vec::new();
        let mut values = vec![
            (settings::INITIAL_WINDOW_SIZE, config.stream_window),
            (settings::MAX_HEADER_LIST_SIZE, config.max_section),
        ];
        match config.role {
            Role::Client => {
                out.extend_from_slice(PREFACE);
                values.push((settings::ENABLE_PUSH, 0));
            }
            Role::Server => {
                values.push((
                    settings::MAX_CONCURRENT_STREAMS,
                    config.max_concurrent_streams,
                ));
            }
        }
        frame::settings(&mut out, &values);
        let further = config.connection_window.saturating_sub(DEFAULT_WINDOW);
        if further > 0 {
            frame::window_update(&mut out, 0, further);
        }
        Self {
            config,
            out,
            out_start: 0,
            streams: Streams::new(),
            peer: Settings::default(),
            send_window: SendWindow::new(DEFAULT_WINDOW),
            receive_window: ReceiveWindow::new(config.connection_window.max(DEFAULT_WINDOW)),
            last_peer: 0,
            skipped: (0, 0),
            next: 1,
            goodbye: None,
            peer_goodbye: None,
            size_update: false,
            section: Section::default(),
            decoder: Decoder::default(),
            input: Input::new(match config.role {
                Role::Client => b"",
                Role::Server => PREFACE,
            }),
            reset_here: VecDeque::new(),
            idle_frames: Allowance::new(1000, 200),
            hasty: Allowance::new(200, 20),
            errors: Allowance::new(256, 10),
        }
    }

    /// What is to be sent.
    pub fn output(&self) -> &[u8] {
        &self.out[self.out_start..]
    }

    /// So many bytes of the output were sent.
    pub fn sent(&mut self, count: usize) {
        self.out_start += count;
        if self.out_start == self.out.len() {
            self.out_start = 0;
            self.out.clear();
            if self.streams.held() == 0 {
                // A connection at rest holds no memory for output.
                self.out = Vec::new();
            }
        } else if self.out_start > DATA_OUT {
            self.out.drain(..self.out_start);
            self.out_start = 0;
        }
    }

    /// How many more bytes the output takes; whoever sends more than frames of control waits while
    /// there is no room.
    pub fn room(&self) -> usize {
        DATA_OUT.saturating_sub(self.out.len() - self.out_start)
    }

    /// Bounds the output that only the peer's own frames can have caused.
    pub(super) fn check_output(&self) -> Result<(), ConnectionError> {
        if self.output().len() > MAX_OUT {
            return Err(ConnectionError::calm("answers are asked for and not read"));
        }
        Ok(())
    }

    /// The section that came with the last event that has one.
    pub fn section(&self) -> &Section {
        &self.section
    }

    /// What belongs to a stream. `None`: it was given up.
    pub fn user(&mut self, key: Key) -> Option<&mut T> {
        self.streams.get_mut(key).map(|stream| &mut stream.user)
    }

    /// What belongs to each stream.
    pub fn users(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        self.streams
            .iter_mut()
            .map(|(key, stream)| (key, &mut stream.user))
    }

    /// Why a stream is over before its end, if it is.
    pub fn failure(&self, key: Key) -> Option<Failure> {
        self.streams.get(key)?.failure
    }

    /// Whether the peer has sent all of a stream.
    pub fn is_received(&self, key: Key) -> bool {
        let stream = self.streams.get(key);
        stream.is_none_or(|stream| stream.receiving == Half::Ended)
    }

    /// Whether a stream's request is one whose response has no body.
    pub fn is_head_request(&self, key: Key) -> bool {
        self.streams
            .get(key)
            .is_some_and(|stream| stream.head_request)
    }

    /// Streams that this client may have open at once.
    pub fn max_streams(&self) -> u32 {
        self.peer.max_concurrent_streams
    }

    /// Streams that are not closed.
    pub fn open_streams(&self) -> usize {
        self.streams.open()
    }

    /// Whether the peer's settings are known.
    pub fn is_settled(&self) -> bool {
        self.input.is_settled()
    }

    /// Whether the client may begin so many streams more.
    pub fn can_open(&self) -> bool {
        self.is_settled()
            && self.peer_goodbye.is_none()
            && self.next <= MAX_STREAM
            && self.streams.open() < self.peer.max_concurrent_streams as usize
    }

    /// Whether the peer works on no further streams.
    pub fn is_leaving(&self) -> bool {
        self.peer_goodbye.is_some() || self.next > MAX_STREAM
    }

    /// Whether this side has said which stream is its last.
    pub fn has_said_goodbye(&self) -> bool {
        self.goodbye.is_some()
    }

    /// Says goodbye (RFC 9113 §6.8): no further streams are wanted, and once that has arrived, which
    /// was the last one.
    pub fn say_goodbye(&mut self) {
        if self.goodbye.is_none() {
            frame::go_away(&mut self.out, MAX_STREAM, ErrorCode::NO_ERROR);
            frame::write(&mut self.out, kind::PING, 0, 0, &GOODBYE);
        }
    }

    /// Takes an answer to a `PING`; answers whether it was the user's.
    pub(super) fn ponged(&mut self, data: [u8; 8]) -> bool {
        if data == GOODBYE && self.goodbye.is_none() {
            self.goodbye = Some(self.last_peer);
            frame::go_away(&mut self.out, self.last_peer, ErrorCode::NO_ERROR);
            return false;
        }
        true
    }

    /// Ends the connection for an error: what says so is in the output, and nothing else is to follow.
    pub fn fail(&mut self, error: ConnectionError) {
        self.goodbye = Some(self.last_peer);
        frame::go_away(&mut self.out, self.last_peer, error.code);
    }

    /// Sends a `PING`.
    pub fn ping(&mut self, data: [u8; 8]) {
        frame::write(&mut self.out, kind::PING, 0, 0, &data);
    }

    pub(super) fn pong(&mut self, data: [u8; 8]) {
        frame::write(&mut self.out, kind::PING, flag::ACK, 0, &data);
    }

    /// A new stream with the windows that both sides have agreed on.
    pub(super) fn add(&mut self, id: u32, now_ms: u64, user: T) -> Key {
        self.streams.insert(Stream {
            id,
            receiving: Half::Head,
            sending: Half::Head,
            failure: None,
            send_window: SendWindow::new(self.peer.initial_window),
            receive_window: ReceiveWindow::new(self.config.stream_window),
            content: None,
            head_request: false,
            opened_ms: now_ms,
            user,
        })
    }

    /// A stream is over before its end.
    pub(super) fn break_off(&mut self, key: Key, failure: Failure) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.failure.get_or_insert(failure);
            self.input.forget(key);
            self.streams.settle(key);
        }
    }

    /// Resets a stream; nothing if it is closed already.
    pub fn reset(&mut self, key: Key, code: ErrorCode) {
        let Some(stream) = self.streams.get(key) else {
            return;
        };
        if !stream.is_closed() {
            let id = stream.id;
            self.send_reset(id, code);
            let failure = Failure {
                code,
                unprocessed: false,
                remote: false,
            };
            self.break_off(key, failure);
        }
    }

    fn send_reset(&mut self, id: u32, code: ErrorCode) {
        frame::reset(&mut self.out, id, code);
        if self.config.role == Role::Server {
            if self.reset_here.len() == REMEMBERED {
                self.reset_here.pop_front();
            }
            self.reset_here.push_back(id);
        }
    }

    /// Whether late frames of a closed stream are no error.
    pub(super) fn may_be_late(&self, id: u32) -> bool {
        self.config.role == Role::Client || self.reset_here.contains(&id)
    }

    /// Resets a stream for an error of the peer's; answers its key where it is not given up.
    pub(super) fn stream_error(
        &mut self,
        id: u32,
        code: ErrorCode,
        now_ms: u64,
    ) -> Result<Option<Key>, ConnectionError> {
        // More streams than allowed are no error before the client knows what is allowed.
        let allowance = match code {
            ErrorCode::REFUSED_STREAM => &mut self.idle_frames,
            _ => &mut self.errors,
        };
        if !allowance.spend(now_ms) {
            return Err(ConnectionError::calm("there are too many errors"));
        }
        let key = self.streams.find(id);
        match key {
            Some(key) => self.reset(key, code),
            None => self.send_reset(id, code),
        }
        Ok(key)
    }

    /// The peer gave a stream up.
    pub(super) fn was_reset(
        &mut self,
        key: Key,
        code: ErrorCode,
        now_ms: u64,
    ) -> Result<(), ConnectionError> {
        let opened = self.streams.get(key).map_or(0, |stream| stream.opened_ms);
        self.break_off(
            key,
            Failure {
                code,
                unprocessed: code == ErrorCode::REFUSED_STREAM,
                remote: true,
            },
        );
        let hasty = self.config.role == Role::Server && now_ms.saturating_sub(opened) < HASTY_MS;
        if hasty && !self.hasty.spend(now_ms) {
            return Err(ConnectionError::calm(
                "streams are given up right after their beginning",
            ));
        }
        Ok(())
    }

    /// Gives a stream up for good. Where the peer still sends and the answer is complete, it is told
    /// to stop without an error (RFC 9113 §8.1); where the answer is not, or a request is not needed
    /// any more, it is told that.
    pub fn close(&mut self, key: Key) -> Option<T> {
        let stream = self.streams.get(key)?;
        let code = match (self.config.role, stream.sending) {
            (Role::Server, Half::Ended) => ErrorCode::NO_ERROR,
            (Role::Server, _) => ErrorCode::INTERNAL_ERROR,
            (Role::Client, _) => ErrorCode::CANCEL,
        };
        self.reset(key, code);
        self.input.forget(key);
        self.streams.remove(key).map(|stream| stream.user)
    }
}
