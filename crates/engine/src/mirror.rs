//! Copies of requests for a pool whose answers nobody sees.
//!
//! A copy is sent when the client has its answer, by a task of its own that shares nothing with the
//! client's connection, so whatever becomes of it changes nothing for the client. Connections to the
//! mirror's endpoints are kept and used again as those of requests are.

use std::future::poll_fn;
use std::io::IoSlice;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use evenflow_rules::picker::Tried;
use evenflow_rules::reason::Reason;
use evenflow_rules::table::Route;
use evenflow_state::stats::ErrorKind;
use evenflow_wire::http1::body::Decoder;
use evenflow_wire::http1::encode::{self, Origin, UpstreamTarget};
use evenflow_wire::http1::head::{Length, ResponseHead};
use evenflow_wire::proxy_protocol::AddressPair;

use crate::attempt::{ENDLESS, Failure, MAX_INTERIM, Step, Upstream, poll_head};
use crate::buffer::BODY_BYTES;
use crate::connection::Connection;
use crate::exchange::{RequestContext, is_idempotent};
use crate::lease::{self, Lease};
use crate::request_body::RequestBody;
use crate::stream::Stream;
use crate::upstream::reach;
use crate::worker::{Scratch, Worker};

/// The most bytes of an answer that are read.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Sends a copy of the request if the route has a mirror and it is this request's turn.
pub fn send(
    connection: &Connection,
    scratch: &Scratch,
    context: &RequestContext<'_>,
    (index, route): (usize, &Route),
    origin: &Origin<'_>,
    body: &mut RequestBody,
) {
    let Some(mirror) = &route.mirror else {
        return;
    };
    if mirror.share < 1.0 && fastrand::f64() >= mirror.share {
        return;
    }
    let worker = &connection.worker;
    let uid = route.uid;
    let happened = |what| worker.stats.borrow_mut().happened(uid, what);
    if worker.mirrored.get() >= mirror.max_in_flight || !body.is_whole() {
        happened("mirror_skipped");
        return;
    }
    let head = &scratch.request;
    let client = origin.client;
    let hash = lease::choice_hash(&context.table.pools[mirror.pool], head, connection, client);
    let tried = Tried::default();
    let Ok(lease) = lease::try_acquire(worker, context.table, mirror.pool, hash, &tried) else {
        happened("mirror_failed");
        return;
    };
    let base = connection.buffer.bytes();
    let mut request = Vec::with_capacity(head.len + 512);
    let target = route.rewritten(head, base);
    let aim = UpstreamTarget {
        authority: lease.member().endpoint.authority(),
        target: target.as_deref(),
        host: route.rewritten_host(),
        http2: false,
    };
    let edit = &context.listener.edits[index].request;
    // Nobody could talk on with what it switched to.
    let origin = Origin {
        upgrade: false,
        ..*origin
    };
    encode::request_head(&mut request, head, base, &origin, &aim, edit);
    let data = body.first(&connection.buffer, &mut request);
    request.extend_from_slice(data);
    let method = head.method.get(base);
    let copy = Copy {
        worker: Rc::clone(worker),
        request,
        // Only a PROXY header tells them; asking costs two system calls.
        ends: lease.pool().send_proxy.and_then(|_| connection.ends()),
        head_request: method == b"HEAD",
        idempotent: is_idempotent(method),
    };
    let patience = Duration::from_millis(mirror.timeout_ms);
    worker.mirrored.update(|copies| copies + 1);
    tokio::task::spawn_local(async move {
        let worker = &copy.worker;
        let answered = tokio::time::timeout(patience, copy.run(&lease)).await;
        let what = match answered {
            Ok(Ok(status)) if status < 500 => {
                lease.succeeded(worker);
                "mirror_answered"
            }
            outcome => {
                let failure = match outcome {
                    Ok(Ok(_)) => Failure::status(),
                    Ok(Err(failure)) => failure,
                    Err(_) => Failure::new(ErrorKind::Timeout, Reason::UpstreamTimeout),
                };
                // A kept connection that died: no verdict on the endpoint.
                if !failure.stale {
                    lease.failed(worker, failure.kind, failure.reason);
                }
                "mirror_failed"
            }
        };
        worker.stats.borrow_mut().happened(uid, what);
        worker.mirrored.update(|copies| copies - 1);
    });
}

/// A copy on its way.
struct Copy {
    worker: Rc<Worker>,
    request: Vec<u8>,
    ends: Option<AddressPair>,
    head_request: bool,
    idempotent: bool,
}

impl Copy {
    /// Sends the copy and reads the answer to its end, on a kept connection first and then on a new
    /// one; the answer's status.
    async fn run(&self, lease: &Lease) -> Result<u16, Failure> {
        let worker = &self.worker;
        let member = lease.member();
        let made = member.made();
        let mut kept = lease.kept(worker, made, false);
        loop {
            let reused = kept.is_some();
            let stream = match kept.take() {
                Some(stream) => stream,
                None => self.connect(lease).await?,
            };
            let mut upstream = Upstream::new(stream, made);
            let answered = self.exchange(&mut upstream, reused).await;
            let failure = match answered {
                Ok((status, reusable)) => {
                    worker.buffers.give(std::mem::take(&mut upstream.buffer));
                    if reusable {
                        upstream.keep(worker, lease);
                    }
                    return Ok(status);
                }
                Err(failure) => failure,
            };
            worker.buffers.give(upstream.buffer);
            if failure.stale {
                // Its siblings are likely dead too.
                worker.idle.forget(member.endpoint.uid);
            }
            if !failure.stale || !(failure.unsent || self.idempotent) {
                return Err(failure);
            }
        }
    }

    async fn connect(&self, lease: &Lease) -> Result<Stream, Failure> {
        let worker = &self.worker;
        let slot = worker.timer.own_slot().await;
        slot.arm(worker.coarse_ms.get() + lease.member().connect_timeout_ms);
        let reached = reach(worker, lease, || self.ends, &slot, false).await;
        reached.map_err(|reason| Failure::new(ErrorKind::Connect, reason))
    }

    /// Sends the request and reads the answer; its status, and whether the connection is of further
    /// use.
    async fn exchange(
        &self,
        upstream: &mut Upstream,
        mut reused: bool,
    ) -> Result<(u16, bool), Failure> {
        let worker = &self.worker;
        let mut response = ResponseHead::default();
        let mut sent = 0;
        let mut broken = false;
        for _ in 0..=MAX_INTERIM {
            let mut scanned = 0;
            let step = poll_fn(|cx| {
                while sent < self.request.len() && !broken {
                    let slice = [IoSlice::new(&self.request[sent..])];
                    match upstream.stream.poll_write_vectored(cx, &slice) {
                        Poll::Ready(Ok(count)) if count > 0 => sent += count,
                        // It may have answered before it closed.
                        Poll::Ready(_) => broken = true,
                        Poll::Pending => break,
                    }
                }
                poll_head(cx, worker, upstream, &mut scanned, reused)
            });
            let len = match step.await {
                Step::Head(len) => len,
                Step::Failed(failure) => {
                    let unsent = failure.unsent || sent == 0;
                    return Err(Failure { unsent, ..failure });
                }
            };
            let parsed = response.parse(&upstream.buffer.bytes()[..len], self.head_request);
            parsed.map_err(protocol)?;
            upstream.buffer.consume(len);
            reused = false;
            match response.status {
                101 => return Err(protocol("The mirror switched protocols unasked.")),
                ..200 => {}
                status => {
                    let whole = self.read_body(upstream, response.length).await?;
                    let all_sent = sent == self.request.len() && !broken;
                    return Ok((status, whole && all_sent && response.keep_alive));
                }
            }
        }
        Err(Failure::new(ErrorKind::Protocol, ENDLESS))
    }

    /// Reads an answer's body; whether it came to its end with nothing behind it. Of a very large one
    /// the rest is left.
    async fn read_body(&self, upstream: &mut Upstream, length: Length) -> Result<bool, Failure> {
        let mut decoder = Decoder::new(length);
        let mut received = 0;
        loop {
            let used = decoder.decode(upstream.buffer.bytes_mut());
            let used = used.map_err(protocol)?.used;
            upstream.buffer.consume(used);
            received += used;
            if decoder.is_done() {
                return Ok(upstream.buffer.is_empty() && length != Length::UntilClose);
            }
            if received > MAX_ANSWER {
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
            match poll_fn(|cx| stream.poll_read(cx, buffer.spare())).await {
                Ok(count) if count > 0 => buffer.end += count,
                _ if decoder.close() => return Ok(false),
                _ => return Err(Failure::new(ErrorKind::Reset, Reason::UpstreamReset)),
            }
        }
    }
}

fn protocol(detail: &'static str) -> Failure {
    Failure::new(ErrorKind::Protocol, Reason::UpstreamProtocol(detail))
}
