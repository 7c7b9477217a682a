//! One request's life, its phases in order:
//!
//! read head → route → filters → (pick → connect → send → await head)* → relay → record
//!
//! What lies between the filters and the record is [`forward`]'s.

use std::rc::Rc;
use std::time::Instant;

use evenflow_rules::action::Destination;
use evenflow_rules::answer::Answer;
use evenflow_rules::filters::{Chain, Response};
use evenflow_rules::reason::Reason;
use evenflow_rules::table::{Listener, Route};
use evenflow_wire::http1::head::RequestHead;
use evenflow_wire::identity::Identity;
use evenflow_wire::proxy_protocol::AddressPair;

use crate::acceptor::{ConnectionGuard, ListenerHandle};
use crate::admit::{Arrival, Ending, admit};
use crate::answer;
use crate::buffer::Buffer;
use crate::connection::{ClientWatch, Connection, origin_of, read_head};
use crate::fault;
use crate::forward::forward;
use crate::http2;
use crate::lease::Lease;
use crate::record::{AccessRecord, record};
use crate::respond::{refuse, respond};
use crate::stream::Stream;
use crate::tls::accept;
use crate::tunnel;
use crate::worker::{Current, PanicWatch, Scratch, Worker};

/// What becomes of a connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another request may follow.
    Keep,
    /// It closes in order, the client may still be sending.
    Close,
    /// Nobody is there any more.
    Drop,
    /// It is a tunnel now.
    Tunnel,
}

/// Serves a client's connection to its end.
pub async fn serve(
    worker: Rc<Worker>,
    stream: Stream,
    proxied: Option<Box<AddressPair>>,
    door: ListenerHandle,
    counted: ConnectionGuard,
) {
    let _watch = PanicWatch::new(&worker);
    let slot = worker.timer.own_slot().await;
    let peer = proxied.as_ref().map_or_else(
        || stream.peer_ip(),
        |ends| Some(ends.source.ip().to_canonical()),
    );
    let mut connection = Connection {
        worker: Rc::clone(&worker),
        stream,
        slot,
        buffer: Buffer::default(),
        peer,
        door,
        identity: None,
        tunnel: None,
        proxied,
        watch: ClientWatch::ReadAhead,
    };
    // On the heap for as long as it runs, as is all that is rare in a connection's life.
    if connection.stream.is_tls() && !Box::pin(accept::handshake(&mut connection)).await {
        return;
    }
    let mut first = true;
    loop {
        if connection.buffer.is_empty() && !connection.await_request().await {
            connection.farewell().await;
            break;
        }
        if std::mem::take(&mut first) && http2::accept::is_spoken(&mut connection).await {
            Box::pin(http2::accept::serve(connection)).await;
            drop(counted);
            return;
        }
        let mut scratch = connection.worker.take_scratch();
        let active = worker.enter();
        // On the heap for as long as it runs, so that an idle connection is small.
        let next = Box::pin(exchange(&mut connection, &mut scratch)).await;
        drop(active);
        connection.worker.give_scratch(scratch);
        match next {
            Next::Keep => {}
            Next::Close => {
                // On the heap as well: its buffer is not to be part of every idle connection.
                Box::pin(connection.linger()).await;
                break;
            }
            Next::Drop => break,
            Next::Tunnel => {
                Box::pin(tunnel::run(&mut connection)).await;
                break;
            }
        }
    }
    let buffer = std::mem::take(&mut connection.buffer);
    connection.worker.buffers.give(buffer);
    drop(counted);
}

/// The way a request goes: the table in force when it came, and what of it concerns the request.
#[derive(Debug, Clone, Copy)]
pub struct RequestContext<'a> {
    /// The table; it stays until the request's end.
    pub table: &'a Current,
    /// The listener it came in by.
    pub listener: &'a Listener,
    /// The route that takes it, with its number; `None` before there is one.
    pub route: Option<NumberedRoute<'a>>,
    /// The identifier made for it.
    pub id: &'a [u8],
    /// Who the client is by its certificate.
    pub identity: Option<&'a Identity>,
}

impl<'a> RequestContext<'a> {
    /// The filters of the listener and of the route, where there is one.
    pub fn chain(&self) -> &'a Chain {
        match self.route {
            Some((index, _)) => &self.listener.chains[index],
            None => &self.listener.chain,
        }
    }
}

/// One request and its answer.
pub async fn exchange(connection: &mut Connection, scratch: &mut Scratch) -> Next {
    connection.watch_client();
    let table = connection.worker.table();
    let Some(listener) = table.listener(connection.door.get()) else {
        return Next::Drop;
    };
    let mut noted = AccessRecord {
        started: Instant::now(),
        status: 0,
        reason: None,
        attempts: 0,
        hedge: "",
        sent: 0,
        received: 0,
        lines: Vec::new(),
    };
    let id = make_request_id();
    let identity = connection.identity.clone();
    let mut context = RequestContext {
        table: &table,
        listener,
        route: None,
        id: &id,
        identity: identity.as_deref(),
    };
    match read_head(connection, listener, &mut scratch.request).await {
        Ok(true) => {}
        Ok(false) => return Next::Drop,
        Err(reason) => {
            scratch.request = RequestHead::default();
            connection.buffer.consume(connection.buffer.bytes().len());
            let refusal = reason.into();
            let next = refuse(connection, &context, &scratch.request, &mut noted, refusal).await;
            record(connection, &context, scratch, &noted, None);
            return next;
        }
    }
    noted.started = Instant::now();
    let origin = origin_of(connection, &context, &scratch.request);
    let arrival = Arrival {
        client: origin.client,
        secure: origin.secure,
        now_ns: connection.worker.shared.clock.at_ns(noted.started),
    };
    let admitted = admit(connection, scratch, &mut context, arrival).await;
    noted.lines = std::mem::take(&mut scratch.filter_context.response_lines);
    let (next, lease) = match admitted {
        Ok(route) => serve_route(connection, scratch, &context, route, arrival, &mut noted).await,
        Err(ending) => {
            let head = &scratch.request;
            let next = end(connection, &context, head, ending, &mut noted).await;
            (next, None)
        }
    };
    if next == Next::Tunnel {
        scratch.filter_context.clear();
        return next;
    }
    record(connection, &context, scratch, &noted, lease.as_ref());
    scratch.filter_context.response_lines = noted.lines;
    scratch.filter_context.clear();
    finish_buffer(connection, scratch, next);
    if next == Next::Keep && connection.worker.draining.get() {
        return Next::Close;
    }
    next
}

/// What a route does with an admitted request: a fault put in on purpose, an answer of its own, or
/// an endpoint's.
async fn serve_route(
    connection: &mut Connection,
    scratch: &mut Scratch,
    context: &RequestContext<'_>,
    (index, route): NumberedRoute<'_>,
    arrival: Arrival,
    noted: &mut AccessRecord,
) -> (Next, Option<Lease>) {
    if scratch.request.last_hop {
        let next = answer_last_hop(connection, context, &scratch.request, noted).await;
        return (next, None);
    }
    if let Some(fault) = &route.fault
        && let Some(failed) = Box::pin(fault::inject(connection, route, fault)).await
    {
        let head = &scratch.request;
        let next = match failed {
            Ok(status) => fail(connection, context, head, noted, status).await,
            Err(reason) => refuse(connection, context, head, noted, reason.into()).await,
        };
        return (next, None);
    }
    let head = &scratch.request;
    let view = arrival.view(connection, head, route.uid);
    match route.action.decide(&view) {
        Destination::Answer(own) => {
            let mut lines = answer::lines(context, head, view.base);
            own.push_lines(&mut lines, &view);
            lines.extend_from_slice(&noted.lines);
            let next = respond(connection, head, noted, &own.answer(&lines)).await;
            (next, None)
        }
        Destination::Forward(pool, lines) => {
            let to = (pool, lines);
            forward(connection, scratch, context, (index, route), to, noted).await
        }
    }
}

/// Answers a TRACE or OPTIONS request that may not be forwarded any further (RFC 9110 §7.6.2).
async fn answer_last_hop(
    connection: &mut Connection,
    context: &RequestContext<'_>,
    head: &RequestHead,
    noted: &mut AccessRecord,
) -> Next {
    let base = connection.buffer.bytes();
    let mut lines = answer::lines(context, head, base);
    lines.extend_from_slice(&noted.lines);
    if head.method.get(base) == b"TRACE" {
        let echo = answer::trace(head, base);
        let answer = Answer {
            content: Some(("message/http", &echo)),
            ..Answer::empty(200, &lines)
        };
        return respond(connection, head, noted, &answer).await;
    }
    answer::push_allow(&mut lines, context.listener.trace);
    respond(connection, head, noted, &Answer::empty(204, &lines)).await
}

/// Answers a request that does not go on to its route.
async fn end(
    connection: &mut Connection,
    context: &RequestContext<'_>,
    head: &RequestHead,
    ending: Ending,
    noted: &mut AccessRecord,
) -> Next {
    match ending {
        Ending::Refused(refusal) => refuse(connection, context, head, noted, refusal).await,
        Ending::Answered(Response { status, mut lines }) => {
            let edits = &context.chain().edits;
            edits.response.append(&mut lines, |_| false);
            lines.extend_from_slice(&noted.lines);
            respond(connection, head, noted, &Answer::empty(status, &lines)).await
        }
        Ending::Redirected(port) => {
            let base = connection.buffer.bytes();
            let lines = answer::redirect_https(context, head, base, port);
            let answer = Answer {
                content: Some(("text/plain; charset=utf-8", b"")),
                ..Answer::empty(308, &lines)
            };
            respond(connection, head, noted, &answer).await
        }
    }
}

/// Takes the finished request off the connection's buffer; what follows it is the next one.
fn finish_buffer(connection: &mut Connection, scratch: &Scratch, next: Next) {
    if next == Next::Keep {
        let used = scratch.request.len;
        connection.buffer.consume(used);
        connection.buffer.compact();
    }
}

/// A route and its number in the table.
pub type NumberedRoute<'t> = (usize, &'t Route);

/// The smallest bound on the request's body; 0 is none. The control plane's own routes take
/// documents of any configuration's size and bound them themselves.
pub fn body_limit(context: &RequestContext<'_>, route: &Route) -> u64 {
    if route.internal {
        return 0;
    }
    let bounds = [
        context.listener.limits.body_bytes,
        context.chain().body_limit.unwrap_or(0),
    ];
    let bounds = bounds.into_iter().filter(|&bound| bound != 0);
    bounds.min().unwrap_or(0)
}

/// Answers with the status that a fault put in on purpose asks for.
async fn fail(
    connection: &mut Connection,
    context: &RequestContext<'_>,
    head: &RequestHead,
    noted: &mut AccessRecord,
    status: u16,
) -> Next {
    let reason = Reason::FaultInjected;
    noted.reason = Some(reason);
    let base = connection.buffer.bytes();
    let lines = answer::lines(context, head, base);
    let body = answer::error_body(head, base, reason, context.id);
    let answer = Answer {
        content: Some((body.0, &body.1)),
        ..Answer::empty(status, &lines)
    };
    respond(connection, head, noted, &answer).await
}

/// An identifier for a request: 128 random bits in hexadecimal digits.
fn make_request_id() -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut bits = fastrand::u128(..);
    std::array::from_fn(|_| {
        let digit = DIGITS[(bits & 15) as usize];
        bits >>= 4;
        digit
    })
}
