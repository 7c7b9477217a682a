//! One attempt to have a request answered by one endpoint: connect, send, await the head.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use evenflow_rules::filters::Edits;
use evenflow_rules::reason::Reason;
use evenflow_rules::table::ConnectionVersion;
use evenflow_rules::table::{Listener, Route};
use evenflow_state::stats::ErrorKind;
use evenflow_wire::http1::encode::{self, Delivery, Origin, UpstreamTarget};
use evenflow_wire::http1::head::{RequestHead, ResponseHead, Scan, agrees, scan};
use evenflow_wire::proxy_protocol::AddressPair;

use crate::buffer::{BODY_BYTES, Buffer};
use crate::connection::Connection;
use crate::lease::Lease;
use crate::relay::{Broken, Waiting};
use crate::request_body::RequestBody;
use crate::stream::Stream;
use crate::upstream::reach;
use crate::worker::{Scratch, Worker};

/// The most 1xx answers that are passed on before an answer must come.
pub const MAX_INTERIM: usize = 32;
/// What is wrong with a request that HTTP/1.1 can say and HTTP/2 cannot.
const CANNOT_SAY: Reason =
    Reason::BadRequest("The request cannot be passed on by HTTP/2, which the backend speaks.");
/// What is wrong with an endpoint that sends more.
pub const ENDLESS: Reason =
    Reason::UpstreamProtocol("The backend sends interim answers without end.");

/// A connection to an endpoint whose answer has begun.
#[derive(Debug)]
pub struct Upstream {
    /// The socket.
    pub stream: Stream,
    /// The answer's head and what came with it.
    pub buffer: Buffer,
    /// Bytes sent in the first write.
    pub sent: u64,
    /// How it was made.
    made: ConnectionVersion,
}

impl Upstream {
    /// A connection on which nothing was sent yet.
    pub fn new(stream: Stream, made: ConnectionVersion) -> Self {
        Self {
            stream,
            buffer: Buffer::default(),
            sent: 0,
            made,
        }
    }

    /// Keeps the connection for later requests, unless the endpoint has become another meanwhile.
    pub fn keep(self, worker: &Worker, lease: &Lease) {
        lease.keep(worker, self.made, self.stream);
    }

    /// Closes the connection: nobody wants this answer.
    pub fn discard(self, connection: &Connection) {
        connection.worker.buffers.give(self.buffer);
    }
}

/// Why an attempt brought no answer.
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    /// What kind of failure the endpoint is charged with.
    pub kind: ErrorKind,
    /// What the client is told.
    pub reason: Reason,
    /// The endpoint got nothing of the request.
    pub unsent: bool,
    /// A kept connection turned out to be dead: no verdict on the endpoint.
    pub stale: bool,
    /// The client is to blame.
    pub client: bool,
}

impl Failure {
    /// A failure of the endpoint's that may have done something with the request.
    pub fn new(kind: ErrorKind, reason: Reason) -> Self {
        Self {
            kind,
            reason,
            unsent: false,
            stale: false,
            client: false,
        }
    }

    fn client(reason: Reason) -> Self {
        Self {
            client: true,
            ..Self::new(ErrorKind::Reset, reason)
        }
    }

    /// The endpoint answered with a status that is worth another try.
    pub fn status() -> Self {
        Self::new(ErrorKind::Status, Reason::UpstreamReset)
    }
}

/// What an attempt works with.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// The client's side.
    pub connection: &'a mut Connection,
    /// The listener's rules.
    pub listener: &'a Listener,
    /// The route's rules.
    pub route: &'a Route,
    /// Header edits.
    pub edits: &'a Edits,
    /// The endpoint.
    pub lease: &'a Lease,
    /// Who asks.
    pub origin: &'a Origin<'a>,
    /// What the endpoint is asked for, where it is not the client's target.
    pub target: Option<&'a [u8]>,
    /// Header lines for the client that belong to this request.
    pub lines: &'a [u8],
    /// When the route's time is over, on the engine's clock.
    pub route_deadline: u64,
    /// The client has a part of an interim answer: nobody else may write to it now.
    pub midway: &'a Cell<bool>,
}

/// Something to look at in an endpoint's stream.
#[derive(Debug)]
pub enum Step {
    /// A whole head of so many bytes.
    Head(usize),
    /// The attempt failed.
    Failed(Failure),
}

impl Attempt<'_> {
    /// Runs the attempt. The head of the answer is in `scratch` and still in the upstream's buffer.
    pub async fn run(
        &mut self,
        scratch: &mut Scratch,
        body: &mut RequestBody,
    ) -> Result<Upstream, Failure> {
        let worker = Rc::clone(&self.connection.worker);
        let started = Instant::now();
        let member = self.lease.member();
        let made = member.made();
        let switching = self.origin.upgrade && scratch.request.upgrade.is_some();
        let kept = self.lease.kept(&worker, made, switching);
        let mut reused = kept.is_some();
        let mut stream = match kept {
            Some(stream) => stream,
            None => Box::pin(self.connect(&worker, switching)).await?,
        };
        let now = worker.coarse_ms.get();
        let try_deadline = deadline(&worker, self.route, self.route_deadline);
        let mut out = worker.buffers.take_out();
        self.push_head(&mut out, scratch, stream.is_http2());
        let data = body.first(&self.connection.buffer, &mut out);
        let slot = &self.connection.slot;
        slot.arm((now + member.first_byte_timeout_ms).min(try_deadline));
        let (sent, written) = write_head(&mut stream, &out, data, slot).await;
        worker.buffers.give_out(out);
        let mut upstream = Upstream::new(stream, made);
        upstream.sent = sent as u64;
        match written {
            Err(None) => return Err(Failure::new(ErrorKind::Timeout, Reason::UpstreamTimeout)),
            Err(Some(error)) if error.kind() == io::ErrorKind::InvalidInput => {
                return Err(Failure::client(CANNOT_SAY));
            }
            Err(Some(_)) if sent == 0 => {
                return Err(Failure {
                    unsent: true,
                    stale: reused,
                    ..Failure::new(ErrorKind::Reset, Reason::UpstreamReset)
                });
            }
            // It may have answered before it closed.
            Err(Some(_)) | Ok(()) => {}
        }
        for _ in 0..=MAX_INTERIM {
            let step = self
                .await_head(&worker, &mut upstream, body, reused, try_deadline)
                .await;
            let len = match step {
                Step::Head(len) => len,
                Step::Failed(failure) => {
                    if failure.kind == ErrorKind::Timeout {
                        upstream.stream.note_timeout();
                    }
                    worker.buffers.give(upstream.buffer);
                    return Err(failure);
                }
            };
            let head_request =
                scratch.request.method.get(self.connection.buffer.bytes()) == b"HEAD";
            let response = &mut scratch.response;
            let parsed = response.parse(&upstream.buffer.bytes()[..len], head_request);
            let refused = match parsed {
                Err(detail) => Some(detail),
                Ok(())
                    if response.status == 101
                        && !self.switches(&scratch.request, response, upstream.buffer.bytes()) =>
                {
                    Some("The backend switched protocols without being asked to.")
                }
                Ok(()) => None,
            };
            if let Some(detail) = refused {
                worker.buffers.give(upstream.buffer);
                let reason = Reason::UpstreamProtocol(detail);
                return Err(Failure::new(ErrorKind::Protocol, reason));
            }
            if response.status < 200 && response.status != 101 {
                // It is alive: if it ends now, that is its answer.
                reused = false;
                self.relay_interim(scratch, &mut upstream).await?;
                continue;
            }
            let latency = started.elapsed();
            self.lease.answered_after(latency);
            let mut stats = worker.stats.borrow_mut();
            let stats = stats.endpoint(member.endpoint.uid);
            stats.first_byte.record(latency.as_nanos() as u64);
            member
                .endpoint
                .observe_latency(latency.as_secs_f32() * 1000.0, worker.coarse_ms.get());
            return Ok(upstream);
        }
        worker.buffers.give(upstream.buffer);
        Err(Failure::new(ErrorKind::Protocol, ENDLESS))
    }

    /// Appends the request's head as this endpoint gets it, by HTTP/2 or not.
    pub fn push_head(&self, out: &mut Vec<u8>, scratch: &Scratch, http2: bool) {
        encode::request_head(
            out,
            &scratch.request,
            self.connection.buffer.bytes(),
            self.origin,
            &UpstreamTarget {
                authority: self.lease.member().endpoint.authority(),
                target: self.target,
                host: self.route.rewritten_host(),
                http2,
            },
            &self.edits.request,
        );
        encode::insert_lines(out, &scratch.passed.request_lines);
    }

    /// Whether this answer is the switch of protocols that was asked for.
    fn switches(&self, request: &RequestHead, response: &ResponseHead, bytes: &[u8]) -> bool {
        let base = self.connection.buffer.bytes();
        let asked = request.upgrade.filter(|_| self.origin.upgrade);
        match (asked, response.upgrade) {
            (Some(asked), Some(chosen)) => agrees(asked.get(base), chosen.get(bytes)),
            _ => false,
        }
    }

    /// The client's connection as a PROXY header tells it: the client is whom trusted proxies name.
    pub fn client_ends(&self) -> Option<AddressPair> {
        let ends = self.connection.ends()?;
        Some(match self.origin.client {
            Some(client) if client != ends.source.ip().to_canonical() => AddressPair {
                source: SocketAddr::new(client, 0),
                ..ends
            },
            _ => ends,
        })
    }

    async fn connect(&self, worker: &Worker, switching: bool) -> Result<Stream, Failure> {
        let member = self.lease.member();
        let slot = &self.connection.slot;
        let deadline = worker.coarse_ms.get() + member.connect_timeout_ms;
        slot.arm(deadline.min(self.route_deadline));
        let connected = reach(worker, self.lease, || self.client_ends(), slot, switching).await;
        connected.map_err(|reason| Failure {
            unsent: true,
            ..Failure::new(ErrorKind::Connect, reason)
        })
    }

    /// Waits for the answer's head while the rest of the body is sent.
    async fn await_head(
        &mut self,
        worker: &Worker,
        upstream: &mut Upstream,
        body: &mut RequestBody,
        reused: bool,
        try_deadline: u64,
    ) -> Step {
        let first_byte_ms = self.lease.member().first_byte_timeout_ms;
        let timeouts = &self.listener.timeouts;
        let body_started = worker.coarse_ms.get();
        let mut scanned = 0;
        let mut armed: Option<(bool, u64)> = None;
        let connection = &mut *self.connection;
        poll_fn(|cx| {
            match poll_head(cx, worker, upstream, &mut scanned, reused) {
                Poll::Ready(step) => return Poll::Ready(step),
                Poll::Pending => {}
            }
            let sending = !body.is_done();
            if sending
                && let Poll::Ready(Err(broken)) = body.poll(cx, connection, &mut upstream.stream)
            {
                return Poll::Ready(Step::Failed(Failure::client(match broken {
                    Broken::Framing(detail) => Reason::BadRequest(detail),
                    Broken::TooLarge => Reason::BodyTooLarge,
                    Broken::Truncated | Broken::Read | Broken::Write => Reason::ClientGone,
                })));
            }
            let sending = sending && !body.is_done();
            if (!sending || body.waiting() == Waiting::Write)
                && connection.poll_client_gone(cx).is_ready()
            {
                return Poll::Ready(Step::Failed(Failure::client(Reason::ClientGone)));
            }
            let from_client = sending && body.waiting() == Waiting::Read;
            let now = worker.coarse_ms.get();
            if connection.slot.fired() && armed.is_some() {
                return Poll::Ready(Step::Failed(if from_client {
                    Failure::client(Reason::BodyTimeout)
                } else if now >= self.route_deadline {
                    Failure::new(ErrorKind::Timeout, Reason::RouteTimeout)
                } else {
                    Failure::new(ErrorKind::Timeout, Reason::UpstreamTimeout)
                }));
            }
            if from_client && too_slow(timeouts, body.received(), now - body_started) {
                return Poll::Ready(Step::Failed(Failure::client(Reason::BodyTimeout)));
            }
            let progress = (from_client, body.received() + body.streamed());
            if armed != Some(progress) {
                armed = Some(progress);
                let patience = if from_client {
                    timeouts.body_ms
                } else {
                    first_byte_ms
                };
                connection.slot.arm((now + patience).min(try_deadline));
            }
            Poll::Pending
        })
        .await
    }

    /// Passes a 1xx answer on to a client that understands it.
    async fn relay_interim(
        &mut self,
        scratch: &Scratch,
        upstream: &mut Upstream,
    ) -> Result<(), Failure> {
        let (request, response) = (&scratch.request, &scratch.response);
        let wanted = !request.version_10 && (response.status != 100 || request.expects_continue);
        let worker = &self.connection.worker;
        let mut out = worker.buffers.take_out();
        if wanted {
            let delivery = Delivery {
                version_10: false,
                keep_alive: true,
                chunked: false,
            };
            let bytes = upstream.buffer.bytes();
            let none = evenflow_wire::edit::Edit::default();
            encode::response_head(&mut out, response, bytes, delivery, &none, false);
            out.extend_from_slice(b"\r\n");
        }
        upstream.buffer.consume(response.len);
        let deadline = worker.coarse_ms.get() + self.listener.timeouts.write_ms;
        self.connection.slot.arm(deadline);
        self.midway.set(true);
        let written = write_head(
            &mut self.connection.stream,
            &out,
            b"",
            &self.connection.slot,
        )
        .await;
        self.midway.set(false);
        self.connection.worker.buffers.give_out(out);
        match written.1 {
            Ok(()) => Ok(()),
            Err(_) => Err(Failure::client(Reason::ClientGone)),
        }
    }
}

/// When an attempt that begins now is over.
pub fn deadline(worker: &Worker, route: &Route, route_deadline: u64) -> u64 {
    match route.retries.per_try_timeout_ms {
        0 => route_deadline,
        limit => route_deadline.min(worker.coarse_ms.get() + limit),
    }
}

/// Whether a body comes slower than allowed, after a grace of one body timeout.
fn too_slow(timeouts: &evenflow_rules::plan::Timeouts, received: u64, elapsed_ms: u64) -> bool {
    elapsed_ms > timeouts.body_ms
        && received * 1000 < u64::from(timeouts.min_body_rate) * (elapsed_ms - timeouts.body_ms)
}

/// Reads until a whole head is buffered.
pub fn poll_head(
    cx: &mut Context<'_>,
    worker: &Worker,
    upstream: &mut Upstream,
    scanned: &mut usize,
    reused: bool,
) -> Poll<Step> {
    let fail = |kind, reason| Poll::Ready(Step::Failed(Failure::new(kind, reason)));
    loop {
        let bytes = upstream.buffer.bytes();
        if !bytes.is_empty() {
            match scan(bytes, *scanned) {
                Ok(Scan::Complete(len)) => return Poll::Ready(Step::Head(len)),
                Ok(Scan::Partial(at)) => *scanned = at,
                Err(detail) => {
                    return fail(ErrorKind::Protocol, Reason::UpstreamProtocol(detail));
                }
            }
            if upstream.buffer.spare().is_empty() {
                upstream.buffer.compact();
                if upstream.buffer.spare().is_empty() {
                    let reason = Reason::UpstreamProtocol("The response head is too large.");
                    return fail(ErrorKind::Protocol, reason);
                }
            }
        } else if upstream.buffer.size() == 0 {
            if upstream.stream.poll_read_ready(cx).is_pending() {
                return Poll::Pending;
            }
            upstream.buffer = worker.buffers.take(BODY_BYTES);
        }
        match upstream.stream.poll_read(cx, upstream.buffer.spare()) {
            Poll::Pending => {
                if upstream.buffer.is_empty() {
                    // No buffer is held while the endpoint is silent.
                    worker.buffers.give(std::mem::take(&mut upstream.buffer));
                }
                return Poll::Pending;
            }
            Poll::Ready(Ok(count)) if count > 0 => upstream.buffer.end += count,
            Poll::Ready(ended) => {
                let untouched =
                    ended.is_err_and(|error| error.kind() == io::ErrorKind::NotConnected);
                return Poll::Ready(Step::Failed(Failure {
                    unsent: untouched,
                    stale: reused && upstream.buffer.is_empty(),
                    ..Failure::new(ErrorKind::Reset, Reason::UpstreamReset)
                }));
            }
        }
    }
}

/// Writes two slices whole, until the slot's deadline. Answers how much was written, and what
/// stopped it: `None` for the deadline.
pub async fn write_head(
    stream: &mut Stream,
    head: &[u8],
    data: &[u8],
    slot: &crate::timer::Slot,
) -> (usize, Result<(), Option<io::Error>>) {
    let mut written = 0;
    let result = poll_fn(|cx| {
        while written < head.len() + data.len() {
            let head_part = &head[written.min(head.len())..];
            let data_part = &data[written.saturating_sub(head.len())..];
            let both = [IoSlice::new(head_part), IoSlice::new(data_part)];
            let slices = match (head_part.is_empty(), data_part.is_empty()) {
                (true, _) => &both[1..],
                (_, true) => &both[..1],
                _ => &both[..],
            };
            match stream.poll_write_vectored(cx, slices) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(Some(io::ErrorKind::WriteZero.into())));
                }
                Poll::Ready(Ok(count)) => written += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Some(error))),
                Poll::Pending if slot.fired() => return Poll::Ready(Err(None)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    })
    .await;
    (written, result)
}
