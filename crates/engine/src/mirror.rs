//! Copies of requests for a pool whose answers nobody sees.
//!
//! A copy is sent when the client has its answer, by a task of its own and over a connection of its
//! own, so whatever becomes of it changes nothing for the client.

use std::rc::Rc;
use std::time::Duration;

use crate::connection::Connection;
use crate::error::Reason;
use crate::exchange::Way;
use crate::http1::encode::{self, Aim, Origin};
use crate::http1::head::ResponseHead;
use crate::lease::{self, Lease};
use crate::picker::Tried;
use crate::proxy_protocol::Ends;
use crate::request_body::RequestBody;
use crate::stats::ErrorKind;
use crate::table::Route;
use crate::upstream::reach;
use crate::worker::{Scratch, Worker};

/// The most bytes of an answer that are read.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// A route's mirror.
#[derive(Debug)]
pub struct Mirror {
    /// The pool's number.
    pub pool: usize,
    /// Of the requests.
    pub share: f64,
    /// Copies under way at once in one worker.
    pub max_in_flight: u32,
    /// One copy until the end of its answer.
    pub timeout_ms: u64,
}

/// Sends a copy of the request if the route has a mirror and it is this request's turn.
pub fn send(
    connection: &Connection,
    scratch: &Scratch,
    way: &Way<'_>,
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
    let hash = lease::choice_hash(&way.table.pools[mirror.pool], head, connection, client);
    let tried = Tried::default();
    let Ok(lease) = lease::try_acquire(worker, way.table, mirror.pool, hash, &tried) else {
        happened("mirror_failed");
        return;
    };
    let base = connection.buffer.bytes();
    let mut request = Vec::with_capacity(head.len + 512);
    let target = route.rewritten(head, base);
    let aim = Aim {
        authority: lease.member().endpoint.authority(),
        target: target.as_deref(),
        host: route.rewritten_host(),
    };
    let edit = &way.listener.edits[index].request;
    encode::request_head(&mut request, head, base, origin, &aim, edit);
    // One answer only: its end is the connection's.
    request.truncate(request.len() - 2);
    request.extend_from_slice(b"connection: close\r\n\r\n");
    let data = body.first(&connection.buffer, &mut request);
    request.extend_from_slice(data);
    let worker = Rc::clone(worker);
    let ends = connection.ends();
    let patience = Duration::from_millis(mirror.timeout_ms);
    worker.mirrored.update(|copies| copies + 1);
    tokio::task::spawn_local(async move {
        let copied = tokio::time::timeout(patience, copy(&worker, &lease, ends, &request)).await;
        let what = match copied {
            Ok(Ok(status)) if status < 500 => {
                lease.succeeded(&worker);
                "mirror_answered"
            }
            outcome => {
                let (kind, reason) = match outcome {
                    Ok(Ok(_)) => (ErrorKind::Status, Reason::UpstreamReset),
                    Ok(Err(())) => (ErrorKind::Reset, Reason::UpstreamReset),
                    Err(_) => (ErrorKind::Timeout, Reason::UpstreamTimeout),
                };
                lease.failed(&worker, kind, reason);
                "mirror_failed"
            }
        };
        worker.stats.borrow_mut().happened(uid, what);
        worker.mirrored.update(|copies| copies - 1);
    });
}

/// Sends the copy and reads the answer to its end; its status.
async fn copy(
    worker: &Worker,
    lease: &Lease,
    ends: Option<Ends>,
    request: &[u8],
) -> Result<u16, ()> {
    let slot = worker.timer.slot();
    slot.arm(worker.coarse_ms.get() + lease.member().connect_timeout_ms);
    let mut stream = reach(worker, lease, || ends, &slot).await.map_err(|_| ())?;
    let mut sent = 0;
    let mut answer = Vec::with_capacity(4096);
    let mut received = 0;
    let mut chunk = vec![0; 16 * 1024];
    std::future::poll_fn(|cx| {
        use std::task::Poll;
        while sent < request.len() {
            let slice = [std::io::IoSlice::new(&request[sent..])];
            match stream.poll_write_vectored(cx, &slice) {
                Poll::Ready(Ok(count)) if count > 0 => sent += count,
                // It may have answered before it closed.
                Poll::Ready(_) => sent = request.len(),
                Poll::Pending => break,
            }
        }
        loop {
            match stream.poll_read(cx, &mut chunk) {
                Poll::Ready(Ok(count)) if count > 0 && received < MAX_ANSWER => {
                    received += count;
                    if answer.len() < 32 * 1024 {
                        answer.extend_from_slice(&chunk[..count]);
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
    let end = memchr::memmem::find(&answer, b"\r\n\r\n").ok_or(())?;
    let mut head = ResponseHead::default();
    head.parse(&answer[..end + 4], true).map_err(|_| ())?;
    Ok(head.status)
}
