//! External authorization: a request of the balancer's own asks a service whether a client's
//! request may pass, as nginx's `auth_request` does.
//!
//! The service sees the fields it is to judge by and where the request is bound for, never its body.

use std::future::poll_fn;
use std::io::IoSlice;
use std::rc::Rc;
use std::task::Poll;

use evenflow_rules::filters::auth::External;
use evenflow_rules::picker::Tried;
use evenflow_rules::reason::Reason;
use evenflow_state::stats::ErrorKind;
use evenflow_wire::http1::head::{Length, ResponseHead, Scan, scan};

use crate::buffer::{Buffer, HEAD_BYTES};
use crate::connection::{Connection, origin_of};
use crate::exchange::RequestContext;
use crate::lease::{self, Lease};
use crate::stream::Stream;
use crate::upstream::reach;
use crate::worker::{Scratch, Worker};

/// A longer answer costs the connection to the service: it is not read.
const READ_BODY: u64 = 64 * 1024;

/// Asks whether a request may pass.
///
/// # Errors
/// `Unauthorized` and `Denied` as the service says, `AuthUnavailable` where it says nothing.
#[allow(clippy::too_many_lines)] // The question, then what its answer means.
pub async fn ask(
    connection: &mut Connection,
    scratch: &mut Scratch,
    context: &RequestContext<'_>,
    external: &External,
) -> Result<(), Reason> {
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
                Err((kind, reason)) => lease.failed(&worker, *kind, *reason),
            }
            asked.ok()
        }
        Err(_) => None,
    };
    worker.buffers.give_out(out);
    let failed = if rules.fail_open {
        Ok(())
    } else {
        Err(Reason::AuthUnavailable)
    };
    let Some((head, buffer)) = answer else {
        return failed;
    };
    let base = buffer.bytes();
    let judged = match head.status {
        200..=299 => {
            for name in &rules.response_headers {
                for told in &head.fields {
                    if told.name.get(base).eq_ignore_ascii_case(name.as_bytes()) {
                        scratch.passed.tell(name, told.value.get(base));
                    }
                }
            }
            if let Some(name) = &rules.user_header {
                let mut told = head.fields.iter();
                let user = told
                    .find(|told| told.name.get(base).eq_ignore_ascii_case(name.as_bytes()))
                    .map_or(&b""[..], |told| told.value.get(base));
                scratch.passed.user.clear();
                scratch.passed.user.extend_from_slice(user);
            }
            Ok(())
        }
        401 => {
            let challenge = first(&head, base, b"www-authenticate");
            let lines = &mut scratch.passed.response_lines;
            if challenge.is_empty() {
                lines.extend_from_slice(b"www-authenticate: Bearer\r\n");
            } else {
                lines.extend_from_slice(b"www-authenticate: ");
                lines.extend_from_slice(challenge);
                lines.extend_from_slice(b"\r\n");
            }
            Err(Reason::Unauthorized)
        }
        403 => Err(Reason::Denied),
        _ => failed,
    };
    worker.buffers.give(buffer);
    judged
}

fn first<'a>(head: &ResponseHead, base: &'a [u8], name: &[u8]) -> &'a [u8] {
    let mut fields = head.fields.iter();
    fields
        .find(|told| told.name.get(base).eq_ignore_ascii_case(name))
        .map_or(b"", |told| told.value.get(base))
}

/// Sends the question and reads the answer, on a kept connection first and then on a new one.
async fn exchange(
    connection: &Connection,
    lease: &Lease,
    path: &str,
    lines: &[u8],
    deadline: u64,
) -> Result<(ResponseHead, Buffer), (ErrorKind, Reason)> {
    let worker = &connection.worker;
    let endpoint = &lease.member().endpoint;
    let mut question = Vec::with_capacity(128 + path.len() + lines.len());
    question.extend_from_slice(b"GET ");
    question.extend_from_slice(path.as_bytes());
    question.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    question.extend_from_slice(endpoint.authority().as_bytes());
    question.extend_from_slice(b"\r\n");
    question.extend_from_slice(lines);
    connection.slot.arm(deadline);
    if let Some(stream) = lease.kept(worker, lease.member().made(), false)
        && let Ok(answer) = once(connection, lease, stream, &question).await
    {
        return Ok(answer);
    }
    let stream = reach(worker, lease, || connection.ends(), &connection.slot, false)
        .await
        .map_err(|reason| match reason {
            Reason::ConnectTimeout => (ErrorKind::Timeout, reason),
            _ => (ErrorKind::Connect, reason),
        })?;
    let answer = once(connection, lease, stream, &question).await;
    answer.map_err(|kind| (kind, Reason::AuthUnavailable))
}

async fn once(
    connection: &Connection,
    lease: &Lease,
    mut stream: Stream,
    question: &[u8],
) -> Result<(ResponseHead, Buffer), ErrorKind> {
    let worker: &Worker = &connection.worker;
    let slot = &connection.slot;
    let made = lease.member().made();
    let mut written = 0;
    poll_fn(|cx| {
        while written < question.len() {
            let slice = [IoSlice::new(&question[written..])];
            match stream.poll_write_vectored(cx, &slice) {
                Poll::Ready(Ok(count)) if count > 0 => written += count,
                Poll::Ready(_) => return Poll::Ready(Err(ErrorKind::Reset)),
                Poll::Pending if slot.fired() => return Poll::Ready(Err(ErrorKind::Timeout)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    })
    .await?;
    let mut buffer = worker.buffers.take(HEAD_BYTES);
    let mut head = ResponseHead::default();
    let mut scanned = 0;
    loop {
        match scan(buffer.bytes(), scanned) {
            Ok(Scan::Complete(len)) => {
                head.parse(&buffer.bytes()[..len], false)
                    .map_err(|_| ErrorKind::Protocol)?;
                break;
            }
            Ok(Scan::Partial(at)) => scanned = at,
            Err(_) => return Err(ErrorKind::Protocol),
        }
        if buffer.spare().is_empty() {
            return Err(ErrorKind::Protocol);
        }
        read(&mut stream, &mut buffer, connection).await?;
    }
    if head.status < 200 {
        return Err(ErrorKind::Protocol);
    }
    let length = match head.length {
        Length::None => Some(0),
        Length::Known(length) if length <= READ_BODY => Some(length as usize),
        _ => None,
    };
    if let Some(length) = length
        && head.keep_alive
    {
        let mut rest = (head.len + length).saturating_sub(buffer.bytes().len());
        let mut more = worker.buffers.take(HEAD_BYTES);
        while rest > 0 {
            if read(&mut stream, &mut more, connection).await.is_err() {
                break;
            }
            let count = more.bytes().len();
            if count > rest {
                break;
            }
            rest -= count;
            more.consume(count);
        }
        let clean = rest == 0 && buffer.bytes().len() <= head.len + length;
        worker.buffers.give(more);
        if clean {
            lease.keep(worker, made, stream);
        }
    }
    Ok((head, buffer))
}

async fn read(
    stream: &mut Stream,
    buffer: &mut Buffer,
    connection: &Connection,
) -> Result<(), ErrorKind> {
    let slot = &connection.slot;
    let count = poll_fn(|cx| match stream.poll_read(cx, buffer.spare()) {
        Poll::Ready(Ok(count)) if count > 0 => Poll::Ready(Ok(count)),
        Poll::Ready(_) => Poll::Ready(Err(ErrorKind::Reset)),
        Poll::Pending if slot.fired() => {
            stream.note_timeout();
            Poll::Ready(Err(ErrorKind::Timeout))
        }
        Poll::Pending => Poll::Pending,
    })
    .await?;
    buffer.end += count;
    Ok(())
}
