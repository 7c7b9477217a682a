//! Connections of HTTP/2 to endpoints, per worker. One carries many exchanges at once, so an endpoint
//! has few: a further one is made when all that there are carry as many as the endpoint allows.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::task::Poll;

use bytes::Bytes;
use evenflow_rules::member::ConnectionVersion;
use h2::client::{Builder, Connection, SendRequest};
use http::uri::Scheme;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use super::socket::Socket;
use super::upstream_stream::UpstreamStream;
use super::{CONNECTION_WINDOW, ERROR_RESETS, Exchange, SEND_BUFFER, STREAM_WINDOW};
use crate::buffer::Buffer;
use crate::stream::Stream;
use crate::timer::Slot;

/// The largest head of an answer; an exchange takes no larger one either.
const MAX_HEAD: u32 = 64 * 1024;

/// After this many requests in a row whose deadline passed without any answer, a connection gets no
/// more: the backend may be gone without closing it. A request that the client cancels says nothing
/// about the backend and is not counted.
const MAX_TIMEOUTS: u32 = 3;

/// One worker's connections of HTTP/2, by endpoint.
#[derive(Debug, Default)]
pub struct Links {
    links: RefCell<FxHashMap<u32, Vec<Arc<Link>>>>,
    /// Endpoints that a connection is being made to, and those that wait for it.
    coming: RefCell<FxHashMap<u32, Rc<Notify>>>,
}

/// A connection.
#[derive(Debug)]
pub struct Link {
    made: ConnectionVersion,
    /// Of what is asked for on it.
    pub scheme: Scheme,
    client: SendRequest<Bytes>,
    /// Exchanges on it.
    open: AtomicU32,
    /// Requests that timed out since the backend's last sign of life.
    timeouts: AtomicU32,
    /// How long it is kept while it carries nothing.
    idle_ms: u64,
    /// Since when it carries nothing; 0 while that is not known.
    idle_since: AtomicU64,
    /// The last stream that the other end has a use for; all of them until it says so.
    last_stream: Arc<AtomicU32>,
    /// Its end has come.
    ended: AtomicBool,
    /// The other end has said what it allows.
    settled: Notify,
}

impl Link {
    /// The last stream that the other end may have worked on.
    pub fn last_stream(&self) -> u32 {
        self.last_stream.load(Relaxed)
    }

    /// One exchange more.
    pub fn entered(&self) {
        self.open.fetch_add(1, Relaxed);
        self.idle_since.store(0, Relaxed);
    }

    /// The other end has answered, or refused a stream.
    pub fn answered(&self) {
        self.timeouts.store(0, Relaxed);
    }

    /// A request's deadline passed before anything of its answer came.
    pub fn timed_out(&self) {
        self.timeouts.fetch_add(1, Relaxed);
    }

    /// One exchange less.
    pub fn left(&self) {
        self.open.fetch_sub(1, Relaxed);
    }

    fn is_usable(&self) -> bool {
        let going = self.ended.load(Relaxed) || self.last_stream() != u32::MAX;
        !going && self.timeouts.load(Relaxed) < MAX_TIMEOUTS
    }

    /// Waits until the other end has said how many streams it takes: before that, more might be
    /// begun than it does. What does not speak HTTP/2 at all shows here, with nothing asked of it.
    async fn settle(&self, slot: &Slot) -> io::Result<()> {
        let mut settled = std::pin::pin!(self.settled.notified());
        poll_fn(|cx| {
            if self.client.current_max_send_streams() > 0 {
                Poll::Ready(Ok(()))
            } else if self.ended.load(Relaxed) {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            } else if slot.fired() {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            } else {
                settled.as_mut().poll(cx).map(|()| Ok(()))
            }
        })
        .await
    }

    fn has_room(&self) -> bool {
        (self.open.load(Relaxed) as usize) < self.client.current_max_send_streams()
    }
}

/// A turn to make a connection, while others wait for it.
#[derive(Debug)]
pub struct ConnectTurn<'a> {
    links: &'a Links,
    endpoint: u32,
}

impl Drop for ConnectTurn<'_> {
    fn drop(&mut self) {
        let coming = self.links.coming.borrow_mut().remove(&self.endpoint);
        if let Some(waiting) = coming {
            waiting.notify_waiters();
        }
    }
}

impl Links {
    /// A stream on a connection made in this way.
    pub fn take(&self, endpoint: u32, made: ConnectionVersion) -> Option<Stream> {
        let mut links = self.links.borrow_mut();
        let kept = links.get_mut(&endpoint)?;
        kept.retain(|link| link.is_usable());
        let link = kept
            .iter()
            .find(|link| link.made == made && link.has_room())?;
        Some(stream(link))
    }

    /// Whether a connection of this kind was made to the endpoint lately, so that another one would
    /// be of HTTP/2 as well.
    pub fn knows(&self, endpoint: u32, made: ConnectionVersion) -> bool {
        let links = self.links.borrow();
        let mut kept = links.get(&endpoint).into_iter().flatten();
        kept.any(|link| link.made == made)
    }

    /// Waits for a connection that another exchange makes, or takes the turn to make one. `None`:
    /// the slot's deadline has passed.
    pub async fn turn(
        &self,
        endpoint: u32,
        made: ConnectionVersion,
        slot: &Slot,
    ) -> Option<Result<Stream, ConnectTurn<'_>>> {
        loop {
            if let Some(stream) = self.take(endpoint, made) {
                return Some(Ok(stream));
            }
            let coming = {
                let mut coming = self.coming.borrow_mut();
                let Some(waiting) = coming.get(&endpoint) else {
                    coming.insert(endpoint, Rc::default());
                    return Some(Err(ConnectTurn {
                        links: self,
                        endpoint,
                    }));
                };
                Rc::clone(waiting)
            };
            let mut notified = std::pin::pin!(coming.notified());
            let waited = poll_fn(|cx| {
                if notified.as_mut().poll(cx).is_ready() {
                    Poll::Ready(true)
                } else if slot.fired() {
                    Poll::Ready(false)
                } else {
                    Poll::Pending
                }
            });
            if !waited.await {
                return None;
            }
        }
    }

    /// Speaks HTTP/2 on a new connection and begins a stream on it. Others may use it as well where
    /// `idle_ms` says how long it is kept while it carries nothing.
    ///
    /// # Errors
    /// What the connection says; `TimedOut` for the slot's deadline.
    pub async fn begin(
        &self,
        endpoint: u32,
        made: ConnectionVersion,
        socket: Stream,
        idle_ms: Option<u64>,
        slot: &Slot,
    ) -> io::Result<Stream> {
        if idle_ms.is_some()
            && let Some(stream) = self.take(endpoint, made)
        {
            // Made by several at once: one is enough.
            return Ok(stream);
        }
        let scheme = if socket.is_tls() {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        };
        let last_stream = Arc::new(AtomicU32::new(u32::MAX));
        let socket = Socket::new(socket, Buffer::default()).watched(&last_stream);
        let mut handshake = Box::pin(builder().handshake::<_, Bytes>(socket));
        let (client, connection) = poll_fn(|cx| match handshake.as_mut().poll(cx) {
            Poll::Ready(begun) => Poll::Ready(begun.map_err(io::Error::other)),
            Poll::Pending if slot.fired() => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        let link = Arc::new(Link {
            made,
            scheme,
            client,
            open: 0.into(),
            timeouts: 0.into(),
            idle_ms: idle_ms.unwrap_or_default(),
            idle_since: 0.into(),
            last_stream,
            ended: false.into(),
            settled: Notify::new(),
        });
        tokio::task::spawn_local(drive(connection, Arc::downgrade(&link)));
        link.settle(slot).await?;
        if idle_ms.is_some() {
            let mut links = self.links.borrow_mut();
            links.entry(endpoint).or_default().push(Arc::clone(&link));
        }
        Ok(stream(&link))
    }

    /// Uses the connections to an endpoint for nothing new; they close when what they carry is over.
    pub fn forget(&self, endpoint: u32) {
        self.links.borrow_mut().remove(&endpoint);
    }

    /// The same for all endpoints that `keep` does not say.
    pub fn retain(&self, keep: impl Fn(u32) -> bool) {
        self.links.borrow_mut().retain(|uid, _| keep(*uid));
    }

    /// Lets go of connections that have ended or carried nothing for too long.
    pub fn sweep(&self, now_ms: u64) {
        self.links.borrow_mut().retain(|_, links| {
            links.retain(|link| {
                let since = link.idle_since.load(Relaxed);
                if link.open.load(Relaxed) == 0 && since == 0 {
                    link.idle_since.store(now_ms, Relaxed);
                }
                let idle = since != 0 && now_ms.saturating_sub(since) >= link.idle_ms;
                link.is_usable() && !idle
            });
            !links.is_empty()
        });
    }

    /// Connections to one endpoint that carry nothing.
    pub fn idle(&self, endpoint: u32) -> usize {
        let links = self.links.borrow();
        let kept = links.get(&endpoint).into_iter().flatten();
        kept.filter(|link| link.open.load(Relaxed) == 0).count()
    }

    /// The same by endpoint.
    pub fn counts(&self) -> Vec<(u32, usize)> {
        let links = self.links.borrow();
        links.keys().map(|uid| (*uid, self.idle(*uid))).collect()
    }
}

/// Moves a connection on to its end: when the other side closes it, or when nobody here has a use
/// for it any more.
async fn drive(mut connection: Connection<Socket, Bytes>, link: Weak<Link>) {
    let mut settling = true;
    poll_fn(|cx| {
        let polled = Pin::new(&mut connection).poll(cx);
        if settling
            && let Some(link) = link.upgrade()
            && (polled.is_ready() || link.client.current_max_send_streams() > 0)
        {
            settling = false;
            link.ended.store(polled.is_ready(), Relaxed);
            link.settled.notify_one();
        }
        polled
    })
    .await
    .ok();
    if let Some(link) = link.upgrade() {
        link.ended.store(true, Relaxed);
    }
}

fn stream(link: &Arc<Link>) -> Stream {
    let asked = UpstreamStream::new(link, link.client.clone());
    Stream::Http2(Box::new(Exchange::Upstream(asked)))
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(0)
        .max_header_list_size(MAX_HEAD)
        .max_local_error_reset_streams(Some(ERROR_RESETS))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER);
    builder
}
