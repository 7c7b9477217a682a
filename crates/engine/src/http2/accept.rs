//! Serves a client's connection of HTTP/2: each of its streams is an exchange of its own, in a task
//! of its own on the same worker.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::Poll;

use evenflow_rules::reason::Reason;
use evenflow_rules::table::Listener;
use evenflow_wire::http2::hpack;
use evenflow_wire::http2::translate::request_text;
use evenflow_wire::http2::{ALPN, Config, ErrorCode, Event, Key, PREFACE, Role};
use evenflow_wire::identity::Identity;
use evenflow_wire::proxy_protocol::AddressPair;

use super::downstream_stream::{DownstreamInfo, DownstreamStream};
use super::session::{Driver, End, Protocol, Session};
use super::{CONNECTION_WINDOW, Exchange, STREAM_WINDOW};
use crate::acceptor::ListenerHandle;
use crate::buffer::HEAD_BYTES;
use crate::connection::{ClientWatch, Connection, LINGER_MS};
use crate::exchange::exchange;
use crate::stream::Stream;
use crate::timer::Slot;
use crate::worker::{PanicWatch, Worker};

/// A time that does not come.
const NEVER: u64 = u64::MAX;

/// Whether HTTP/2 is spoken on a connection: by agreement in TLS, or in the clear by how it begins.
/// What is read of it to find out stays in its buffer.
pub async fn is_spoken(connection: &mut Connection) -> bool {
    if connection.stream.is_tls() {
        return connection.stream.alpn() == Some(ALPN);
    }
    // Few requests begin like this, and none of HTTP/1.1 goes on like it.
    begins(connection.buffer.bytes()) && Box::pin(is_prior_knowledge(connection)).await
}

fn begins(bytes: &[u8]) -> bool {
    let shared = bytes.len().min(PREFACE.len());
    bytes[..shared] == PREFACE[..shared]
}

async fn is_prior_knowledge(connection: &mut Connection) -> bool {
    let Some((wanted, head_ms)) =
        connection.rules(|listener| (listener.http2, listener.timeouts.head_ms))
    else {
        return false;
    };
    if !wanted {
        return false;
    }
    connection
        .slot
        .arm(connection.worker.coarse_ms.get() + head_ms);
    poll_fn(|cx| {
        loop {
            let bytes = connection.buffer.bytes();
            if !begins(bytes) || connection.slot.fired() {
                return Poll::Ready(false);
            }
            if bytes.len() >= PREFACE.len() {
                return Poll::Ready(true);
            }
            match connection.stream.poll_read(cx, connection.buffer.spare()) {
                Poll::Ready(Ok(count)) if count > 0 => connection.buffer.end += count,
                Poll::Ready(_) => return Poll::Ready(false),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

/// What a connection and its streams share.
#[derive(Debug)]
struct Shared {
    worker: Rc<Worker>,
    session: Rc<Session>,
    door: ListenerHandle,
    /// The connection's deadline: none while it has streams.
    slot: Slot,
    peer: Option<IpAddr>,
    identity: Option<Rc<Identity>>,
    below: DownstreamInfo,
    proxied: Option<AddressPair>,
    /// Streams that are being served.
    open: Cell<u32>,
    /// Since when no further streams are wanted.
    closing_ms: Cell<u64>,
}

/// Serves a connection to its end.
pub async fn serve(connection: Connection) {
    let Connection {
        worker,
        stream,
        slot,
        buffer,
        peer,
        door,
        identity,
        proxied,
        ..
    } = connection;
    let table = worker.table();
    let Some((config, head_ms)) = table
        .listener(door.get())
        .map(|listener| (config(listener), listener.timeouts.head_ms))
    else {
        return;
    };
    drop(table);
    let session = Rc::new(Session::new(config, worker.buffers.account()));
    slot.arm(worker.coarse_ms.get() + head_ms);
    let shared = Rc::new(Shared {
        below: DownstreamInfo {
            ends: stream.ends(),
            tls: stream.is_tls(),
        },
        session: Rc::clone(&session),
        worker,
        door,
        slot,
        peer,
        identity,
        proxied: proxied.map(|ends| *ends),
        open: Cell::new(0),
        closing_ms: Cell::new(NEVER),
    });
    let mut driver = Driver::new(&session, &shared.worker.buffers, stream, buffer);
    match run(&shared, &mut driver).await {
        End::Error => linger(&shared, &mut driver).await,
        End::Closed => driver.shutdown().await,
    }
}

fn config(listener: &Listener) -> Config {
    let limits = &listener.limits;
    Config {
        role: Role::Server,
        max_concurrent_streams: limits.streams,
        stream_window: STREAM_WINDOW,
        connection_window: CONNECTION_WINDOW,
        // A field counts for 32 bytes more than it has (RFC 9113 §6.5.2). The exact bounds are
        // checked, and answered for, where the head is read.
        max_section: limits.head_bytes.saturating_add(32 * limits.headers),
    }
}

/// Moves a connection on until it has ended.
async fn run(shared: &Rc<Shared>, driver: &mut Driver) -> End {
    let worker = &shared.worker;
    // While the engine drains, what streams have left behind is still to be sent.
    let mut held = None;
    let end = poll_fn(|cx| {
        loop {
            let now_ms = worker.coarse_ms.get();
            let mut begin = |protocol: &mut Protocol, event: Event| shared.take(protocol, &event);
            if let Poll::Ready(end) = driver.poll(cx, now_ms, &mut begin) {
                return Poll::Ready(end);
            }
            let draining = worker.draining.get();
            if draining {
                held.get_or_insert_with(|| worker.enter());
            }
            let closing = shared.closing_ms.get() != NEVER;
            if closing || driver.is_ending() {
                if driver.is_ending() && !closing {
                    shared.close();
                    shared.slot.arm(now_ms + LINGER_MS);
                }
                // Waited for in vain: the other end does not even close.
                return if shared.slot.fired() || shared.is_over() {
                    Poll::Ready(End::Closed)
                } else {
                    Poll::Pending
                };
            }
            let settled = shared.session.look(Protocol::is_settled);
            if !shared.slot.fired() && !draining && shared.rules(|_| ()).is_some() {
                return Poll::Pending;
            }
            if !settled {
                return Poll::Ready(End::Closed);
            }
            shared.session.change(Protocol::say_goodbye);
            shared.close();
        }
    })
    .await;
    drop(held);
    end
}

/// Closes in order after an error: closing with unread input would reset the connection under what
/// says why.
async fn linger(shared: &Shared, driver: &mut Driver) {
    let now_ms = shared.worker.coarse_ms.get();
    shared.slot.arm(now_ms + LINGER_MS);
    let mut shut = false;
    poll_fn(|cx| {
        shut = shut || driver.poll_shutdown(cx).is_ready();
        if shared.slot.fired() || shared.worker.draining.get() {
            return Poll::Ready(());
        }
        driver.poll_discard(cx)
    })
    .await;
}

impl Shared {
    fn rules<T>(&self, get: impl FnOnce(&Listener) -> T) -> Option<T> {
        self.worker.table().listener(self.door.get()).map(get)
    }

    /// Arms the deadline of a connection without streams.
    fn rest(&self) {
        let patience = if self.closing_ms.get() == NEVER {
            let idle = self.rules(|listener| listener.timeouts.idle_ms);
            idle.unwrap_or_default()
        } else {
            LINGER_MS
        };
        self.slot.arm(self.worker.coarse_ms.get() + patience);
    }

    fn close(&self) {
        self.closing_ms.set(self.worker.coarse_ms.get());
        if self.open.get() == 0 {
            self.rest();
        } else {
            self.slot.arm(NEVER);
        }
    }

    /// Whether goodbye was said and nothing is left of the connection.
    fn is_over(&self) -> bool {
        self.open.get() == 0
            && self.session.look(|protocol| {
                let sent = protocol.output().is_empty();
                sent && protocol.has_said_goodbye() && protocol.open_streams() == 0
            })
    }

    fn take(self: &Rc<Self>, protocol: &mut Protocol, event: &Event) {
        match *event {
            Event::Head(key) => self.accept(protocol, key),
            Event::TooLarge(key) => {
                self.count(Reason::HeadTooLarge);
                protocol.send_head(key, true, |out| hpack::status(431, out));
                protocol.close(key);
            }
            Event::Malformed(_) => self.count(Reason::BadRequest("")),
            // The connection has begun, and may be idle from now on.
            Event::Settings if self.open.get() == 0 && self.closing_ms.get() == NEVER => {
                self.rest();
            }
            _ => {}
        }
    }

    fn count(&self, reason: Reason) {
        let mut stats = self.worker.stats.borrow_mut();
        *stats.errors.entry(reason.label()).or_default() += 1;
    }

    /// Serves a stream.
    fn accept(self: &Rc<Self>, protocol: &mut Protocol, key: Key) {
        // Streams may cross the goodbye on their way, but not for long.
        let late = self.worker.coarse_ms.get() > self.closing_ms.get().saturating_add(LINGER_MS);
        if late || self.rules(|_| ()).is_none() {
            protocol.reset(key, ErrorCode::REFUSED_STREAM);
            protocol.close(key);
            return;
        }
        let Some(state) = protocol.user(key) else {
            return;
        };
        let mut inbound = std::mem::take(&mut state.inbound);
        let ended = protocol.is_received(key);
        let section = protocol.section();
        let head_request = section.method() == b"HEAD";
        inbound.begin(|out| request_text(section, ended, out));
        if ended {
            inbound.end(Vec::new());
        }
        if let Some(state) = protocol.user(key) {
            state.inbound = inbound;
        }
        let served = DownstreamStream::new(&self.session, key, head_request, self.below);
        let open = OpenStream::new(self);
        tokio::task::spawn_local(serve_stream(open, served));
    }

    /// A stream has ended.
    fn ended(&self) {
        self.open.update(|open| open - 1);
        if self.open.get() == 0 {
            self.rest();
            if self.closing_ms.get() != NEVER {
                self.session.wake_driver();
            }
        }
    }
}

/// Counts a stream as open for as long as it lives.
struct OpenStream(Rc<Shared>);

impl OpenStream {
    fn new(shared: &Rc<Shared>) -> Self {
        shared.slot.arm(NEVER);
        shared.open.update(|open| open + 1);
        Self(Rc::clone(shared))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.ended();
    }
}

/// Serves one exchange, as a connection of its own.
async fn serve_stream(open: OpenStream, served: DownstreamStream) {
    let shared = Rc::clone(&open.0);
    let worker = Rc::clone(&shared.worker);
    let _watch = PanicWatch::new(&worker);
    let mut connection = Connection {
        slot: worker.timer.own_slot().await,
        buffer: worker.buffers.take(HEAD_BYTES),
        stream: Stream::Http2(Box::new(Exchange::Downstream(served))),
        peer: shared.peer,
        door: Rc::clone(&shared.door),
        tunnel: None,
        identity: shared.identity.clone(),
        proxied: shared.proxied.map(Box::new),
        watch: ClientWatch::ReadAhead,
        worker: Rc::clone(&worker),
    };
    let mut scratch = worker.take_scratch();
    let active = worker.enter();
    exchange(&mut connection, &mut scratch).await;
    drop(active);
    worker.give_scratch(scratch);
    worker.buffers.give(std::mem::take(&mut connection.buffer));
    drop(connection);
}
