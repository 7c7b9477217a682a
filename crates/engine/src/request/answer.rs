//! Answers of the balancer's own, and the lines it adds to answers of endpoints.

use evenflow_rules::filters::Edits;
use evenflow_rules::reason::Reason;
use evenflow_wire::http1::encode;
use evenflow_wire::http1::head::RequestHead;

use crate::exchange::RequestContext;

/// The lines that every answer on a listener and a route carries.
pub fn lines(context: &RequestContext<'_>, head: &RequestHead, base: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    let edits = &context.chain().edits;
    edits.response.append(&mut lines, |_| false);
    cross_origin(&mut lines, edits, head, base);
    lines
}

/// Adds the lines of the cross-origin rules to a response head.
pub fn cross_origin(out: &mut Vec<u8>, edits: &Edits, head: &RequestHead, base: &[u8]) {
    if let Some(cors) = &edits.cors {
        cors.response_lines(field(head, base, b"origin"), out);
    }
}

/// The lines that send a request in the clear to `https` on another port of the same host.
pub fn redirect_https(
    context: &RequestContext<'_>,
    head: &RequestHead,
    base: &[u8],
    port: u16,
) -> Vec<u8> {
    let mut lines = lines(context, head, base);
    lines.extend_from_slice(b"location: https://");
    lines.extend_from_slice(without_port(head.host.get(base)));
    if port != 443 {
        lines.push(b':');
        encode::push_number(&mut lines, u64::from(port));
    }
    let target = head.target.get(base);
    if target.first() != Some(&b'/') {
        lines.push(b'/');
    }
    if target != b"*" {
        lines.extend_from_slice(target);
    }
    lines.extend_from_slice(b"\r\n");
    lines
}

/// A host without its port.
fn without_port(host: &[u8]) -> &[u8] {
    let name_end = match host.first() {
        Some(b'[') => memchr::memchr(b']', host).map_or(host.len(), |at| at + 1),
        _ => 0,
    };
    let port = memchr::memchr(b':', &host[name_end..]);
    &host[..port.map_or(host.len(), |at| name_end + at)]
}

/// The value of the first field of a name; empty when there is none.
pub fn field<'a>(head: &RequestHead, base: &'a [u8], name: &[u8]) -> &'a [u8] {
    head.fields
        .iter()
        .find(|field| field.name.get(base).eq_ignore_ascii_case(name))
        .map_or(b"", |field| field.value.get(base))
}

/// `Allow`: the methods that this balancer passes on. Backends may refuse some of them.
pub fn push_allow(out: &mut Vec<u8>, trace: bool) {
    out.extend_from_slice(b"allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    out.extend_from_slice(if trace { b", TRACE\r\n" } else { b"\r\n" });
}

/// What a TRACE comes back with at its last recipient: the request as it came, without what is to
/// stay between the client and the backends (RFC 9110 §9.3.8).
pub fn trace(head: &RequestHead, base: &[u8]) -> Vec<u8> {
    const SECRET: [&[u8]; 3] = [b"authorization", b"cookie", b"proxy-authorization"];
    let mut echo = Vec::with_capacity(head.len);
    for part in [
        head.method.get(base),
        b" ",
        head.target.get(base),
        b" HTTP/1.1\r\n",
    ] {
        echo.extend_from_slice(part);
    }
    head.copy_fields(base, &mut echo, |field| {
        let name = field.name.get(base);
        !SECRET
            .iter()
            .any(|secret| name.eq_ignore_ascii_case(secret))
    });
    echo.extend_from_slice(b"\r\n");
    echo
}

/// `Retry-After` in whole seconds, at least one.
pub fn push_retry_after(out: &mut Vec<u8>, after_ns: u64) {
    out.extend_from_slice(b"retry-after: ");
    encode::push_number(out, after_ns.div_ceil(1_000_000_000).max(1));
    out.extend_from_slice(b"\r\n");
}

/// The body of an error: JSON for those who ask for it, else a line of text.
pub fn error_body(
    head: &RequestHead,
    base: &[u8],
    reason: Reason,
    request_id: &[u8],
) -> (&'static str, Vec<u8>) {
    let accept = if head.len == 0 {
        b""
    } else {
        field(head, base, b"accept")
    };
    let wants_json = memchr::memmem::find(accept, b"json").is_some();
    let id = String::from_utf8_lossy(request_id);
    if wants_json {
        let body = serde_json::json!({
            "status": reason.status(),
            "error": reason.label(),
            "message": reason.message(),
            "request_id": id,
        });
        ("application/json", format!("{body}\n").into_bytes())
    } else {
        let text = format!(
            "{} {}: {}\nrequest id: {id}\n",
            reason.status(),
            encode::phrase(reason.status()),
            reason.message(),
        );
        ("text/plain; charset=utf-8", text.into_bytes())
    }
}
