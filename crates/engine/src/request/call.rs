//! One call: a connection to an endpoint, kept or new, the request sent on it, and the head of the
//! answer awaited. Attempts, retries, hedges, mirrors and sub-requests are its callers; what differs
//! between them is behind [`Caller`].

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Instant;

use evenflow_rules::member::ConnectionVersion;
use evenflow_rules::reason::Reason;
use evenflow_rules::retry::{
    AttemptOutcome, Cause, NextAttempt, RetriedRequest, RetryRules, judge,
};
use evenflow_state::stats::ErrorKind;
use evenflow_wire::http1::body::Decoder;
use evenflow_wire::http1::head::{Length, ResponseHead, Scan, scan};
use evenflow_wire::proxy_protocol::AddressPair;

use crate::buffer::{BODY_BYTES, Buffer};
use crate::connection::Client;
use crate::lease::Lease;
use crate::stream::Stream;
use crate::timer::Slot;
use crate::upstream::reach;
use crate::worker::Worker;
use crate::write::poll_write_all;

/// The most 1xx answers that are passed on before an answer must come.
const MAX_INTERIM: usize = 32;
/// What is wrong with an endpoint that sends more.
const ENDLESS: Reason = Reason::UpstreamProtocol("The backend sends interim answers without end.");
/// What is wrong with a request that HTTP/1.1 can say and HTTP/2 cannot.
const CANNOT_SAY: Reason =
    Reason::BadRequest("The request cannot be passed on by HTTP/2, which the backend speaks.");
const UNASKED_SWITCH: Reason =
    Reason::UpstreamProtocol("The backend switched protocols without being asked to.");

/// A connection to an endpoint whose answer has begun.
#[derive(Debug)]
pub struct Upstream {
    /// The socket.
    pub stream: Stream,
    /// The answer's head and what came with it.
    pub buffer: Buffer,
    /// Bytes sent in the first write.
    pub sent: u64,
    /// Bytes of interim answers.
    interim: u64,
    /// How it was made.
    made: ConnectionVersion,
}

impl Upstream {
    /// Keeps the connection for later requests, unless the endpoint has become another meanwhile.
    pub fn keep(self, worker: &Worker, lease: &Lease) {
        lease.keep(worker, self.made, self.stream);
    }

    /// Closes the connection: nobody wants this answer.
    pub fn discard(self, worker: &Worker) {
        worker.buffers.give(self.buffer);
    }
}

/// Why a call brought no answer.
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    /// What happened, for the rule that decides what comes next.
    pub outcome: AttemptOutcome,
    /// What the client is told.
    pub reason: Reason,
}

impl Failure {
    /// A failure of this kind; how far the call had come is added by [`Call::run`].
    pub fn new(cause: Cause, reason: Reason) -> Self {
        Self {
            outcome: AttemptOutcome {
                cause,
                sent: 0,
                received: 0,
                kept: false,
            },
            reason,
        }
    }

    /// An answer that had begun broke off after so many bytes.
    pub fn answering(cause: Cause, reason: Reason, sent: u64, received: u64) -> Self {
        let mut failure = Self::new(cause, reason);
        (failure.outcome.sent, failure.outcome.received) = (sent, received);
        failure
    }

    /// The client is to blame.
    pub fn client(reason: Reason) -> Self {
        Self::new(Cause::Client, reason)
    }

    /// The answer is not valid.
    pub fn protocol(detail: &'static str) -> Self {
        Self::new(Cause::Protocol, Reason::UpstreamProtocol(detail))
    }

    /// What the endpoint is charged with.
    pub fn kind(&self) -> ErrorKind {
        match self.outcome.cause {
            Cause::Connect | Cause::NoSocket => ErrorKind::Connect,
            Cause::Timeout | Cause::Deadline => ErrorKind::Timeout,
            Cause::Status => ErrorKind::Status,
            Cause::Protocol => ErrorKind::Protocol,
            Cause::Closed
            | Cause::StreamReset
            | Cause::Refused
            | Cause::Answered
            | Cause::Client => ErrorKind::Reset,
        }
    }
}

/// Who makes a call: what is sent, and what else happens while the answer is awaited.
pub trait Caller {
    /// The deadline of what is waited for.
    fn slot(&self) -> &Slot;

    /// The deadline, and the client whose leaving ends the call.
    fn split(&mut self) -> (&Slot, Client<'_>);

    /// Appends the request's head as this endpoint gets it, by HTTP/2 or not, and what of the body
    /// must be framed.
    fn prepare(&mut self, out: &mut Vec<u8>, http2: bool);

    /// What of the body goes with the head, from where it is.
    fn data(&self) -> &[u8] {
        b""
    }

    /// Goes on with what happens beside the wait: ready when that ends the call. `until` is when
    /// the call must be over.
    fn poll_beside(
        &mut self,
        cx: &mut Context<'_>,
        _stream: &mut Stream,
        _until: u64,
    ) -> Poll<Failure> {
        self.split()
            .1
            .poll_gone(cx)
            .map(|()| Failure::client(Reason::ClientGone))
    }

    /// What it means that the slot's time is over.
    fn timed_out(&self) -> Failure {
        Failure::new(Cause::Timeout, Reason::UpstreamTimeout)
    }

    /// Whether a switch of protocols is what was asked for.
    fn may_switch(&self, _response: &ResponseHead, _bytes: &[u8]) -> bool {
        false
    }

    /// Passes an interim answer on.
    fn interim(
        &mut self,
        _response: &ResponseHead,
        _bytes: &[u8],
    ) -> impl Future<Output = Result<(), Failure>> {
        std::future::ready(Ok(()))
    }
}

/// A call to be made.
#[derive(Debug)]
pub struct Call<'a> {
    /// Whose connections are used.
    pub worker: &'a Worker,
    /// The endpoint.
    pub lease: &'a Lease,
    /// Both ends of the client's connection, where the pool sends a PROXY header.
    pub ends: Option<AddressPair>,
    /// Asks for a connection that can switch protocols.
    pub switching: bool,
    /// Takes no kept connection.
    pub afresh: bool,
    /// It was a HEAD.
    pub head_request: bool,
    /// When everything must be over.
    pub deadline: u64,
    /// How long it may take once there is a connection; 0 sets no bound.
    pub per_try_ms: u64,
}

impl Call<'_> {
    /// Makes the call. The answer's head is in `response`, and its bytes are still in the upstream's
    /// buffer.
    ///
    /// # Errors
    /// Why no answer came, and how far the call had come.
    pub async fn run<C: Caller>(
        &self,
        caller: &mut C,
        response: &mut ResponseHead,
    ) -> Result<Upstream, Failure> {
        let started = Instant::now();
        let made = self.lease.member().made();
        let kept = if self.afresh {
            None
        } else {
            self.lease.kept(self.worker, made, self.switching)
        };
        let was_kept = kept.is_some();
        let stream = match kept {
            Some(stream) => stream,
            None => Box::pin(self.connect(caller)).await?,
        };
        let mut upstream = Upstream {
            stream,
            buffer: Buffer::default(),
            sent: 0,
            interim: 0,
            made,
        };
        match self.exchange(&mut upstream, caller, response).await {
            Ok(()) => {
                self.observe(started);
                Ok(upstream)
            }
            Err(mut failure) => {
                if matches!(failure.outcome.cause, Cause::Timeout | Cause::Deadline) {
                    upstream.stream.note_timeout();
                }
                failure.outcome.kept = was_kept;
                failure.outcome.sent = upstream.sent;
                failure.outcome.received = upstream.interim + upstream.buffer.bytes().len() as u64;
                self.worker.buffers.give(upstream.buffer);
                Err(failure)
            }
        }
    }

    /// Makes the call, and once more on a new connection where a kept one proves dead and the
    /// request may be sent again: for callers that go to one endpoint alone.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_here<C: Caller>(
        &mut self,
        caller: &mut C,
        response: &mut ResponseHead,
        idempotent: bool,
    ) -> Result<Upstream, Failure> {
        let failure = match self.run(caller, response).await {
            Ok(upstream) => return Ok(upstream),
            Err(failure) => failure,
        };
        let request = RetriedRequest {
            idempotent,
            replayable: true,
            attempts: 1,
            replaced: false,
            left_ms: None,
        };
        let verdict = judge(&failure.outcome, &request, &RetryRules::NONE, || true);
        let NextAttempt::Here { .. } = verdict.next else {
            return Err(failure);
        };
        if verdict.held_against {
            self.lease
                .failed(self.worker, failure.kind(), failure.reason);
        }
        // Those kept beside it are likely dead too.
        self.worker.idle.forget(self.lease.member().endpoint.uid);
        self.afresh = true;
        self.run(caller, response).await
    }

    /// Reads the answer's body to its end and throws it away; the connection is kept if it is of
    /// further use. Of a body beyond `max` bytes the rest is left.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn drain<C: Caller>(
        &self,
        mut upstream: Upstream,
        caller: &mut C,
        response: &ResponseHead,
        max: usize,
    ) -> Result<(), Failure> {
        let drained = self.read_body(&mut upstream, caller, response.length, max);
        let whole = drained.await;
        self.worker
            .buffers
            .give(std::mem::take(&mut upstream.buffer));
        if whole? && response.keep_alive {
            upstream.keep(self.worker, self.lease);
        }
        Ok(())
    }

    /// Whether a body came to its end with nothing behind it.
    async fn read_body<C: Caller>(
        &self,
        upstream: &mut Upstream,
        caller: &mut C,
        length: Length,
        max: usize,
    ) -> Result<bool, Failure> {
        let mut decoder = Decoder::new(length);
        let mut received = 0;
        loop {
            let decoded = decoder.decode(upstream.buffer.bytes_mut());
            let used = decoded.map_err(Failure::protocol)?.used;
            upstream.buffer.consume(used);
            received += used;
            if decoder.is_done() {
                return Ok(upstream.buffer.is_empty() && length != Length::UntilClose);
            }
            if received > max {
                return Ok(false);
            }
            if used > 0 && !upstream.buffer.is_empty() {
                continue;
            }
            upstream.buffer.compact();
            if upstream.buffer.size() == 0 {
                upstream.buffer = self.worker.buffers.take(BODY_BYTES);
            }
            let Upstream { stream, buffer, .. } = upstream;
            let read = poll_fn(|cx| match stream.poll_read(cx, buffer.spare()) {
                Poll::Ready(read) => Poll::Ready(Ok(read)),
                Poll::Pending if caller.slot().fired() => Poll::Ready(Err(caller.timed_out())),
                Poll::Pending => {
                    let gone = caller.split().1.poll_gone(cx);
                    gone.map(|()| Err(Failure::client(Reason::ClientGone)))
                }
            });
            match read.await? {
                Ok(count) if count > 0 => buffer.end += count,
                _ if decoder.close() => return Ok(false),
                _ => return Err(Failure::new(Cause::Closed, Reason::UpstreamReset)),
            }
        }
    }

    /// Notes how long the endpoint took to begin its answer.
    fn observe(&self, started: Instant) {
        let latency = started.elapsed();
        self.lease.answered_after(latency);
        let endpoint = &self.lease.member().endpoint;
        let mut stats = self.worker.stats.borrow_mut();
        let stats = stats.endpoint(endpoint.uid);
        stats.first_byte.record(latency.as_nanos() as u64);
        endpoint.observe_latency(latency.as_secs_f32() * 1000.0, self.worker.coarse_ms.get());
    }

    async fn connect<C: Caller>(&self, caller: &mut C) -> Result<Stream, Failure> {
        let worker = self.worker;
        let (slot, mut client) = caller.split();
        let until = worker.coarse_ms.get() + self.lease.member().connect_timeout_ms;
        slot.arm(until.min(self.deadline));
        let reached = reach(worker, self.lease, || self.ends, slot, self.switching);
        let mut reached = pin!(reached);
        let reached = poll_fn(|cx| match reached.as_mut().poll(cx) {
            Poll::Pending => client.poll_gone(cx).map(|()| Err(Reason::ClientGone)),
            reached @ Poll::Ready(_) => reached,
        });
        let cause = |reason| match reason {
            Reason::ClientGone => Cause::Client,
            Reason::NoSocket => Cause::NoSocket,
            _ => Cause::Connect,
        };
        match reached.await {
            Ok(stream) => Ok(stream),
            Err(_) if self.is_over() => Err(Failure::new(Cause::Deadline, Reason::RouteTimeout)),
            Err(reason) => Err(Failure::new(cause(reason), reason)),
        }
    }

    fn is_over(&self) -> bool {
        self.deadline != u64::MAX && self.worker.coarse_ms.get() >= self.deadline
    }

    /// Sends the request and awaits the answer's head.
    async fn exchange<C: Caller>(
        &self,
        upstream: &mut Upstream,
        caller: &mut C,
        response: &mut ResponseHead,
    ) -> Result<(), Failure> {
        let now = self.worker.coarse_ms.get();
        let until = match self.per_try_ms {
            0 => self.deadline,
            limit => self.deadline.min(now + limit),
        };
        let first_byte_ms = self.lease.member().first_byte_timeout_ms;
        caller.slot().arm((now + first_byte_ms).min(until));
        self.send(upstream, caller).await?;
        for _ in 0..=MAX_INTERIM {
            let len = self.await_head(upstream, caller, until).await?;
            let bytes = upstream.buffer.bytes();
            response
                .parse(&bytes[..len], self.head_request)
                .map_err(Failure::protocol)?;
            match response.status {
                101 if caller.may_switch(response, bytes) => return Ok(()),
                101 => return Err(Failure::new(Cause::Protocol, UNASKED_SWITCH)),
                200.. => return Ok(()),
                _ => {}
            }
            caller.interim(response, bytes).await?;
            upstream.interim += len as u64;
            upstream.buffer.consume(len);
        }
        Err(Failure::new(Cause::Protocol, ENDLESS))
    }

    /// Sends the head and what goes with it.
    async fn send<C: Caller>(
        &self,
        upstream: &mut Upstream,
        caller: &mut C,
    ) -> Result<(), Failure> {
        let mut out = self.worker.buffers.take_out();
        caller.prepare(&mut out, upstream.stream.is_http2());
        let mut written = 0;
        let sent = poll_fn(|cx| {
            let parts = [&out[..], caller.data()];
            match poll_write_all(cx, &mut upstream.stream, parts, &mut written) {
                Poll::Ready(sent) => Poll::Ready(sent.map_err(Some)),
                Poll::Pending if caller.slot().fired() => Poll::Ready(Err(None)),
                // Whoever left is noticed while the answer is awaited.
                Poll::Pending => caller.split().1.poll_gone(cx).map(|()| Ok(())),
            }
        })
        .await;
        self.worker.buffers.give_out(out);
        upstream.sent = written as u64;
        match sent {
            Err(None) if self.is_over() => Err(Failure::new(Cause::Deadline, Reason::RouteTimeout)),
            Err(None) => Err(Failure::new(Cause::Timeout, Reason::UpstreamTimeout)),
            Err(Some(error)) if error.kind() == io::ErrorKind::InvalidInput => {
                Err(Failure::client(CANNOT_SAY))
            }
            Err(Some(_)) if written == 0 => Err(Failure::new(Cause::Closed, Reason::UpstreamReset)),
            // It may have answered before it closed.
            Err(Some(_)) | Ok(()) => Ok(()),
        }
    }

    /// Waits until a whole head is here; its length.
    async fn await_head<C: Caller>(
        &self,
        upstream: &mut Upstream,
        caller: &mut C,
        until: u64,
    ) -> Result<usize, Failure> {
        let mut scanned = 0;
        poll_fn(|cx| {
            if let Poll::Ready(head) = poll_head(cx, self.worker, upstream, &mut scanned) {
                return Poll::Ready(head);
            }
            if let Poll::Ready(ended) = caller.poll_beside(cx, &mut upstream.stream, until) {
                return Poll::Ready(Err(ended));
            }
            if caller.slot().fired() {
                return Poll::Ready(Err(match caller.timed_out() {
                    failure if failure.outcome.cause == Cause::Timeout && self.is_over() => {
                        Failure::new(Cause::Deadline, Reason::RouteTimeout)
                    }
                    failure => failure,
                }));
            }
            Poll::Pending
        })
        .await
    }
}

/// Reads until a whole head is buffered; its length.
fn poll_head(
    cx: &mut Context<'_>,
    worker: &Worker,
    upstream: &mut Upstream,
    scanned: &mut usize,
) -> Poll<Result<usize, Failure>> {
    loop {
        let bytes = upstream.buffer.bytes();
        if !bytes.is_empty() {
            match scan(bytes, *scanned) {
                Ok(Scan::Complete(len)) => return Poll::Ready(Ok(len)),
                Ok(Scan::Partial(at)) => *scanned = at,
                Err(detail) => return Poll::Ready(Err(Failure::protocol(detail))),
            }
            if upstream.buffer.spare().is_empty() {
                upstream.buffer.compact();
                if upstream.buffer.spare().is_empty() {
                    let detail = "The response head is too large.";
                    return Poll::Ready(Err(Failure::protocol(detail)));
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
                let cause = ended.map_or_else(|error| cause_of(&error), |_| Cause::Closed);
                return Poll::Ready(Err(Failure::new(cause, Reason::UpstreamReset)));
            }
        }
    }
}

/// What an error of the endpoint's stream says of the request.
fn cause_of(error: &io::Error) -> Cause {
    match error.kind() {
        io::ErrorKind::NotConnected => Cause::Refused,
        io::ErrorKind::ConnectionAborted => Cause::StreamReset,
        _ => Cause::Closed,
    }
}
