//! The first phase of a request: the route that takes it, and the chain of filters of its listener
//! and its route.
//!
//! The chain itself never waits. Where one of its steps has to, its work is done here: a slow
//! password hash is checked by threads of its own, an authorization service is asked over the
//! network. Then the chain resumes behind that step.

mod password_threads;
mod subrequest;

use std::net::IpAddr;

use evenflow_rules::filters::context::FilterContext;
use evenflow_rules::filters::fleet::FleetUsage;
use evenflow_rules::filters::{
    Chain, FilterRequest, Refusal, RequestView, Response, Scope, Verdict, Wait, WaitResult,
};
use evenflow_rules::reason::Reason;
use evenflow_rules::table::Listener;
use evenflow_wire::http1::head::{Length, RequestHead};

use crate::connection::Connection;
use crate::events::Event;
use crate::exchange::{NumberedRoute, RequestContext};
use crate::worker::Scratch;

/// What of a request its connection and its arrival decide.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// The client's address as far as it is believed.
    pub client: Option<IpAddr>,
    /// Whether the client is known to use TLS.
    pub secure: bool,
    /// When it came, on the engine's clock in nanoseconds.
    pub now_ns: u64,
}

impl Arrival {
    /// The request as filters see it.
    pub fn view<'a>(
        &self,
        connection: &'a Connection,
        head: &'a RequestHead,
        route: u32,
    ) -> RequestView<'a> {
        RequestView {
            client: self.client,
            head,
            base: connection.buffer.bytes(),
            now_ns: self.now_ns,
            route,
            secure: self.secure,
        }
    }
}

/// Why a request is not sent to its route.
#[derive(Debug)]
pub enum Ending {
    /// It is refused.
    Refused(Refusal),
    /// A filter answers it.
    Answered(Response),
    /// It is sent to `https` on this port.
    Redirected(u16),
}

impl From<Reason> for Ending {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason.into())
    }
}

/// Finds the route, which is then in `context`, and runs the chain.
///
/// # Errors
/// What becomes of a request that does not go on to its route.
pub async fn admit<'t>(
    connection: &mut Connection,
    scratch: &mut Scratch,
    context: &mut RequestContext<'t>,
    arrival: Arrival,
) -> Result<NumberedRoute<'t>, Ending> {
    let listener = context.listener;
    let view = arrival.view(connection, &scratch.request, 0);
    let found = listener.router.find(&view.asked());
    context.route = found.map(|index| (index, &context.table.routes[index]));
    if !listener.trace && view.head.method.get(view.base) == b"TRACE" {
        return Err(Reason::TraceRefused.into());
    }
    if found.is_some() {
        listener.router.check_path(&view.asked())?;
    }
    let scope = context.route.map_or(Scope::All, |(_, route)| route.scope());
    let redirected = listener.redirect_https.filter(|_| scope == Scope::All);
    let scope = redirected.map_or(scope, |_| Scope::Connection);
    run(connection, scratch, context, arrival, scope).await?;
    if let Some(port) = redirected {
        return Err(Ending::Redirected(port));
    }
    let Some((index, route)) = context.route else {
        return Err(Reason::NoRoute.into());
    };
    // The control plane's own pages are served whatever the traffic does.
    if !route.internal && connection.worker.is_short_of_memory() {
        return Err(Reason::MemoryFull.into());
    }
    let limit = listener.limits.body_bytes;
    if let Length::Known(length) = scratch.request.length
        && !route.internal
        && limit != 0
        && length > limit
    {
        return Err(Reason::BodyTooLarge.into());
    }
    Ok((index, route))
}

/// Runs the chain to its end, and waits where a step has to.
async fn run(
    connection: &mut Connection,
    scratch: &mut Scratch,
    context: &RequestContext<'_>,
    arrival: Arrival,
    scope: Scope,
) -> Result<(), Ending> {
    let chain = context.chain();
    let mut verdict = step_on(connection, scratch, context, arrival, (chain, 0, scope));
    loop {
        match verdict {
            Verdict::Pass => return Ok(()),
            Verdict::Respond(response) => return Err(Ending::Answered(response)),
            Verdict::Refuse(refusal) => {
                report_unknown_key(connection, scratch);
                return Err(Ending::Refused(refusal));
            }
            Verdict::Wait { at, on } => {
                // On the heap: few requests wait here, and all would carry the state.
                Box::pin(settle(connection, scratch, context, (at, on))).await?;
                let rest = (chain, at + 1, scope);
                verdict = step_on(connection, scratch, context, arrival, rest);
            }
        }
    }
}

/// Runs the chain from a step on, up to the next one that does not let the request continue.
fn step_on<'c>(
    connection: &Connection,
    scratch: &mut Scratch,
    context: &RequestContext<'_>,
    arrival: Arrival,
    (chain, from, scope): (&'c Chain, usize, Scope),
) -> Verdict<'c> {
    let route = context.route.map_or(0, |(_, route)| route.uid);
    let mut request = FilterRequest {
        view: &arrival.view(connection, &scratch.request, route),
        context: &mut scratch.filter_context,
        usage: Some(&connection.worker.notes),
    };
    chain.run(from, scope, &mut request)
}

/// Does what a step waits for, and settles the request by the result.
async fn settle(
    connection: &mut Connection,
    scratch: &mut Scratch,
    context: &RequestContext<'_>,
    (at, wait): (usize, Wait<'_>),
) -> Result<(), Reason> {
    let chain = context.chain();
    match wait {
        Wait::External(question) => {
            let answer = subrequest::ask(connection, scratch, context, question).await?;
            let read = answer.as_ref().map(|(head, buffer)| (head, buffer.bytes()));
            let filter_context = &mut scratch.filter_context;
            let settled = chain.settle(at, WaitResult::External(read), filter_context);
            if let Some((_, buffer)) = answer {
                connection.worker.buffers.give(buffer);
            }
            settled
        }
        Wait::Password(mut check) => {
            let password = std::mem::take(&mut check.password);
            let right = password_threads::verify(check.hash.clone(), password).await;
            let result = WaitResult::Password(check, right);
            chain.settle(at, result, &mut scratch.filter_context)
        }
    }
}

fn report_unknown_key(connection: &Connection, scratch: &mut Scratch) {
    if let Some(filter) = scratch.filter_context.unknown_key.take() {
        let shared = &connection.worker.shared;
        shared.events.push(Event::UnknownKey { filter });
    }
}

/// Whether the listener's filters let a connection of layer 4 in; nothing of it was read before.
/// The permits it holds are in `context`.
pub fn admit_connection(
    listener: &Listener,
    view: &RequestView<'_>,
    context: &mut FilterContext,
    usage: &FleetUsage,
) -> bool {
    let mut request = FilterRequest {
        view,
        context,
        usage: Some(usage),
    };
    let verdict = listener.chain.run(0, Scope::Connection, &mut request);
    matches!(verdict, Verdict::Pass)
}
