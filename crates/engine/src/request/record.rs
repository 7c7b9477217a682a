//! What is noted of an exchange, and what is made of it at the end: counters and an access record.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use evenflow_rules::reason::Reason;
use evenflow_state::stats::method_label;
use evenflow_wire::http1::encode;

use crate::access_log::Record;
use crate::connection::{Connection, origin_of};
use crate::exchange::RequestContext;
use crate::lease::Lease;
use crate::worker::Scratch;

/// What is noted of an exchange while it runs, for the record at its end.
#[derive(Debug)]
pub struct AccessRecord {
    /// When its head was complete.
    pub started: Instant,
    /// The status of the answer; 0 before there is one.
    pub status: u16,
    /// Why it was not served as asked.
    pub reason: Option<Reason>,
    /// Endpoints it was sent to.
    pub attempts: u32,
    /// What became of hedges; empty where none was due.
    pub hedge: &'static str,
    /// Bytes of body sent to the client.
    pub sent: u64,
    /// Bytes of body received from the client.
    pub received: u64,
    /// Header lines that filters add to the answer.
    pub lines: Vec<u8>,
}

/// Counts the exchange and writes its access record.
pub fn record(
    connection: &Connection,
    context: &RequestContext<'_>,
    scratch: &Scratch,
    noted: &AccessRecord,
    lease: Option<&Lease>,
) {
    let latency_ns = noted.started.elapsed().as_nanos() as u64;
    count(connection, context, scratch, noted, lease, latency_ns);
    let RequestContext { table, id, .. } = *context;
    let route = context.route.map(|(_, route)| route);
    let worker = &connection.worker;
    let head = &scratch.request;
    let base = connection.buffer.bytes();
    let method = if head.len == 0 {
        b""
    } else {
        head.method.get(base)
    };
    if route.is_some_and(|route| route.internal) {
        // The control plane writes down what is asked of it itself; probes and scrapes would only
        // hide the traffic.
        return;
    }
    let sampled = noted.reason.is_some()
        || noted.status >= 500
        || table.access_sample >= 1.0
        || fastrand::f64() < table.access_sample;
    if table.access_log.is_none() || !sampled {
        return;
    }
    let origin = origin_of(connection, context, head);
    let request_id = if head.len == 0 {
        id
    } else {
        encode::request_id(head, base, &origin)
    };
    let field = |name: &[u8]| {
        let mut fields = head.fields.iter();
        fields
            .find(|field| field.name.get(base).eq_ignore_ascii_case(name))
            .map_or(&b""[..], |field| field.value.get(base))
    };
    let served = head.len > 0;
    worker.log(&Record {
        time_ns: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as u64)
            .saturating_sub(latency_ns),
        request_id,
        client: origin.client,
        method,
        host: if served { head.host.get(base) } else { b"" },
        target: if served { head.target.get(base) } else { b"" },
        version: if head.version_10 {
            "HTTP/1.0"
        } else if head.http2 {
            "HTTP/2.0"
        } else {
            "HTTP/1.1"
        },
        status: noted.status,
        bytes_sent: noted.sent,
        bytes_received: noted.received,
        route: route.map_or("", |route| &route.name),
        pool: lease.map_or("", |lease| &lease.pool().name),
        backend_id: lease.map_or("", |lease| &lease.member().endpoint.id),
        attempts: noted.attempts,
        hedge: noted.hedge,
        user: &scratch.filter_context.user,
        latency_ns,
        reason: noted.reason.map_or("", Reason::label),
        user_agent: field(b"user-agent"),
        referer: field(b"referer"),
    });
}

/// Counts the exchange.
pub fn count(
    connection: &Connection,
    context: &RequestContext<'_>,
    scratch: &Scratch,
    noted: &AccessRecord,
    lease: Option<&Lease>,
    latency_ns: u64,
) {
    let route = context.route.map(|(_, route)| route);
    let head = &scratch.request;
    let method = if head.len == 0 {
        b""
    } else {
        head.method.get(connection.buffer.bytes())
    };
    if route.is_some_and(|route| route.internal) {
        return;
    }
    let mut stats = connection.worker.stats.borrow_mut();
    *stats
        .methods
        .entry((method_label(method), noted.status))
        .or_default() += 1;
    let uid = route.map_or(0, |route| route.uid);
    stats.routes.entry(uid).or_default().record(latency_ns);
    match lease.filter(|_| {
        noted
            .reason
            .is_none_or(|reason| reason.status() != noted.status)
    }) {
        Some(lease) => {
            let endpoint = stats.endpoint(lease.member().endpoint.uid);
            endpoint.requests += 1;
            endpoint.total.record(latency_ns);
            endpoint.count_served(uid, noted.status, 1);
        }
        None => *stats.unserved.entry((uid, noted.status)).or_default() += 1,
    }
    if let Some(reason) = noted.reason {
        *stats.errors.entry(reason.label()).or_default() += 1;
    }
}
