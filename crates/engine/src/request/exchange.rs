//! One request's life, its phases in order:
//!
//! read head → route → filters → (pick → connect → send → await head)* → relay → record
//!
//! What lies between the filters and the record is [`forward`]'s.

use std::rc::Rc;
use std::time::Instant;

use evenflow_rules::action::{Action, Destination};
use evenflow_rules::answer::Answer;
use evenflow_rules::filters::context::FilterContext;
use evenflow_rules::filters::fleet::FleetUsage;
use evenflow_rules::filters::{Refusal, RequestView};
use evenflow_rules::reason::Reason;
use evenflow_rules::table::{Listener, Route, Table};
use evenflow_wire::http1::head::{Length, RequestHead};
use evenflow_wire::identity::Identity;
use evenflow_wire::proxy_protocol::AddressPair;

use crate::acceptor::{ConnectionGuard, ListenerHandle};
use crate::answer;
use crate::buffer::Buffer;
use crate::connection::{ClientWatch, Connection, origin_of, read_head};
use crate::fault;
use crate::forward::forward;
use crate::gate;
use crate::http2;
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

/// One request and its answer.
#[allow(clippy::too_many_lines)] // One phase after the other.
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
    let head = &scratch.request;
    let base = connection.buffer.bytes();
    let origin = origin_of(connection, &context, head);
    let (client, secure) = (origin.client, origin.secure);
    let view = RequestView {
        client,
        head,
        base,
        now_ns: noted
            .started
            .duration_since(connection.worker.shared.epoch)
            .as_nanos() as u64
            + 1_000_000_000,
        route: 0,
        secure,
    };
    let now_ns = view.now_ns;
    let notes = &connection.worker.notes;
    let routed = route(&table, listener, view, &mut scratch.passed, notes);
    noted.lines = std::mem::take(&mut scratch.passed.response_lines);
    let routed = match routed {
        // The balancer's own pages are served whatever the traffic does.
        Ok((index, route)) if !route.internal && connection.worker.is_short_of_memory() => {
            Err((Reason::MemoryFull.into(), Some((index, route))))
        }
        routed => routed,
    };
    let (next, lease) = match routed {
        routed if let Some(port) = redirects(listener, &routed) => {
            context.route = routed.ok();
            let lines = answer::redirect_https(&context, head, base, port);
            let answer = Answer {
                content: Some(("text/plain; charset=utf-8", b"")),
                ..Answer::empty(308, &lines)
            };
            let next = respond(connection, head, &mut noted, &answer).await;
            (next, None)
        }
        Err((refusal, route)) => {
            context.route = route;
            let next = refuse(connection, &context, head, &mut noted, refusal).await;
            (next, None)
        }
        Ok((index, route)) => {
            context.route = Some((index, route));
            let preflight = answer::preflight(listener, route, head, base);
            if let Some(mut lines) = preflight {
                let edits = &listener.edits[index];
                edits.response.append(&mut lines, |_| false);
                let answer = Answer::empty(204, &lines);
                let next = respond(connection, head, &mut noted, &answer).await;
                (next, None)
            } else if let Err(reason) = pass(connection, scratch, &context, route).await {
                noted.lines.append(&mut scratch.passed.response_lines);
                let head = &scratch.request;
                let next = refuse(connection, &context, head, &mut noted, reason.into()).await;
                (next, None)
            } else if scratch.request.last_hop {
                let (head, base) = (&scratch.request, connection.buffer.bytes());
                let mut lines = answer::lines(&context, head, base);
                lines.extend_from_slice(&noted.lines);
                let next = if head.method.get(base) == b"TRACE" {
                    let echo = answer::trace(head, base);
                    let answer = Answer {
                        content: Some(("message/http", &echo)),
                        ..Answer::empty(200, &lines)
                    };
                    respond(connection, head, &mut noted, &answer).await
                } else {
                    answer::push_allow(&mut lines, listener.trace);
                    respond(connection, head, &mut noted, &Answer::empty(204, &lines)).await
                };
                (next, None)
            } else if let Some(fault) = &route.fault
                && let Some(failed) = Box::pin(fault::inject(connection, route, fault)).await
            {
                let head = &scratch.request;
                let next = match failed {
                    Ok(status) => fail(connection, &context, head, &mut noted, status).await,
                    Err(reason) => {
                        refuse(connection, &context, head, &mut noted, reason.into()).await
                    }
                };
                (next, None)
            } else {
                let (head, base) = (&scratch.request, connection.buffer.bytes());
                let view = RequestView {
                    client,
                    head,
                    base,
                    now_ns,
                    route: route.uid,
                    secure,
                };
                match route.action.decide(&view) {
                    Destination::Answer(own) => {
                        let mut lines = answer::lines(&context, head, base);
                        own.push_lines(&mut lines, &view);
                        lines.extend_from_slice(&noted.lines);
                        let answer = own.answer(&lines);
                        let next = respond(connection, head, &mut noted, &answer).await;
                        (next, None)
                    }
                    Destination::Forward(pool, lines) => {
                        let to = (pool, lines);
                        forward(
                            connection,
                            scratch,
                            &context,
                            (index, route),
                            to,
                            &mut noted,
                        )
                        .await
                    }
                }
            }
        }
    };
    if next == Next::Tunnel {
        scratch.passed.clear();
        return next;
    }
    record(connection, &context, scratch, &noted, lease.as_ref());
    scratch.passed.response_lines = noted.lines;
    scratch.passed.clear();
    finish_buffer(connection, scratch, next);
    if next == Next::Keep && connection.worker.draining.get() {
        return Next::Close;
    }
    next
}

/// Whether a request passes authentication, where there is any.
async fn pass(
    connection: &mut Connection,
    scratch: &mut Scratch,
    context: &RequestContext<'_>,
    route: &Route,
) -> Result<(), Reason> {
    if gate::is_open(context.listener, route) {
        return Ok(());
    }
    // On the heap: few requests come here, and all would carry its state.
    Box::pin(gate::pass(connection, scratch, context, route)).await
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

/// The route that takes a request, and whether filters let it pass.
fn route<'t>(
    table: &'t Table,
    listener: &'t Listener,
    mut view: RequestView<'_>,
    passed: &mut FilterContext,
    notes: &FleetUsage,
) -> Result<NumberedRoute<'t>, (Refusal, Option<NumberedRoute<'t>>)> {
    let found = listener.router.find(&view.asked());
    view.route = found.map_or(0, |index| table.routes[index].uid);
    if let Some(index) = found
        && table.routes[index].internal
    {
        // What proves a name to who is to issue a certificate is for everybody.
        if !matches!(table.routes[index].action, Action::Own(_)) {
            let checked = listener.chain.check_address(view.client);
            checked.map_err(|refusal| (refusal, None))?;
        }
    } else {
        let checked = listener.chain.check(&view, passed, notes);
        checked.map_err(|refusal| (refusal, None))?;
    }
    if !listener.trace && view.head.method.get(view.base) == b"TRACE" {
        return Err((Reason::TraceRefused.into(), None));
    }
    let Some(index) = found else {
        return Err((Reason::NoRoute.into(), None));
    };
    let route = &table.routes[index];
    listener
        .router
        .check_path(&view.asked())
        .map_err(|reason| (reason.into(), Some((index, route))))?;
    route
        .chain
        .check(&view, passed, notes)
        .map_err(|refusal| (refusal, Some((index, route))))?;
    let limit = body_limit(listener, route);
    if let Length::Known(length) = view.head.length
        && limit != 0
        && length > limit
    {
        return Err((Reason::BodyTooLarge.into(), Some((index, route))));
    }
    Ok((index, route))
}

/// The port that a request in the clear is sent to instead of being served.
fn redirects(
    listener: &Listener,
    routed: &Result<NumberedRoute<'_>, (Refusal, Option<NumberedRoute<'_>>)>,
) -> Option<u16> {
    listener.redirect_https.filter(|_| match routed {
        Ok((_, route)) => !route.internal,
        Err((refusal, _)) => refusal.reason == Reason::NoRoute,
    })
}

/// The smallest bound on the request's body; 0 is none. The control plane's own routes take
/// documents of any configuration's size and bound them themselves.
pub fn body_limit(listener: &Listener, route: &Route) -> u64 {
    if route.internal {
        return 0;
    }
    let bounds = [
        listener.limits.body_bytes,
        listener.chain.body_limit.unwrap_or(0),
        route.chain.body_limit.unwrap_or(0),
    ];
    bounds
        .into_iter()
        .filter(|&bound| bound != 0)
        .min()
        .unwrap_or(0)
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
