//! Connections of HTTP/2 to endpoints, per worker. One carries many exchanges at once, so an endpoint
//! has few: a further one is made when all that there are carry as many as the endpoint allows.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::Instant;

use evenflow_rules::member::ConnectionVersion;
use evenflow_rules::plan::Connections;
use evenflow_wire::http1::encode::phrase;
use evenflow_wire::http2::translate::response_text;
use evenflow_wire::http2::{Config, Event, Key, Role};
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use super::keepalive::{Keepalive, KeepaliveAction};
use super::session::{Driver, Protocol, Session};
use super::upstream_stream::UpstreamStream;
use super::{CONNECTION_WINDOW, Exchange, STREAM_WINDOW};
use crate::buffer::{Buffer, Buffers};
use crate::stream::Stream;
use crate::timer::Slot;

/// The largest head of an answer; an exchange takes no larger one either.
const MAX_HEAD: u32 = 64 * 1024;

/// After this many requests in a row whose deadline passed without any answer, a connection gets no
/// more: the backend may be gone without closing it. A request that the client cancels says nothing
/// about the backend and is not counted.
const MAX_TIMEOUTS: u32 = 3;

/// What a `PING` carries.
const PING: [u8; 8] = *b"evenflow";

/// One worker's connections of HTTP/2, by endpoint.
#[derive(Debug, Default)]
pub struct Links {
    links: RefCell<FxHashMap<u32, Vec<Rc<Link>>>>,
    /// Endpoints that a connection is being made to, and those that wait for it.
    coming: RefCell<FxHashMap<u32, Rc<Notify>>>,
}

/// A connection.
#[derive(Debug)]
pub struct Link {
    made: ConnectionVersion,
    /// Of what is asked for on it.
    pub scheme: &'static [u8],
    /// What is spoken on it.
    pub session: Rc<Session>,
    /// Exchanges on it.
    open: Cell<u32>,
    /// Requests that timed out since the backend's last sign of life.
    timeouts: Cell<u32>,
    /// Its signs of life, where it is kept.
    keepalive: Option<Keepalive>,
    /// How long it is kept while it carries nothing.
    idle_ms: u64,
    /// Since when it carries nothing; 0 while that is not known.
    idle_since: Cell<u64>,
    /// The other end has said what it allows, or the connection has ended.
    settled: Notify,
}

impl Drop for Link {
    /// Nobody has a use for the connection any more.
    fn drop(&mut self) {
        self.session.wake_driver();
    }
}

impl Link {
    /// One exchange more.
    pub fn entered(&self) {
        self.open.update(|open| open + 1);
        self.idle_since.set(0);
    }

    /// The other end has answered, or refused a stream.
    pub fn answered(&self) {
        self.timeouts.set(0);
    }

    /// A request's deadline passed before anything of its answer came.
    pub fn timed_out(&self) {
        self.timeouts.update(|timeouts| timeouts + 1);
    }

    /// One exchange less.
    pub fn left(&self) {
        self.open.update(|open| open - 1);
    }

    /// Sends a `PING` when the connection has been silent for long, and ends it when that has been
    /// in vain.
    fn keep_alive(&self, now_ms: u64) {
        let Some(keepalive) = &self.keepalive else {
            return;
        };
        match keepalive.judge(self.session.reads(), now_ms) {
            KeepaliveAction::Wait => {}
            KeepaliveAction::Ping => self.session.change(|protocol| protocol.ping(PING)),
            KeepaliveAction::Dead => self.session.abort(),
        }
    }

    fn is_usable(&self) -> bool {
        let leaving = || self.session.look(Protocol::is_leaving);
        !self.session.is_over() && self.timeouts.get() < MAX_TIMEOUTS && !leaving()
    }

    /// Waits until the other end has said how many streams it takes: before that, more might be
    /// begun than it does. What does not speak HTTP/2 at all shows here, with nothing asked of it.
    async fn settle(&self, slot: &Slot) -> io::Result<()> {
        let mut settled = std::pin::pin!(self.settled.notified());
        poll_fn(|cx| {
            if self.session.look(Protocol::is_settled) {
                Poll::Ready(Ok(()))
            } else if self.session.is_over() {
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
        let most = self.session.look(Protocol::max_streams);
        self.open.get() < most
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
    /// `rules` say how long it is kept while it carries nothing.
    ///
    /// # Errors
    /// What the connection says; `TimedOut` for the slot's deadline.
    pub async fn begin(
        &self,
        endpoint: u32,
        made: ConnectionVersion,
        (socket, buffers): (Stream, &Rc<Buffers>),
        rules: Option<&Connections>,
        slot: &Slot,
    ) -> io::Result<Stream> {
        if rules.is_some()
            && let Some(stream) = self.take(endpoint, made)
        {
            // Made by several at once: one is enough.
            return Ok(stream);
        }
        let session = Rc::new(Session::new(CONFIG, buffers.account()));
        let link = Rc::new(Link {
            made,
            scheme: if socket.is_tls() { b"https" } else { b"http" },
            session: Rc::clone(&session),
            open: Cell::new(0),
            timeouts: Cell::new(0),
            keepalive: rules.map(Keepalive::new),
            idle_ms: rules.map_or(0, |rules| rules.idle_ms),
            idle_since: Cell::new(0),
            settled: Notify::new(),
        });
        let driver = Driver::new(&session, buffers, socket, Buffer::default());
        tokio::task::spawn_local(drive(driver, Rc::downgrade(&link)));
        link.settle(slot).await?;
        if rules.is_some() {
            let mut links = self.links.borrow_mut();
            links.entry(endpoint).or_default().push(Rc::clone(&link));
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

    /// Lets go of connections that have ended or carried nothing for too long, and asks silent ones
    /// for a sign of life.
    pub fn sweep(&self, now_ms: u64) {
        self.links.borrow_mut().retain(|_, links| {
            links.retain(|link| {
                let since = link.idle_since.get();
                if link.open.get() == 0 && since == 0 {
                    link.idle_since.set(now_ms);
                }
                link.keep_alive(now_ms);
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
        kept.filter(|link| link.open.get() == 0).count()
    }

    /// The same by endpoint.
    pub fn counts(&self) -> Vec<(u32, usize)> {
        let links = self.links.borrow();
        links.keys().map(|uid| (*uid, self.idle(*uid))).collect()
    }
}

/// Moves a connection on to its end: when the other side closes it, or when nobody here has a use
/// for it any more.
async fn drive(mut driver: Driver, link: Weak<Link>) {
    let started = Instant::now();
    poll_fn(|cx| {
        let now_ms = started.elapsed().as_millis() as u64;
        let polled = driver.poll(cx, now_ms, &mut |protocol, event| {
            let link = link.upgrade();
            match event {
                Event::Settings => {
                    if let Some(link) = link {
                        link.settled.notify_waiters();
                    }
                }
                Event::Interim(key) | Event::Head(key) => {
                    if let Some(link) = link {
                        link.answered();
                    }
                    answer(protocol, key);
                }
                _ => {}
            }
        });
        let wanted = link.upgrade().is_some_and(|link| !link.session.is_over());
        if polled.is_pending() && wanted {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    driver.shutdown().await;
    drop(driver);
    if let Some(link) = link.upgrade() {
        link.settled.notify_waiters();
    }
}

/// Writes the head of an answer down for its stream.
fn answer(protocol: &mut Protocol, key: Key) {
    let Some(state) = protocol.user(key) else {
        return;
    };
    state.answered = true;
    let mut inbound = std::mem::take(&mut state.inbound);
    let (ended, head_request) = (protocol.is_received(key), protocol.is_head_request(key));
    let section = protocol.section();
    let phrase = phrase(section.status());
    inbound.begin(|out| response_text(section, phrase, ended, head_request, out));
    if ended {
        inbound.end(Vec::new());
    }
    if let Some(state) = protocol.user(key) {
        state.inbound = inbound;
    }
}

fn stream(link: &Rc<Link>) -> Stream {
    Stream::Http2(Box::new(Exchange::Upstream(UpstreamStream::new(link))))
}

const CONFIG: Config = Config {
    role: Role::Client,
    max_concurrent_streams: 0,
    stream_window: STREAM_WINDOW,
    connection_window: CONNECTION_WINDOW,
    max_section: MAX_HEAD,
};
