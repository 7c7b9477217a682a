//! The last phase with an endpoint: its answer goes to the client.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use evenflow_rules::reason::Reason;
use evenflow_rules::retry::Cause;
use evenflow_state::stats::ErrorKind;
use evenflow_wire::http1::body::Decoder;
use evenflow_wire::http1::encode::{self, Delivery};
use evenflow_wire::http1::head::{Length, ResponseHead};

use crate::answer;
use crate::attempt::Attempt;
use crate::call::{Failure, Upstream};
use crate::connection::ClientWatch;
use crate::exchange::Next;
use crate::record::AccessRecord;
use crate::relay::{Broken, Relay, Waiting};

impl Attempt<'_> {
    /// Relays the endpoint's answer, and what is left of the request's body beside it. The endpoint
    /// is free for others once its answer is here, before the client has the last of it.
    ///
    /// # Errors
    /// Why there is no answer to relay after all; the client has got nothing of it.
    #[allow(clippy::too_many_lines)] // One step after the other.
    pub async fn deliver(
        &mut self,
        response: &ResponseHead,
        noted: &mut AccessRecord,
        mut upstream: Upstream,
        lines: &[u8],
    ) -> Result<Next, Failure> {
        let Self {
            connection,
            request,
            body,
            listener,
            edits,
            lease,
            route_deadline,
            ..
        } = self;
        let (listener, lease, route_deadline) = (*listener, *lease, *route_deadline);
        let worker = Rc::clone(&connection.worker);
        noted.status = response.status;
        if response.status >= 500 {
            lease.failed(&worker, ErrorKind::Status, Reason::UpstreamReset);
        } else {
            lease.succeeded(&worker);
        }
        let head_request = request.method.get(connection.buffer.bytes()) == b"HEAD";
        let chunked = !request.version_10
            && !head_request
            && matches!(response.length, Length::Chunked | Length::UntilClose);
        let delimited = chunked || !matches!(response.length, Length::Chunked | Length::UntilClose);
        let keep = request.keep_alive && delimited && body.is_done() && !worker.draining.get();
        let delivery = Delivery {
            version_10: request.version_10,
            keep_alive: keep,
            chunked,
        };
        let mut lead = worker.buffers.take_out();
        encode::response_head(
            &mut lead,
            response,
            upstream.buffer.bytes(),
            delivery,
            &edits.response,
            edits.cors.is_some(),
        );
        let base = connection.buffer.bytes();
        answer::cross_origin(&mut lead, edits, request, base);
        lead.extend_from_slice(lines);
        lead.extend_from_slice(&noted.lines);
        lead.extend_from_slice(b"\r\n");
        upstream.buffer.consume(response.len);
        let mut decoder = Decoder::new(response.length);
        if response.length == Length::Chunked {
            decoder = decoder.without(edits.response.removed());
        }
        let buffer = std::mem::take(&mut upstream.buffer);
        let mut relay = Relay::resume(decoder, chunked, lead, buffer, None);
        let idle_ms = lease.member().idle_timeout_ms;
        let timeouts = &listener.timeouts;
        let write_ms = timeouts.write_ms;
        let mut armed = None;
        // Since when the client is waited for, and what it had taken by then.
        let mut waited: Option<(u64, u64)> = None;
        let result = poll_fn(|cx| {
            let sent = body.is_done();
            let done = relay.poll_telling(
                cx,
                &worker.buffers,
                &mut upstream.stream,
                &mut connection.stream,
                || {
                    if sent {
                        lease.release();
                    }
                },
            );
            if matches!(done, Poll::Ready(Err(Broken::Write)))
                && connection.watch == ClientWatch::Off
                && !relay.discards()
            {
                // The endpoint's request is to run to its end.
                relay.discard();
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Poll::Ready(result) = done {
                return Poll::Ready(result.map_err(Some));
            }
            // The rest of the request goes on beside the answer; its failure is the answer's to show.
            body.poll_beside(cx, connection, &mut upstream.stream);
            if armed.is_some() && connection.slot.fired() {
                return Poll::Ready(Err(None));
            }
            let body_comes = !body.is_done() && body.waiting() == Waiting::Read;
            if !body_comes && connection.poll_client_gone(cx).is_ready() {
                return Poll::Ready(Err(Some(Broken::Write)));
            }
            let now = worker.coarse_ms.get();
            if relay.waiting == Waiting::Read {
                waited = None;
            } else {
                // A little now and then is not enough to hold an endpoint's answer for ever.
                let (since, sent) = *waited.get_or_insert((now, relay.sent));
                let elapsed = now.saturating_sub(since);
                if elapsed >= write_ms {
                    let least = u64::from(timeouts.min_body_rate) * elapsed;
                    if (relay.sent - sent) * 1000 < least {
                        return Poll::Ready(Err(None));
                    }
                    waited = Some((now, relay.sent));
                }
            }
            if relay.moved || armed != Some(relay.waiting) {
                relay.moved = false;
                armed = Some(relay.waiting);
                let patience = match relay.waiting {
                    Waiting::Read => idle_ms,
                    Waiting::Write => write_ms,
                };
                connection.slot.arm((now + patience).min(route_deadline));
            }
            Poll::Pending
        })
        .await;
        noted.sent = relay.received;
        noted.received = body.received();
        let upstream_bytes = relay.received + response.len as u64;
        let client_left = relay.discards();
        let (waiting, untouched) = (relay.waiting, relay.sent == 0);
        let (rest, lead) = relay.into_buffers();
        let clean = rest.is_empty();
        worker.buffers.give(rest);
        worker.buffers.give_out(lead);
        let sent_bytes = upstream.sent + body.streamed();
        lease.count_bytes(&worker, sent_bytes, upstream_bytes);
        match result {
            Ok(()) => {
                if clean && response.keep_alive && body.is_done() {
                    upstream.keep(&worker, lease);
                }
                if client_left {
                    noted.reason = Some(Reason::ClientGone);
                    return Ok(Next::Drop);
                }
                Ok(if keep { Next::Keep } else { Next::Close })
            }
            Err(error) => {
                let reason = match error {
                    None if worker.shared.now_ms() >= route_deadline => Reason::RouteTimeout,
                    None if waiting == Waiting::Write => Reason::ClientSlow,
                    None => Reason::UpstreamTimeout,
                    Some(Broken::Write) => Reason::ClientGone,
                    Some(Broken::Framing(detail)) => Reason::UpstreamProtocol(detail),
                    Some(_) => Reason::UpstreamReset,
                };
                let cause = match reason {
                    Reason::UpstreamTimeout => Some(Cause::Timeout),
                    Reason::UpstreamProtocol(_) => Some(Cause::Protocol),
                    Reason::UpstreamReset => Some(Cause::Closed),
                    _ => None,
                };
                if let Some(cause) = cause {
                    let failure = Failure::answering(cause, reason, sent_bytes, upstream_bytes);
                    if untouched {
                        return Err(failure);
                    }
                    lease.failed(&worker, failure.kind(), reason);
                }
                noted.reason = Some(reason);
                // The head is out: only a broken connection can tell the client that this is not all.
                Ok(Next::Drop)
            }
        }
    }
}
