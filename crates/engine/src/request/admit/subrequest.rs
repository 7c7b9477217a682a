//! External authorization: a request of the balancer's own asks a service whether a client's
//! request may pass, as nginx's `auth_request` does.
//!
//! The service sees the fields it is to judge by and where the request is bound for, never its body.

use std::rc::Rc;

use evenflow_rules::filters::Question;
use evenflow_rules::picker::Tried;
use evenflow_rules::reason::Reason;
use evenflow_rules::retry::Cause;
use evenflow_wire::http1::head::ResponseHead;

use crate::buffer::{BODY_BYTES, Buffer};
use crate::call::{Call, Caller, Failure};
use crate::connection::{Client, Connection, origin_of};
use crate::exchange::RequestContext;
use crate::lease::{self, Lease};
use crate::timer::Slot;
use crate::worker::Scratch;

/// A longer answer costs the connection to the service: it is not read.
const READ_BODY: usize = 64 * 1024;

/// The service's answer to the question whether a request may pass; `None` if there is none.
///
/// # Errors
/// The client has left meanwhile.
pub async fn ask(
    connection: &mut Connection,
    scratch: &mut Scratch,
    context: &RequestContext<'_>,
    external: &Question,
) -> Result<Option<(ResponseHead, Buffer)>, Reason> {
    let table = context.table;
    let rules = &external.rules;
    let worker = Rc::clone(&connection.worker);
    let deadline = worker.coarse_ms.get() + rules.timeout_ms;
    let mut out = worker.buffers.take_out();
    let client = {
        let base = connection.buffer.bytes();
        let head = &scratch.request;
        let origin = origin_of(connection, context, head);
        let mut line = |name: &[u8], value: &[u8]| {
            out.extend_from_slice(name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        };
        line(b"x-original-method", head.method.get(base));
        line(b"x-original-uri", head.target.get(base));
        line(b"x-forwarded-method", head.method.get(base));
        line(b"x-forwarded-uri", head.target.get(base));
        line(b"x-forwarded-host", head.host.get(base));
        line(b"x-forwarded-proto", origin.scheme.as_bytes());
        if let Some(client) = origin.client {
            line(b"x-forwarded-for", client.to_string().as_bytes());
        }
        for name in &rules.request_headers {
            for sent in &head.fields {
                if sent.name.get(base).eq_ignore_ascii_case(name.as_bytes()) {
                    line(name.as_bytes(), sent.value.get(base));
                }
            }
        }
        out.extend_from_slice(b"\r\n");
        origin.client
    };
    let hash = lease::choice_hash(
        &table.pools[external.pool],
        &scratch.request,
        connection,
        client,
    );
    let leased = lease::acquire(
        connection,
        table,
        external.pool,
        (hash, None),
        &Tried::default(),
        deadline,
    )
    .await;
    let answer = match leased {
        Ok(lease) => {
            let asked = exchange(connection, &lease, &rules.path, &out, deadline).await;
            match &asked {
                Ok(_) => lease.succeeded(&worker),
                Err(failure) if failure.outcome.cause == Cause::Client => {
                    return Err(Reason::ClientGone);
                }
                Err(failure) => lease.failed(&worker, failure.kind(), failure.reason),
            }
            asked.ok()
        }
        Err(Reason::ClientGone) => return Err(Reason::ClientGone),
        Err(_) => None,
    };
    worker.buffers.give_out(out);
    Ok(answer)
}

/// A sub-request's side of its call: the client waits for it.
struct Asking<'a> {
    connection: &'a mut Connection,
    question: &'a [u8],
}

impl Caller for Asking<'_> {
    fn slot(&self) -> &Slot {
        &self.connection.slot
    }

    fn split(&mut self) -> (&Slot, Client<'_>) {
        self.connection.split()
    }

    fn prepare(&mut self, out: &mut Vec<u8>, _http2: bool) {
        out.extend_from_slice(self.question);
    }
}

/// Sends the question and reads the answer.
async fn exchange(
    connection: &mut Connection,
    lease: &Lease,
    path: &str,
    lines: &[u8],
    deadline: u64,
) -> Result<(ResponseHead, Buffer), Failure> {
    let worker = Rc::clone(&connection.worker);
    let endpoint = &lease.member().endpoint;
    let mut question = Vec::with_capacity(128 + path.len() + lines.len());
    question.extend_from_slice(b"GET ");
    question.extend_from_slice(path.as_bytes());
    question.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    question.extend_from_slice(endpoint.authority().as_bytes());
    question.extend_from_slice(b"\r\n");
    question.extend_from_slice(lines);
    let mut call = Call {
        worker: &worker,
        lease,
        ends: lease.pool().send_proxy.and_then(|_| connection.ends()),
        switching: false,
        afresh: false,
        head_request: false,
        deadline,
        per_try_ms: 0,
    };
    let mut response = ResponseHead::default();
    let mut asking = Asking {
        connection,
        question: &question,
    };
    let mut upstream = call.run_here(&mut asking, &mut response, true).await?;
    let head = std::mem::take(&mut upstream.buffer);
    let begun = &head.bytes()[response.len..];
    if !begun.is_empty() {
        upstream.buffer = worker.buffers.take(BODY_BYTES);
        upstream.buffer.extend(begun);
    }
    asking.connection.slot.arm(deadline);
    match call
        .drain(upstream, &mut asking, &response, READ_BODY)
        .await
    {
        Err(failure) if failure.outcome.cause == Cause::Client => Err(failure),
        // The answer stands, whatever became of its body.
        _ => Ok((response, head)),
    }
}
