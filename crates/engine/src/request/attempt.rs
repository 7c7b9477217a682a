//! One attempt to have a client's request answered by one endpoint: a call whose caller is the
//! client's connection. The rest of the request's body is sent while the answer is awaited, and
//! interim answers are passed on.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use evenflow_rules::filters::Edits;
use evenflow_rules::reason::Reason;
use evenflow_rules::retry::Cause;
use evenflow_rules::table::{Listener, Route};
use evenflow_wire::edit::Edit;
use evenflow_wire::http1::encode::{self, Delivery, Origin, UpstreamTarget};
use evenflow_wire::http1::head::{RequestHead, ResponseHead, agrees};
use evenflow_wire::proxy_protocol::AddressPair;

use crate::call::{Call, Caller, Failure, Upstream};
use crate::connection::{Client, Connection};
use crate::lease::Lease;
use crate::relay::{Broken, Waiting};
use crate::request_body::RequestBody;
use crate::stream::Stream;
use crate::timer::Slot;
use crate::write::write_all;

/// What an attempt works with.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// The client's side.
    pub connection: &'a mut Connection,
    /// The request.
    pub request: &'a RequestHead,
    /// Its body.
    pub body: &'a mut RequestBody,
    /// Header lines for the endpoint that filters add.
    pub request_lines: &'a [u8],
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
    /// When the route's time is over, on the engine's clock.
    pub route_deadline: u64,
    /// No kept connection is used.
    pub afresh: bool,
    /// The client has a part of an interim answer: nobody else may write to it now.
    pub midway: &'a Cell<bool>,
    /// What the deadline was last set for, and how the body stood then.
    pub progress: Option<Progress>,
}

/// How a body stands while the answer is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The client is waited for, and not the endpoint.
    from_client: bool,
    /// Bytes received and bytes sent.
    moved: u64,
    /// When the wait began.
    since: u64,
}

impl Attempt<'_> {
    /// Runs the attempt. The head of the answer is in `response` and still in the upstream's buffer.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn run(&mut self, response: &mut ResponseHead) -> Result<Upstream, Failure> {
        let worker = Rc::clone(&self.connection.worker);
        self.progress = None;
        let call = Call {
            worker: &worker,
            lease: self.lease,
            ends: self.client_ends(),
            switching: self.origin.upgrade && self.request.upgrade.is_some(),
            afresh: self.afresh,
            head_request: self.method() == b"HEAD",
            deadline: self.route_deadline,
            per_try_ms: self.route.retries.per_try_timeout_ms,
        };
        call.run(self, response).await
    }

    /// The request's method.
    pub fn method(&self) -> &[u8] {
        self.request.method.get(self.connection.buffer.bytes())
    }

    /// Appends the request's head as this endpoint gets it, by HTTP/2 or not.
    pub fn push_head(&self, out: &mut Vec<u8>, http2: bool) {
        encode::request_head(
            out,
            self.request,
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
        encode::insert_lines(out, self.request_lines);
    }

    /// The client's connection as a PROXY header tells it, where the pool sends one: the client is
    /// whom trusted proxies name. Asking for its ends costs two system calls.
    pub fn client_ends(&self) -> Option<AddressPair> {
        self.lease.pool().send_proxy?;
        let ends = self.connection.ends()?;
        Some(match self.origin.client {
            Some(client) if client != ends.source.ip().to_canonical() => AddressPair {
                source: SocketAddr::new(client, 0),
                ..ends
            },
            _ => ends,
        })
    }

    /// Whether the next byte of the body must come from the client.
    fn awaits_client(&self) -> bool {
        !self.body.is_done() && self.body.waiting() == Waiting::Read
    }
}

impl Caller for Attempt<'_> {
    fn slot(&self) -> &Slot {
        &self.connection.slot
    }

    fn split(&mut self) -> (&Slot, Client<'_>) {
        self.connection.split()
    }

    fn prepare(&mut self, out: &mut Vec<u8>, http2: bool) {
        self.push_head(out, http2);
        self.body.begin(&self.connection.buffer, out);
    }

    fn data(&self) -> &[u8] {
        self.body.first(&self.connection.buffer)
    }

    /// Sends the rest of the body and watches the client.
    fn poll_beside(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        until: u64,
    ) -> Poll<Failure> {
        let gone = Failure::client(Reason::ClientGone);
        if !self.body.is_done()
            && let Poll::Ready(Err(broken)) = self.body.poll(cx, self.connection, stream)
        {
            return Poll::Ready(match broken {
                Broken::Framing(detail) => Failure::client(Reason::BadRequest(detail)),
                Broken::TooLarge => Failure::client(Reason::BodyTooLarge),
                Broken::Truncated | Broken::Read | Broken::Write => gone,
            });
        }
        let from_client = self.awaits_client();
        if !from_client && self.connection.poll_client_gone(cx).is_ready() {
            return Poll::Ready(gone);
        }
        let now = self.connection.worker.coarse_ms.get();
        let moved = self.body.received() + self.body.streamed();
        let since = self.progress.map_or(now, |progress| progress.since);
        let timeouts = &self.listener.timeouts;
        if from_client && too_slow(timeouts, self.body.received(), now.saturating_sub(since)) {
            return Poll::Ready(Failure::client(Reason::BodyTimeout));
        }
        let progress = Some(Progress {
            from_client,
            moved,
            since,
        });
        if self.progress != progress {
            self.progress = progress;
            let patience = if from_client {
                timeouts.body_ms
            } else {
                self.lease.member().first_byte_timeout_ms
            };
            self.connection.slot.arm((now + patience).min(until));
        }
        Poll::Pending
    }

    fn timed_out(&self) -> Failure {
        if self.awaits_client() {
            Failure::client(Reason::BodyTimeout)
        } else {
            Failure::new(Cause::Timeout, Reason::UpstreamTimeout)
        }
    }

    /// Whether this answer is the switch of protocols that was asked for.
    fn may_switch(&self, response: &ResponseHead, bytes: &[u8]) -> bool {
        let base = self.connection.buffer.bytes();
        let asked = self.request.upgrade.filter(|_| self.origin.upgrade);
        match (asked, response.upgrade) {
            (Some(asked), Some(chosen)) => agrees(asked.get(base), chosen.get(bytes)),
            _ => false,
        }
    }

    /// Passes a 1xx answer on to a client that understands it.
    async fn interim(&mut self, response: &ResponseHead, bytes: &[u8]) -> Result<(), Failure> {
        self.progress = None;
        let wanted = response.status != 100 || self.request.expects_continue;
        if self.request.version_10 || !wanted {
            return Ok(());
        }
        let Connection {
            worker,
            stream,
            slot,
            ..
        } = &mut *self.connection;
        let mut out = worker.buffers.take_out();
        let delivery = Delivery {
            version_10: false,
            keep_alive: true,
            chunked: false,
        };
        encode::response_head(&mut out, response, bytes, delivery, &Edit::default(), false);
        out.extend_from_slice(b"\r\n");
        slot.arm(worker.coarse_ms.get() + self.listener.timeouts.write_ms);
        self.midway.set(true);
        let written = write_all(stream, &out, slot).await;
        self.midway.set(false);
        worker.buffers.give_out(out);
        written.map_err(|_| Failure::client(Reason::ClientGone))
    }
}

/// Whether a body comes slower than allowed, after a grace of one body timeout.
fn too_slow(timeouts: &evenflow_rules::plan::Timeouts, received: u64, elapsed_ms: u64) -> bool {
    let late_ms = elapsed_ms.saturating_sub(timeouts.body_ms);
    late_ms > 0 && received * 1000 < u64::from(timeouts.min_body_rate) * late_ms
}
