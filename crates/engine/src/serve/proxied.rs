//! PROXY headers on sockets: read before anything else of a connection, and put before everything.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use evenflow_rules::plan::ProxyVersion;
use evenflow_rules::reason::Reason;
use evenflow_wire::proxy_protocol::{AddressPair, ProxyHeader, ProxyScan, push_v1, push_v2, scan};

use crate::stream::Stream;
use crate::worker::Worker;

/// Reads a connection's header and nothing behind it. `None`: it names nobody, so the connection
/// is from whoever made it.
///
/// # Errors
/// There is no header, it breaks the rules, or it did not come in time.
pub async fn read_header(
    worker: &Rc<Worker>,
    stream: &mut Stream,
    within_ms: u64,
) -> Result<Option<AddressPair>, Reason> {
    let slot = worker.timer.slot();
    slot.arm(worker.coarse_ms.get() + within_ms);
    let mut header = Vec::new();
    loop {
        let needs = match scan(&header).map_err(Reason::BadProxyHeader)? {
            ProxyScan::Needs(needs) => needs,
            ProxyScan::Complete(_, ProxyHeader::Proxied(ends)) => return Ok(Some(ends)),
            ProxyScan::Complete(_, ProxyHeader::Local | ProxyHeader::Unknown) => return Ok(None),
        };
        let from = header.len();
        header.resize(from + needs, 0);
        let read = poll_fn(|cx| {
            slot.register(cx);
            if slot.fired() || worker.draining.get() {
                return Poll::Ready(Err(Reason::HeadTimeout));
            }
            let read = stream.poll_read(cx, &mut header[from..]);
            read.map_err(|_| Reason::ClientGone)
        })
        .await?;
        if read == 0 {
            return Err(Reason::BadProxyHeader("the header is cut short"));
        }
        header.truncate(from + read);
    }
}

/// Appends the header for a connection to an endpoint.
pub fn push_header(out: &mut Vec<u8>, version: ProxyVersion, ends: Option<AddressPair>) {
    match version {
        ProxyVersion::V1 => push_v1(out, ends),
        ProxyVersion::V2 => push_v2(out, ends),
    }
}
