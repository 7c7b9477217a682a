//! Copies of requests for a pool whose answers nobody sees.
//!
//! A copy is sent when the client has its answer, by a task of its own that shares nothing with the
//! client's connection, so whatever becomes of it changes nothing for the client. Connections to the
//! mirror's endpoints are kept and used again as those of requests are.

use std::rc::Rc;

use evenflow_rules::picker::Tried;
use evenflow_rules::reason::Reason;
use evenflow_rules::table::Route;
use evenflow_state::stats::ErrorKind;
use evenflow_wire::http1::encode::{self, Origin, UpstreamTarget};
use evenflow_wire::http1::head::ResponseHead;
use evenflow_wire::proxy_protocol::AddressPair;

use crate::call::{Call, Caller, Failure};
use crate::connection::{Client, Connection};
use crate::exchange::RequestContext;
use crate::forward::is_idempotent;
use crate::lease::{self, Lease};
use crate::request_body::RequestBody;
use crate::timer::Slot;
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
    let edit = &context.listener.chains[index].edits.request;
    // Nobody could talk on with what it switched to.
    let origin = Origin {
        upgrade: false,
        ..*origin
    };
    encode::request_head(&mut request, head, base, &origin, &aim, edit);
    encode::insert_lines(&mut request, &scratch.filter_context.request_lines);
    body.begin(&connection.buffer, &mut request);
    request.extend_from_slice(body.first(&connection.buffer));
    let method = head.method.get(base);
    let copy = Copy {
        place: Place::take(worker),
        request,
        // Only a PROXY header tells them; asking costs two system calls.
        ends: lease.pool().send_proxy.and_then(|_| connection.ends()),
        head_request: method == b"HEAD",
        idempotent: is_idempotent(method),
        deadline: worker.coarse_ms.get() + mirror.timeout_ms,
    };
    tokio::task::spawn_local(async move {
        let worker = &copy.place.0;
        let what = match copy.run(&lease).await {
            Ok(status) if status < 500 => {
                lease.succeeded(worker);
                "mirror_answered"
            }
            Ok(_) => {
                lease.failed(worker, ErrorKind::Status, Reason::UpstreamReset);
                "mirror_failed"
            }
            Err(failure) => {
                lease.failed(worker, failure.kind(), failure.reason);
                "mirror_failed"
            }
        };
        worker.stats.borrow_mut().happened(uid, what);
    });
}

/// A place among the copies under way, given back however the copy ends.
struct Place(Rc<Worker>);

impl Place {
    fn take(worker: &Rc<Worker>) -> Self {
        worker.mirrored.update(|copies| copies + 1);
        Self(Rc::clone(worker))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.mirrored.update(|copies| copies - 1);
    }
}

/// A copy on its way.
struct Copy {
    place: Place,
    request: Vec<u8>,
    ends: Option<AddressPair>,
    head_request: bool,
    idempotent: bool,
    deadline: u64,
}

impl Copy {
    /// Sends the copy and reads the answer to its end; the answer's status.
    async fn run(&self, lease: &Lease) -> Result<u16, Failure> {
        let worker = &self.place.0;
        let mut response = ResponseHead::default();
        let mut sender = Sender {
            request: &self.request,
            slot: worker.timer.own_slot().await,
        };
        let mut call = Call {
            worker,
            lease,
            ends: self.ends,
            switching: false,
            afresh: false,
            head_request: self.head_request,
            deadline: self.deadline,
            per_try_ms: 0,
        };
        let answered = call.run_here(&mut sender, &mut response, self.idempotent);
        let mut upstream = answered.await?;
        upstream.buffer.consume(response.len);
        sender.slot.arm(self.deadline);
        let mut head = response;
        head.keep_alive &= upstream.sent == self.request.len() as u64;
        call.drain(upstream, &mut sender, &head, MAX_ANSWER).await?;
        Ok(head.status)
    }
}

/// A copy's side of its call: nobody waits for it.
struct Sender<'a> {
    request: &'a [u8],
    slot: Slot,
}

impl Caller for Sender<'_> {
    fn slot(&self) -> &Slot {
        &self.slot
    }

    fn split(&mut self) -> (&Slot, Client<'_>) {
        (&self.slot, Client::NONE)
    }

    fn prepare(&mut self, _out: &mut Vec<u8>, _http2: bool) {}

    fn data(&self) -> &[u8] {
        self.request
    }
}
