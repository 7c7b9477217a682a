//! A client's connection: waiting for a request, reading its head, closing in order.

use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use evenflow_rules::plan::OnClientClose;
use evenflow_rules::reason::Reason;
use evenflow_rules::route::decode_in_place;
use evenflow_rules::table::Listener;
use evenflow_wire::field::Known;
use evenflow_wire::http1::encode::Origin;
use evenflow_wire::http1::head::{RequestHead, Scan, scan};
use evenflow_wire::http1::hops::{self, Hop};
use evenflow_wire::identity::Identity;
use evenflow_wire::proxy_protocol::AddressPair;

use crate::acceptor::ListenerHandle;
use crate::buffer::{Buffer, HEAD_BYTES};
use crate::exchange::RequestContext;
use crate::stream::{Gone, Stream};
use crate::timer::{Slot, Timer};
use crate::tunnel::Tunnel;
use crate::worker::Worker;

/// How long bytes of a refused request are read and thrown away before the connection closes, so
/// that the client gets to see the answer and not a reset.
pub const LINGER_MS: u64 = 2_000;

/// How many such bytes at the most.
const LINGER_BYTES: usize = 1024 * 1024;

/// How a client that leaves is noticed while its request waits for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientWatch {
    /// By the end of its stream or a reset. Bytes that come meanwhile are its next requests: they
    /// are read into the connection's buffer, as far as there is room.
    ReadAhead,
    /// The same while a body is streamed: bytes that come are the body's and stay in the socket.
    Body,
    /// By a reset alone: a session of layer 4 goes on after one side has ended.
    Reset,
    /// Not at all: the request runs to its end (`on_client_close: finish`).
    Off,
}

/// A client's connection.
#[derive(Debug)]
pub struct Connection {
    /// The worker that serves it.
    pub worker: Rc<Worker>,
    /// The socket.
    pub stream: Stream,
    /// Its deadline.
    pub slot: Slot,
    /// What was received and not used up yet.
    pub buffer: Buffer,
    /// The other end: the client, or a proxy of HTTP before it.
    pub peer: Option<IpAddr>,
    /// The door it came in by.
    pub door: ListenerHandle,
    /// What it has become after a switch of protocols.
    pub tunnel: Option<Box<Tunnel>>,
    /// Who the client is by its certificate.
    pub identity: Option<Rc<Identity>>,
    /// Both ends where a PROXY header told them.
    pub proxied: Option<Box<AddressPair>>,
    /// How the client's leaving is noticed.
    pub watch: ClientWatch,
}

impl Connection {
    /// Waits, without a buffer, for the next request's first bytes and reads them. `false`: none
    /// will come.
    pub async fn await_request(&mut self) -> bool {
        let spent = std::mem::take(&mut self.buffer);
        self.worker.buffers.give(spent);
        let Some(idle_ms) = self.rules(|listener| listener.timeouts.idle_ms) else {
            return false;
        };
        self.slot.arm(self.worker.coarse_ms.get() + idle_ms);
        poll_fn(|cx| {
            // A new socket counts as readable until a read has shown otherwise.
            while let Poll::Ready(ready) = self.stream.poll_read_ready(cx) {
                if ready.is_err() {
                    return Poll::Ready(false);
                }
                self.buffer = self.worker.buffers.take(HEAD_BYTES);
                match self.stream.poll_read(cx, self.buffer.spare()) {
                    Poll::Ready(Ok(count)) if count > 0 => {
                        self.buffer.end += count;
                        return Poll::Ready(true);
                    }
                    Poll::Ready(_) => return Poll::Ready(false),
                    Poll::Pending => {
                        let unused = std::mem::take(&mut self.buffer);
                        self.worker.buffers.give(unused);
                    }
                }
            }
            let over =
                self.slot.fired() || self.worker.draining.get() || self.rules(|_| ()).is_none();
            if over {
                Poll::Ready(false)
            } else {
                Poll::Pending
            }
        })
        .await
    }

    /// Tells the other end of an encrypted idle connection that nothing more comes, as far as that
    /// needs no waiting.
    pub async fn farewell(&mut self) {
        if self.stream.is_tls() {
            poll_fn(|cx| {
                let _ = self.stream.poll_shutdown(cx);
                Poll::Ready(())
            })
            .await;
        }
    }

    /// Ready when the client has left, and the wake-up for it: a request that waits for something
    /// polls this beside it, and ends with [`Reason::ClientGone`]. Costs no system call while
    /// nothing comes.
    pub fn poll_client_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.split().1.poll_gone(cx)
    }

    /// The deadline, and the parts that say whether the client has left.
    pub fn split(&mut self) -> (&Slot, Client<'_>) {
        let client = ClientParts {
            stream: &mut self.stream,
            buffer: &mut self.buffer,
            watch: self.watch,
            timer: &self.worker.timer,
        };
        (&self.slot, Client(Some(client)))
    }

    /// Waits for so long, or until the client leaves.
    ///
    /// # Errors
    /// [`Reason::ClientGone`].
    pub async fn pause(&mut self, for_ms: u64) -> Result<(), Reason> {
        self.slot.arm(self.worker.shared.now_ms() + for_ms);
        poll_fn(|cx| {
            if self.slot.fired() {
                return Poll::Ready(Ok(()));
            }
            self.poll_client_gone(cx).map(|()| Err(Reason::ClientGone))
        })
        .await
    }

    /// Begins to watch the client for a request.
    pub fn watch_client(&mut self) {
        self.watch = ClientWatch::ReadAhead;
    }

    /// Watches the client as its request's route says.
    pub fn watch_as(&mut self, rule: OnClientClose) {
        if rule == OnClientClose::Finish {
            self.watch = ClientWatch::Off;
        }
    }

    /// A streamed body begins: what comes now is to be left to it.
    pub fn watch_body(&mut self) {
        if self.watch == ClientWatch::ReadAhead {
            self.watch = ClientWatch::Body;
        }
    }

    /// The body has been read: what comes now is the next request.
    pub fn watch_next_request(&mut self) {
        if self.watch == ClientWatch::Body {
            self.watch = ClientWatch::ReadAhead;
        }
    }

    /// Both ends, for the PROXY header of a connection to an endpoint.
    pub fn ends(&self) -> Option<AddressPair> {
        match &self.proxied {
            Some(ends) => Some(**ends),
            None => self.stream.ends(),
        }
    }

    /// Something of the listener's rules; `None` when the listener is gone.
    pub fn rules<T>(&self, get: impl FnOnce(&Listener) -> T) -> Option<T> {
        let table = self.worker.table();
        table.listener(self.door.get()).map(get)
    }

    /// Closes in order: nothing more is written, what still comes is thrown away for a bounded
    /// time. Closing with unread input would reset the connection under the answer.
    pub async fn linger(&mut self) {
        self.slot.arm(self.worker.coarse_ms.get() + LINGER_MS);
        let mut discarded = 0;
        let mut shut = false;
        let mut sink = [0; 2048];
        poll_fn(|cx| {
            if !shut {
                match self.stream.poll_shutdown(cx) {
                    Poll::Ready(Ok(())) => shut = true,
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => {}
                }
            }
            loop {
                if self.slot.fired() || discarded > LINGER_BYTES || self.worker.draining.get() {
                    return Poll::Ready(());
                }
                match self.stream.poll_read(cx, &mut sink) {
                    Poll::Ready(Ok(count)) if count > 0 => discarded += count,
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
    }
}

/// The parts of a client's connection that say whether the client has left; empty for what is done
/// for no client.
#[derive(Debug)]
pub struct Client<'a>(Option<ClientParts<'a>>);

#[derive(Debug)]
struct ClientParts<'a> {
    stream: &'a mut Stream,
    buffer: &'a mut Buffer,
    watch: ClientWatch,
    timer: &'a Timer,
}

impl Client<'_> {
    /// Nobody waits.
    pub const NONE: Self = Client(None);

    /// See [`Connection::poll_client_gone`].
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Some(parts) => parts.poll_gone(cx),
            None => Poll::Pending,
        }
    }
}

impl ClientParts<'_> {
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self {
            stream,
            buffer,
            watch,
            timer,
        } = self;
        match *watch {
            ClientWatch::Off => return Poll::Pending,
            ClientWatch::ReadAhead | ClientWatch::Body if stream.is_http2() => {
                return stream.poll_gone(cx).map(|_| ());
            }
            ClientWatch::Reset => {
                return match stream.poll_gone(cx) {
                    Poll::Ready(Gone::Reset) => Poll::Ready(()),
                    Poll::Ready(_) | Poll::Pending => Poll::Pending,
                };
            }
            ClientWatch::ReadAhead => {
                while !buffer.spare().is_empty() {
                    match stream.poll_read(cx, buffer.spare()) {
                        Poll::Ready(Ok(count)) if count > 0 => buffer.end += count,
                        Poll::Ready(_) => return Poll::Ready(()),
                        Poll::Pending => return Poll::Pending,
                    }
                }
            }
            ClientWatch::Body => {}
        }
        // Bytes that cannot be taken now hide the stream's end, and no event tells of it alone.
        if ready!(stream.poll_read_ready(cx)).is_err() || stream.is_read_closed() {
            return Poll::Ready(());
        }
        timer.wake_soon(cx.waker());
        Poll::Pending
    }
}

/// Reads until a whole head is there. `Ok(false)`: the client closed without a request.
pub async fn read_head(
    connection: &mut Connection,
    listener: &Listener,
    head: &mut RequestHead,
) -> Result<bool, Reason> {
    let limits = &listener.limits;
    let max_head = limits.head_bytes as usize;
    let max_target = limits.target_bytes as usize;
    let mut scanned = 0;
    let mut armed = false;
    let mut skipped = false;
    loop {
        // One empty line before a request is passed over (RFC 9112 §2.2).
        if !skipped && scanned == 0 && connection.buffer.bytes().starts_with(b"\r\n") {
            skipped = true;
            connection.buffer.consume(2);
        }
        let bytes = connection.buffer.bytes();
        if let Some(first) = bytes.first()
            && !first.is_ascii_alphanumeric()
            && !b"!#$%&'*+-.^_`|~\r".contains(first)
        {
            return Err(Reason::BadRequest("The request line is not valid."));
        }
        match scan(bytes, scanned).map_err(Reason::BadRequest)? {
            Scan::Complete(len) if len <= max_head => {
                head.http2 = connection.stream.is_http2();
                head.parse(&bytes[..len], limits.headers as usize, max_target)?;
                let hop = hops::count(head, connection.buffer.bytes_mut());
                head.last_hop = hop.map_err(Reason::BadRequest)? == Hop::Last;
                if listener.decode_slashes {
                    head.replace_path(connection.buffer.bytes_mut(), decode_in_place);
                }
                return Ok(true);
            }
            Scan::Complete(_) => return Err(too_large(bytes, max_target)),
            Scan::Partial(at) => {
                scanned = at;
                if bytes.len() >= max_head || (at == 0 && bytes.len() > max_target + 64) {
                    return Err(too_large(bytes, max_target));
                }
            }
        }
        if !armed {
            armed = true;
            let deadline = connection.worker.coarse_ms.get() + listener.timeouts.head_ms;
            connection.slot.arm(deadline);
        }
        if connection.buffer.spare().is_empty() {
            connection.buffer.compact();
            let size = (connection.buffer.size() * 2).min(max_head + HEAD_BYTES);
            connection.buffer.grow(size);
        }
        let read = poll_fn(|cx| {
            if connection.slot.fired() {
                return Poll::Ready(None);
            }
            let spare = connection.buffer.spare();
            connection.stream.poll_read(cx, spare).map(Some)
        })
        .await;
        match read {
            None => return Err(Reason::HeadTimeout),
            Some(Ok(count)) if count > 0 => connection.buffer.end += count,
            Some(_) if connection.buffer.is_empty() => return Ok(false),
            Some(Ok(_)) => return Err(Reason::BadRequest("The request head is cut short.")),
            Some(Err(_)) => return Ok(false),
        }
    }
}

/// Which part of a head is too large: 414 when it is the first line, else 431.
fn too_large(bytes: &[u8], max_target: usize) -> Reason {
    let line = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    if line > max_target {
        Reason::TargetTooLong
    } else {
        Reason::HeadTooLarge
    }
}

/// What is known of who asks.
pub fn origin_of<'a>(
    connection: &Connection,
    context: &RequestContext<'a>,
    head: &RequestHead,
) -> Origin<'a> {
    let listener = context.listener;
    let peer = connection.peer;
    let trusted = match (&listener.trusted, peer) {
        (Some(set), Some(peer)) => set.permits(peer),
        _ => false,
    };
    let client = if trusted {
        client_behind_proxies(connection, listener, head).or(peer)
    } else {
        peer
    };
    let encrypted = connection.stream.is_tls();
    Origin {
        peer,
        client,
        trusted,
        scheme: if encrypted { "https" } else { "http" },
        secure: encrypted || trusted && told_https(head, connection.buffer.bytes()),
        identity: context.identity,
        forwarded: listener.forwarded,
        internal: context.route.is_some_and(|(_, route)| route.internal),
        upgrade: context
            .route
            .is_some_and(|(_, route)| route.upgrade.is_some()),
        request_id: context.id,
        server_name: &context.table.server_name,
    }
}

/// Whether the proxy before this one was spoken to over TLS, as it says.
fn told_https(head: &RequestHead, base: &[u8]) -> bool {
    let mut fields = head.fields.iter();
    fields.any(|field| {
        field.known == Known::XForwardedProto
            && field.value.get(base).eq_ignore_ascii_case(b"https")
    })
}

/// The nearest address in `X-Forwarded-For` that is not a trusted proxy's: everything beyond it is
/// only what that client claims.
fn client_behind_proxies(
    connection: &Connection,
    listener: &Listener,
    head: &RequestHead,
) -> Option<IpAddr> {
    let base = connection.buffer.bytes();
    let set = listener.trusted.as_ref()?;
    let mut nearest = None;
    for field in head.fields.iter().rev() {
        if field.known != Known::XForwardedFor {
            continue;
        }
        for hop in field.value.get(base).rsplit(|&byte| byte == b',') {
            let hop = std::str::from_utf8(hop.trim_ascii()).ok()?;
            let ip = hop.parse::<IpAddr>().ok().or_else(|| {
                let address = hop.parse::<std::net::SocketAddr>().ok()?;
                Some(address.ip())
            });
            let Some(ip) = ip else { return nearest };
            nearest = Some(ip);
            if !set.permits(ip) {
                return nearest;
            }
        }
    }
    nearest
}
