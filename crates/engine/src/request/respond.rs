//! Answers of the balancer's own, written to the client.

use evenflow_rules::answer::Answer;
use evenflow_rules::filters::Refusal;
use evenflow_rules::reason::Reason;
use evenflow_wire::http1::encode::{self, Delivery};
use evenflow_wire::http1::head::{Length, RequestHead};

use crate::answer;
use crate::buffer::Buffer;
use crate::connection::{Connection, LINGER_MS, origin_of};
use crate::exchange::{Next, RequestContext};
use crate::record::AccessRecord;
use crate::write::write_all;

/// Answers with an error of the balancer's own.
pub async fn refuse(
    connection: &mut Connection,
    context: &RequestContext<'_>,
    head: &RequestHead,
    noted: &mut AccessRecord,
    refusal: Refusal,
) -> Next {
    let Refusal {
        reason,
        retry_after_ns,
    } = refusal;
    noted.reason = Some(reason);
    noted.status = reason.status();
    if matches!(reason, Reason::ClientGone | Reason::ClientSlow) {
        return Next::Drop;
    }
    let base = connection.buffer.bytes();
    let mut lines = answer::lines(context, head, base);
    lines.extend_from_slice(&noted.lines);
    if matches!(
        reason,
        Reason::Limited | Reason::InFlight | Reason::BreakerOpen
    ) {
        answer::push_retry_after(&mut lines, retry_after_ns);
    }
    if reason == Reason::TraceRefused {
        answer::push_allow(&mut lines, false);
    }
    let id = if head.len == 0 {
        context.id
    } else {
        encode::request_id(head, base, &origin_of(connection, context, head))
    };
    let body = answer::error_body(head, base, reason, id);
    let answer = Answer {
        status: reason.status(),
        lines: &lines,
        content: Some((body.0, &body.1)),
        close: reason.closes(),
    };
    respond(connection, head, noted, &answer).await
}

/// Writes an answer of the balancer's own.
pub async fn respond(
    connection: &mut Connection,
    head: &RequestHead,
    noted: &mut AccessRecord,
    answer: &Answer<'_>,
) -> Next {
    noted.status = answer.status;
    let whole = match head.length {
        Length::None => true,
        Length::Known(length) => {
            // A body that is here already can be passed over.
            let here = (connection.buffer.bytes().len() - head.len) as u64;
            here >= length && head.len > 0
        }
        Length::Chunked | Length::UntilClose => false,
    };
    let keep = whole
        && head.len > 0
        && head.keep_alive
        && !answer.close
        && !connection.worker.draining.get();
    let head_request = head.len > 0 && head.method.get(connection.buffer.bytes()) == b"HEAD";
    let mut out = connection.worker.buffers.take_out();
    answer.encode(
        &mut out,
        connection.worker.date().as_bytes(),
        Delivery {
            version_10: head.version_10,
            keep_alive: keep,
            chunked: false,
        },
        head_request,
    );
    let write_ms = connection
        .rules(|listener| listener.timeouts.write_ms)
        .unwrap_or(LINGER_MS);
    connection
        .slot
        .arm(connection.worker.coarse_ms.get() + write_ms);
    let done = write_all(&mut connection.stream, &out, &connection.slot)
        .await
        .is_ok();
    if done && !head_request {
        noted.sent = answer.content.map_or(0, |(_, body)| body.len() as u64);
    }
    connection.worker.buffers.give_out(out);
    if !done {
        return Next::Drop;
    }
    if !keep {
        return Next::Close;
    }
    if let Length::Known(length) = head.length {
        // The head itself is taken off at the end of the exchange.
        remove_body(&mut connection.buffer, head.len, length as usize);
    }
    Next::Keep
}

/// Takes a body that stands behind a head out of the buffer.
fn remove_body(buffer: &mut Buffer, head: usize, body: usize) {
    let bytes = buffer.bytes_mut();
    let len = bytes.len();
    bytes.copy_within(head + body..len, head);
    buffer.end -= body;
}
