//! Serves a client's connection of HTTP/2: each of its streams is an exchange of its own, in a task
//! of its own on the same worker.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use evenflow_rules::reason::Reason;
use evenflow_rules::table::Listener;
use evenflow_wire::http2::ALPN;
use evenflow_wire::identity::Identity;
use evenflow_wire::proxy_protocol::AddressPair;
use h2::RecvStream;
use h2::server::{Builder, Connection as Session, SendResponse};
use http::Request;

use super::downstream_stream::{DownstreamInfo, DownstreamStream};
use super::socket::Socket;
use super::{CONNECTION_WINDOW, ERROR_RESETS, Exchange, PREFACE, SEND_BUFFER, STREAM_WINDOW};
use crate::acceptor::ListenerHandle;
use crate::buffer::{Buffer, HEAD_BYTES};
use crate::connection::{ClientWatch, Connection, LINGER_MS};
use crate::exchange::exchange;
use crate::stream::Stream;
use crate::timer::Slot;
use crate::worker::Worker;

/// A stream that the client gives up within this time of its beginning is counted…
const HASTY_MS: u64 = 250;
/// …and so many of them are borne, and so many more a second (CVE-2023-44487).
const HASTY_BURST: u64 = 200;
const HASTY_PER_S: u64 = 20;

/// A time that does not come.
const NEVER: u64 = u64::MAX;

/// How long the h2 crate remembers a stream that was reset here: frames for it may be under way.
const REMEMBERED: Duration = Duration::from_secs(5);

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
    /// Streams given up in haste, and when that was last reckoned up.
    hasty: Cell<(u64, u64)>,
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
    let shared = Rc::new(Shared {
        hasty: Cell::new((0, worker.coarse_ms.get())),
        worker,
        door,
        slot,
        peer,
        identity,
        below: DownstreamInfo {
            ends: stream.ends(),
            tls: stream.is_tls(),
        },
        proxied: proxied.map(|ends| *ends),
        open: Cell::new(0),
        closing_ms: Cell::new(NEVER),
    });
    let Some(session) = begin(&shared, stream, buffer).await else {
        return;
    };
    shared.rest();
    run(&shared, session).await;
}

/// Reads the client's preface and sends the settings.
async fn begin(shared: &Shared, stream: Stream, early: Buffer) -> Option<Session<Socket, Bytes>> {
    let worker = &shared.worker;
    let (builder, head_ms) =
        shared.rules(|listener| (builder(listener), listener.timeouts.head_ms))?;
    shared.slot.arm(worker.coarse_ms.get() + head_ms);
    let mut handshake = Box::pin(builder.handshake(Socket::new(stream, early)));
    poll_fn(|cx| match handshake.as_mut().poll(cx) {
        Poll::Ready(begun) => Poll::Ready(begun.ok()),
        Poll::Pending if shared.slot.fired() || worker.draining.get() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

fn builder(listener: &Listener) -> Builder {
    let limits = &listener.limits;
    let mut builder = Builder::new();
    // A field counts for 32 bytes more than it has (RFC 9113 §6.5.2). The exact bounds are held,
    // and answered for, where the head is read.
    let head = limits.head_bytes.saturating_add(32 * limits.headers);
    builder
        .max_header_list_size(head)
        .max_concurrent_streams(limits.streams)
        .max_local_error_reset_streams(Some(ERROR_RESETS))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .reset_stream_duration(REMEMBERED);
    builder
}

async fn run(shared: &Rc<Shared>, mut session: Session<Socket, Bytes>) {
    let worker = &shared.worker;
    // While the engine drains, what streams have left behind is still to be sent.
    let mut held = false;
    let mut cut_off = false;
    loop {
        let accepted = poll_fn(|cx| {
            if let Poll::Ready(accepted) = session.poll_accept(cx) {
                return Poll::Ready(accepted);
            }
            let draining = worker.draining.get();
            if draining && !std::mem::replace(&mut held, true) {
                worker.active.update(|active| active + 1);
            }
            if shared.hasty.get().0 > HASTY_BURST && !std::mem::replace(&mut cut_off, true) {
                session.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
            } else if shared.closing_ms.get() != NEVER {
                // Waited for in vain: the other end does not even close.
                return if shared.slot.fired() {
                    Poll::Ready(None)
                } else {
                    Poll::Pending
                };
            } else if shared.slot.fired() || draining || shared.rules(|_| ()).is_none() {
                session.graceful_shutdown();
            } else {
                return Poll::Pending;
            }
            shared.close();
            // What was said of the end is to be sent.
            session.poll_accept(cx)
        })
        .await;
        let Some(Ok((request, respond))) = accepted else {
            break;
        };
        shared.accept(request, respond);
    }
    if held {
        worker.active.update(|active| active - 1);
    }
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

    /// Serves a stream.
    fn accept(self: &Rc<Self>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        // Streams may cross the goodbye on their way, but not for long.
        let late = self.worker.coarse_ms.get() > self.closing_ms.get().saturating_add(LINGER_MS);
        if late || self.rules(|_| ()).is_none() {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
            return;
        }
        let Some(served) = DownstreamStream::new(request, respond, self.below) else {
            let mut stats = self.worker.stats.borrow_mut();
            let label = Reason::BadRequest("").label();
            *stats.errors.entry(label).or_default() += 1;
            return;
        };
        self.slot.arm(NEVER);
        self.open.update(|open| open + 1);
        tokio::task::spawn_local(serve_stream(Rc::clone(self), served));
    }

    /// A stream has ended.
    fn ended(&self, was_reset: bool, began_ms: u64) {
        let now = self.worker.coarse_ms.get();
        if was_reset && now - began_ms < HASTY_MS {
            let (hasty, at) = self.hasty.get();
            let forgiven = (now - at) * HASTY_PER_S / 1000;
            // Parts of a second are not lost, or a steady flow would be forgiven nothing.
            let at = if forgiven > 0 { now } else { at };
            self.hasty.set((hasty.saturating_sub(forgiven) + 1, at));
        }
        self.open.update(|open| open - 1);
        if self.open.get() == 0 {
            self.rest();
        }
        if self.hasty.get().0 > HASTY_BURST {
            self.slot.fire();
        }
    }
}

/// Serves one exchange, as a connection of its own.
async fn serve_stream(shared: Rc<Shared>, served: DownstreamStream) {
    let worker = Rc::clone(&shared.worker);
    let began_ms = worker.coarse_ms.get();
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
    worker.active.update(|active| active + 1);
    exchange(&mut connection, &mut scratch).await;
    worker.active.update(|active| active - 1);
    worker.give_scratch(scratch);
    worker.buffers.give(std::mem::take(&mut connection.buffer));
    let mut cx = Context::from_waker(Waker::noop());
    let was_reset = connection.stream.poll_gone(&mut cx).is_ready();
    drop(connection);
    shared.ended(was_reset, began_ms);
}
