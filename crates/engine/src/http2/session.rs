//! A connection of HTTP/2 on its socket: what its streams share, and its I/O.
//!
//! The protocol is [`evenflow_wire::http2`]; here is what waits. One task, the driver, reads, tells
//! streams what came and writes what they have to send, once for all of them that ran meanwhile.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use evenflow_wire::http2::frame::{HEADER_LEN, MAX_PAYLOAD};
use evenflow_wire::http2::{Config, Connection, ConnectionError, ErrorCode, Event, Key};

use super::inbound::Inbound;
use super::outbound::Rest;
use super::{SHORT_WINDOW, WINDOW_LIMIT};
use crate::buffer::{BODY_BYTES, Buffer, Buffers};
use crate::memory::{Account, Pressure};
use crate::stream::Stream;

/// Room for the largest frame, which is taken apart as a whole.
const MIN_ROOM: usize = HEADER_LEN + MAX_PAYLOAD;

/// Reads before other tasks get their turn.
const MAX_READS: usize = 16;

/// What belongs to one stream beside the protocol's state.
#[derive(Debug, Default)]
pub struct StreamState {
    /// What came and was not read.
    pub inbound: Inbound,
    /// What was written and is still to be sent, beyond what the writer knows of.
    pub rest: Rest,
    /// The task that waits for anything of the stream.
    waker: Option<Waker>,
    /// It is among those that wait for the connection.
    waits: bool,
    /// Its task is over and has handed over all of its answer: it ends with the rest.
    detached: bool,
    /// The head of an answer came.
    pub answered: bool,
}

impl StreamState {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The protocol's state with what belongs to streams.
pub type Protocol = Connection<StreamState>;

/// What a connection's driver and its streams share.
#[derive(Debug)]
pub struct Session {
    /// What is charged for bytes that streams hold.
    account: Rc<Account>,
    protocol: RefCell<Protocol>,
    driver: RefCell<Option<Waker>>,
    /// Streams that wait for the connection's window or room in its output, the longest first.
    waiting: RefCell<Vec<Key>>,
    /// Tasks that wait to begin a stream.
    openers: RefCell<Vec<Waker>>,
    /// The connection has ended.
    over: Cell<bool>,
    /// Reads that brought something.
    reads: Cell<u64>,
    /// A field block on its way into the output.
    block: RefCell<Vec<u8>>,
}

impl Session {
    /// A connection that nothing was said on.
    pub fn new(config: Config, account: &Rc<Account>) -> Self {
        Self {
            account: Rc::clone(account),
            protocol: RefCell::new(Connection::new(config)),
            driver: RefCell::default(),
            waiting: RefCell::default(),
            openers: RefCell::default(),
            over: Cell::new(false),
            reads: Cell::new(0),
            block: RefCell::default(),
        }
    }

    /// The largest window of a stream whose bytes are read, in bytes.
    pub fn window_limit(&self) -> u32 {
        match self.account.pressure() {
            Pressure::Low => WINDOW_LIMIT,
            Pressure::Shrink | Pressure::Refuse => SHORT_WINDOW,
        }
    }

    /// Whether the connection has ended.
    pub fn is_over(&self) -> bool {
        self.over.get()
    }

    /// How many reads have brought something.
    pub fn reads(&self) -> u64 {
        self.reads.get()
    }

    /// Ends the connection: the other end is gone.
    pub fn abort(&self) {
        self.end();
        self.wake_driver();
    }

    /// Looks at the protocol's state.
    pub fn look<T>(&self, at: impl FnOnce(&Protocol) -> T) -> T {
        at(&self.protocol.borrow())
    }

    /// Changes the protocol's state, and has the driver send what comes of it.
    pub fn change<T>(&self, by: impl FnOnce(&mut Protocol) -> T) -> T {
        let mut protocol = self.protocol.borrow_mut();
        let result = by(&mut protocol);
        if !protocol.output().is_empty() {
            self.wake_driver();
        }
        result
    }

    /// The same with a buffer for a field block.
    pub fn change_with_block<T>(&self, by: impl FnOnce(&mut Protocol, &mut Vec<u8>) -> T) -> T {
        let mut block = self.block.borrow_mut();
        block.clear();
        self.change(|protocol| by(protocol, &mut block))
    }

    /// Has the driver look around.
    pub fn wake_driver(&self) {
        if let Some(driver) = self.driver.borrow_mut().take() {
            driver.wake();
        }
    }

    /// Remembers the task that waits for something of a stream.
    pub fn wait(&self, protocol: &mut Protocol, key: Key, cx: &Context<'_>) {
        if let Some(state) = protocol.user(key) {
            match &mut state.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
        }
    }

    /// The same for what the whole connection must have first: window, or room in its output.
    pub fn wait_for_connection(&self, protocol: &mut Protocol, key: Key, cx: &Context<'_>) {
        self.wait(protocol, key, cx);
        self.enlist(protocol, key);
    }

    /// Has a stream resumed when the connection can send again.
    pub fn enlist(&self, protocol: &mut Protocol, key: Key) {
        if let Some(state) = protocol.user(key)
            && !std::mem::replace(&mut state.waits, true)
        {
            self.waiting.borrow_mut().push(key);
        }
    }

    /// Remembers a task that waits to begin a stream.
    pub fn wait_to_open(&self, cx: &Context<'_>) {
        self.openers.borrow_mut().push(cx.waker().clone());
    }

    fn wake_openers(&self) {
        self.openers.borrow_mut().drain(..).for_each(Waker::wake);
    }

    /// Wakes the streams that wait for the connection, in the order in which they began to.
    fn wake_waiting(&self, protocol: &mut Protocol) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        for key in waiting {
            if let Some(state) = protocol.user(key) {
                state.waits = false;
            }
            self.resume(protocol, key);
        }
        self.wake_openers();
    }

    /// Sends what a stream's writer has left behind, and wakes the stream.
    fn resume(&self, protocol: &mut Protocol, key: Key) {
        let failed = protocol.failure(key).is_some();
        let Some(state) = protocol.user(key) else {
            return;
        };
        state.wake();
        if state.rest.is_empty() && !state.detached {
            return;
        }
        let rest = std::mem::take(&mut state.rest);
        let rest = if failed {
            Rest::default()
        } else {
            rest.send(protocol, key)
        };
        let Some(state) = protocol.user(key) else {
            return;
        };
        if rest.is_empty() && state.detached {
            protocol.close(key);
        } else if !rest.is_empty() {
            state.rest = rest;
            self.enlist(protocol, key);
        }
    }

    /// An error that a stream is told of. `NotConnected` says that the other end has done nothing with
    /// the request, `ConnectionAborted` that it reset this stream alone.
    pub fn error(&self, protocol: &Protocol, key: Key) -> Option<io::Error> {
        let kind = match protocol.failure(key) {
            Some(failure) if failure.unprocessed => io::ErrorKind::NotConnected,
            Some(failure) if failure.remote => io::ErrorKind::ConnectionAborted,
            Some(_) => io::ErrorKind::ConnectionReset,
            None if self.over.get() => io::ErrorKind::ConnectionReset,
            None => return None,
        };
        Some(kind.into())
    }

    /// Gives a stream up. If all of it was handed over and the windows do not take the end yet, it is
    /// sent when they do.
    pub fn finish(&self, key: Key) {
        self.change(|protocol| match protocol.user(key) {
            Some(state) if state.rest.is_last() => state.detached = true,
            _ => drop(protocol.close(key)),
        });
    }

    /// Gives a stream up with all that is left of it.
    pub fn close(&self, key: Key) {
        self.change(|protocol| protocol.close(key));
        self.wake_openers();
    }

    fn end(&self) {
        self.over.set(true);
        let mut protocol = self.protocol.borrow_mut();
        for (_, state) in protocol.users() {
            state.wake();
        }
        self.wake_openers();
    }
}

/// How a connection came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The other end closed it, or it broke.
    Closed,
    /// The other end broke a rule, and is told so.
    Error,
}

/// Moves a connection's bytes.
#[derive(Debug)]
pub struct Driver {
    session: Rc<Session>,
    buffers: Rc<Buffers>,
    stream: Stream,
    /// What came and is not taken apart; no room is held while nothing comes.
    buffer: Buffer,
    /// How it ended, while what says so is still to be sent.
    end: Option<End>,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.session.end();
        let buffer = std::mem::take(&mut self.buffer);
        self.buffers.give(buffer);
    }
}

impl Driver {
    /// Speaks on a stream of which `early` was read already.
    pub fn new(
        session: &Rc<Session>,
        buffers: &Rc<Buffers>,
        stream: Stream,
        early: Buffer,
    ) -> Self {
        Self {
            session: Rc::clone(session),
            buffers: Rc::clone(buffers),
            stream,
            buffer: early,
            end: None,
        }
    }

    /// Reads what came, has `begin` told of heads, and writes what is to be sent. Ready: nothing more
    /// comes, and what is to be sent is sent as far as it can be.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        now_ms: u64,
        begin: &mut impl FnMut(&mut Protocol, Event),
    ) -> Poll<End> {
        *self.session.driver.borrow_mut() = Some(cx.waker().clone());
        if self.end.is_none()
            && let Poll::Ready(end) = self.poll_read(cx, now_ms, begin)
        {
            self.end = Some(end);
        }
        let flushed = self.poll_flush(cx);
        match (self.end, flushed) {
            (Some(End::Closed), _) => Poll::Ready(End::Closed),
            (Some(end), Poll::Ready(_)) | (None, Poll::Ready(Some(end))) => Poll::Ready(end),
            _ => Poll::Pending,
        }
    }

    /// Whether nothing more is read.
    pub fn is_ending(&self) -> bool {
        self.end.is_some()
    }

    /// Ends the sending side.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_shutdown(cx).map(|_| ())
    }

    /// Ends the sending side as far as that needs no waiting.
    pub async fn shutdown(&mut self) {
        poll_fn(|cx| {
            let _ = self.poll_shutdown(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// Reads and throws away; ready at the end.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut sink = [0; 2048];
        loop {
            match ready!(self.stream.poll_read(cx, &mut sink)) {
                Ok(count) if count > 0 => {}
                _ => return Poll::Ready(()),
            }
        }
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        now_ms: u64,
        begin: &mut impl FnMut(&mut Protocol, Event),
    ) -> Poll<End> {
        for _ in 0..MAX_READS {
            if !self.buffer.is_empty()
                && let Err(error) = self.take_apart(now_ms, begin)
            {
                self.session.change(|protocol| protocol.fail(error));
                return Poll::Ready(End::Error);
            }
            let buffers = &self.buffers;
            if self.buffer.size() < MIN_ROOM {
                if self.buffer.is_empty() {
                    buffers.give(std::mem::take(&mut self.buffer));
                    if ready!(self.stream.poll_read_ready(cx)).is_err() {
                        return Poll::Ready(End::Closed);
                    }
                }
                let early = std::mem::replace(&mut self.buffer, buffers.take(BODY_BYTES));
                // Near the limit of memory, buffers are smaller.
                self.buffer.grow(MIN_ROOM);
                self.buffer.extend(early.bytes());
                buffers.give(early);
            }
            self.buffer.compact();
            match self.stream.poll_read(cx, self.buffer.spare()) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    self.buffer.end += count;
                    self.session.reads.update(|reads| reads + 1);
                }
                Poll::Ready(_) => return Poll::Ready(End::Closed),
                Poll::Pending => {
                    if self.buffer.is_empty() {
                        buffers.give(std::mem::take(&mut self.buffer));
                    }
                    return Poll::Pending;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes all whole frames of what came.
    fn take_apart(
        &mut self,
        now_ms: u64,
        begin: &mut impl FnMut(&mut Protocol, Event),
    ) -> Result<(), ConnectionError> {
        let mut protocol = self.session.protocol.borrow_mut();
        loop {
            let received = protocol.receive(self.buffer.bytes(), now_ms)?;
            let bytes = self.buffer.bytes();
            let Some(event) = received.event else {
                self.buffer.consume(received.used);
                return Ok(());
            };
            let session = &self.session;
            match event {
                Event::Data(key, range) => {
                    if let Some(state) = protocol.user(key) {
                        state.inbound.push(&bytes[range], &session.account);
                        state.wake();
                    }
                }
                Event::End(key, has_trailers) => end_body(&mut protocol, key, has_trailers),
                Event::Reset(key) | Event::StreamWindow(key) => session.resume(&mut protocol, key),
                Event::ConnectionWindow => session.wake_waiting(&mut protocol),
                Event::Settings | Event::GoAway => {
                    let keys: Vec<Key> = protocol.users().map(|(key, _)| key).collect();
                    for key in keys {
                        session.resume(&mut protocol, key);
                    }
                    session.wake_openers();
                    begin(&mut protocol, event);
                }
                Event::Interim(key) | Event::Head(key) | Event::TooLarge(key) => {
                    begin(&mut protocol, event);
                    session.resume(&mut protocol, key);
                }
                Event::Malformed(_) | Event::Pong(_) => begin(&mut protocol, event),
            }
            self.buffer.consume(received.used);
        }
    }

    /// Writes what is to be sent. Ready: all of it is written, or the connection is broken.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        let mut protocol = self.session.protocol.borrow_mut();
        // Streams that wait for room are told once there is some.
        let mut told = protocol.room() > 0;
        loop {
            if protocol.output().is_empty() {
                return Poll::Ready(None);
            }
            let slices = [IoSlice::new(protocol.output())];
            match self.stream.poll_write_vectored(cx, &slices) {
                Poll::Ready(Ok(count)) if count > 0 => protocol.sent(count),
                Poll::Ready(_) => return Poll::Ready(Some(End::Closed)),
                Poll::Pending => return Poll::Pending,
            }
            if !told && protocol.room() > 0 {
                // What they have left behind is sent at once.
                told = true;
                self.session.wake_waiting(&mut protocol);
            }
        }
    }
}

/// The peer has sent all of a body.
fn end_body(protocol: &mut Protocol, key: Key, has_trailers: bool) {
    let trailers = if has_trailers {
        protocol.section().lines().to_vec()
    } else {
        Vec::new()
    };
    if let Some(state) = protocol.user(key) {
        state.inbound.end(trailers);
        state.wake();
    }
}

/// The error that a stream is reset with that the peer must not take for complete.
pub const BROKEN_OFF: ErrorCode = ErrorCode::INTERNAL_ERROR;
