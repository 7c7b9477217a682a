//! What is written: the request head for an endpoint, the response head for a client, and the
//! answers that the balancer makes itself. No I/O.

use std::net::IpAddr;

use super::head::{Length, RequestHead, ResponseHead};
use crate::edit::Edit;
use crate::field::{Field, Known, is_cross_origin, is_trailers};
use crate::identity::Identity;

/// What the balancer knows of a request beyond its head.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools)] // Facts that are independent of each other.
pub struct Origin<'a> {
    /// The socket's other end; `None` for a Unix socket.
    pub peer: Option<IpAddr>,
    /// The client as far as trusted proxies tell; the peer where none does.
    pub client: Option<IpAddr>,
    /// The peer is a trusted proxy: what it says of the client is kept.
    pub trusted: bool,
    /// `http` or `https`, as spoken by the client.
    pub scheme: &'static str,
    /// The client speaks TLS, here or as a trusted proxy says.
    pub secure: bool,
    /// Who the client is by its certificate.
    pub identity: Option<&'a Identity>,
    /// Also send RFC 7239 `Forwarded`.
    pub forwarded: bool,
    /// The control plane's own route.
    pub internal: bool,
    /// The route lets requests switch protocols.
    pub upgrade: bool,
    /// The identifier made for this request, in case it has none of its own.
    pub request_id: &'a [u8],
    /// The balancer's name for `Via`.
    pub server_name: &'a str,
}

/// What an endpoint is asked for.
#[derive(Debug, Clone, Copy)]
pub struct UpstreamTarget<'a> {
    /// Names the endpoint to itself where the client, of HTTP/1.0, named no host.
    pub authority: &'a str,
    /// Path and query; `None` is the client's own.
    pub target: Option<&'a [u8]>,
    /// The host; `None` is the client's own.
    pub host: Option<&'a [u8]>,
    /// The endpoint is asked by HTTP/2, where `TE: trailers` is for it and not for the connection.
    pub http2: bool,
}

/// Fields that every request sent to an endpoint has, the control plane's own aside.
const MADE_HERE: [&[u8]; 6] = [
    b"via",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-real-ip",
    b"x-request-id",
];

/// The identifier that goes with a request: a trusted proxy's, or the one made here.
pub fn request_id<'a>(head: &RequestHead, base: &'a [u8], origin: &Origin<'a>) -> &'a [u8] {
    if origin.trusted {
        let mut fields = head.fields.iter();
        let field = fields.find(|f| f.known == Known::XRequestId && !f.value.is_empty());
        if let Some(field) = field {
            return field.value.get(base);
        }
    }
    origin.request_id
}

/// The head to send to an endpoint. `authority` names the endpoint to itself where the client, of
/// HTTP/1.0 then, named no host.
#[allow(clippy::too_many_lines)] // One line of the head after the other.
pub fn request_head(
    out: &mut Vec<u8>,
    head: &RequestHead,
    base: &[u8],
    origin: &Origin<'_>,
    aim: &UpstreamTarget<'_>,
    edit: &Edit,
) {
    out.extend_from_slice(head.method.get(base));
    out.push(b' ');
    let target = aim.target.unwrap_or_else(|| head.target.get(base));
    match target.first() {
        // An absolute target without a path is for the server as a whole with OPTIONS, else for
        // the root (RFC 9112 §3.2.4).
        None if head.method.get(base) == b"OPTIONS" => out.push(b'*'),
        None => out.push(b'/'),
        Some(b'?') => {
            out.push(b'/');
            out.extend_from_slice(target);
        }
        Some(_) => out.extend_from_slice(target),
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if !edit.removes(b"host") {
        out.extend_from_slice(b"host: ");
        out.extend_from_slice(match aim.host {
            Some(host) => host,
            None if head.host.is_empty() => aim.authority.as_bytes(),
            None => head.host.get(base),
        });
        out.extend_from_slice(b"\r\n");
    }
    let keep_forwarding = origin.trusted || origin.internal;
    // What an edit removes or sets is not added here either.
    let mut has_proto = edit.removes(b"x-forwarded-proto");
    let mut has_host = edit.removes(b"x-forwarded-host");
    let mut has_real_ip = edit.removes(b"x-real-ip");
    let mut has_id = edit.removes(b"x-request-id");
    let mut has_forwarded_for = false;
    let mut has_length = false;
    head.copy_fields(base, out, |field| {
        if aim.http2 && field.known == Known::HopByHop {
            return is_trailers(field.name.get(base), field.value.get(base));
        }
        if field.connection_only || edit.removes_alike(field.name.get(base)) {
            return false;
        }
        if edit.hides_cookies() && is_cookie(field, base) {
            return false;
        }
        match field.known {
            Known::Other | Known::Via | Known::Date => true,
            Known::ContentLength => {
                has_length = true;
                false
            }
            Known::Expect => head.expects_continue,
            Known::XForwardedFor => {
                has_forwarded_for = true;
                origin.internal
            }
            Known::XForwardedProto => {
                has_proto |= keep_forwarding;
                keep_forwarding
            }
            Known::XForwardedHost => {
                has_host |= keep_forwarding;
                keep_forwarding
            }
            Known::XRealIp => {
                has_real_ip |= keep_forwarding;
                keep_forwarding
            }
            Known::XRequestId => {
                let keep = keep_forwarding && !field.value.is_empty() && !has_id;
                has_id |= keep;
                keep
            }
            Known::Forwarded => keep_forwarding,
            Known::ClientCert => keep_forwarding && origin.identity.is_none(),
            Known::Host
            | Known::TransferEncoding
            | Known::Connection
            | Known::HopByHop
            | Known::Upgrade
            | Known::Own
            | Known::Lookalike => false,
        }
    });
    if edit.hides_cookies() && !edit.removes(b"cookie") {
        let cookies = head.fields.iter().filter(|field| is_cookie(field, base));
        for field in cookies.filter(|field| !field.connection_only) {
            edit.push_cookies(out, field.name.get(base), field.value.get(base));
        }
    }
    match head.length {
        Length::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        // Written anew: some servers stumble over zeros in front, or over tabs around it.
        Length::Known(length) => {
            out.extend_from_slice(b"content-length: ");
            push_number(out, length);
            out.extend_from_slice(b"\r\n");
        }
        Length::None if has_length => out.extend_from_slice(b"content-length: 0\r\n"),
        Length::None | Length::UntilClose => {}
    }
    if origin.upgrade
        && let Some(protocols) = head.upgrade
    {
        push_upgrade(out, protocols.get(base));
    }
    if origin.internal {
        out.extend_from_slice(b"evenflow-client: ");
        match origin.peer {
            Some(peer) => push_ip(out, peer),
            None => out.extend_from_slice(b"unix"),
        }
        out.extend_from_slice(b"\r\nevenflow-scheme: ");
        out.extend_from_slice(origin.scheme.as_bytes());
        out.extend_from_slice(b"\r\n");
    } else {
        if let Some(peer) = origin.peer
            && !edit.removes(b"x-forwarded-for")
        {
            out.extend_from_slice(b"x-forwarded-for: ");
            if has_forwarded_for && origin.trusted {
                for field in &head.fields {
                    if field.known == Known::XForwardedFor && !field.value.is_empty() {
                        out.extend_from_slice(field.value.get(base));
                        out.extend_from_slice(b", ");
                    }
                }
            }
            push_ip(out, peer);
            out.extend_from_slice(b"\r\n");
        }
        if !has_real_ip && let Some(client) = origin.client {
            out.extend_from_slice(b"x-real-ip: ");
            push_ip(out, client);
            out.extend_from_slice(b"\r\n");
        }
        if !has_proto {
            out.extend_from_slice(b"x-forwarded-proto: ");
            out.extend_from_slice(origin.scheme.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        if !has_host && !head.host.is_empty() {
            out.extend_from_slice(b"x-forwarded-host: ");
            out.extend_from_slice(head.host.get(base));
            out.extend_from_slice(b"\r\n");
        }
        if !has_id {
            out.extend_from_slice(b"x-request-id: ");
            out.extend_from_slice(origin.request_id);
            out.extend_from_slice(b"\r\n");
        }
        if let Some(identity) = origin.identity {
            for (name, value) in [
                ("x-client-cert-subject", &identity.subject),
                ("x-client-cert-fingerprint", &identity.fingerprint),
            ] {
                if !edit.removes(name.as_bytes()) {
                    for part in [name, ": ", value, "\r\n"] {
                        out.extend_from_slice(part.as_bytes());
                    }
                }
            }
        }
        if origin.forwarded && !edit.removes(b"forwarded") {
            push_forwarded(out, head, base, origin);
        }
    }
    if !origin.internal && !edit.removes(b"via") {
        out.extend_from_slice(if head.version_10 {
            b"via: 1.0 "
        } else if head.http2 {
            b"via: 2.0 "
        } else {
            b"via: 1.1 "
        });
        out.extend_from_slice(origin.server_name.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    edit.append(out, |name| {
        (!origin.internal && MADE_HERE.contains(&name)) || has_field(&head.fields, base, name)
    });
    out.extend_from_slice(b"\r\n");
}

fn is_cookie(field: &Field, base: &[u8]) -> bool {
    field.name.get(base).eq_ignore_ascii_case(b"cookie")
}

fn has_field(fields: &[Field], base: &[u8], name: &[u8]) -> bool {
    fields
        .iter()
        .any(|field| field.name.get(base).eq_ignore_ascii_case(name))
}

/// `Forwarded` (RFC 7239), as a line of its own: lines of one name add up to one list.
fn push_forwarded(out: &mut Vec<u8>, head: &RequestHead, base: &[u8], origin: &Origin<'_>) {
    out.extend_from_slice(b"forwarded: for=");
    match origin.peer {
        Some(IpAddr::V4(ip)) => push_ip(out, IpAddr::V4(ip)),
        Some(IpAddr::V6(ip)) => {
            out.extend_from_slice(b"\"[");
            push_ip(out, IpAddr::V6(ip));
            out.extend_from_slice(b"]\"");
        }
        None => out.extend_from_slice(b"unknown"),
    }
    if !head.host.is_empty() {
        out.extend_from_slice(b";host=\"");
        out.extend_from_slice(head.host.get(base));
        out.push(b'"');
    }
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(origin.scheme.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// An address in its usual form. IPv4 is written by hand: it is in every request.
pub fn push_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(v4) => {
            let mut digits = itoa::Buffer::new();
            for (index, octet) in v4.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                out.extend_from_slice(digits.format(octet).as_bytes());
            }
        }
        IpAddr::V6(v6) => out.extend_from_slice(v6.to_string().as_bytes()),
    }
}

/// What the connection to the client needs of a response head.
#[derive(Debug, Clone, Copy)]
pub struct Delivery {
    /// The client speaks HTTP/1.0.
    pub version_10: bool,
    /// The connection is kept after this answer.
    pub keep_alive: bool,
    /// The body is sent in chunks.
    pub chunked: bool,
}

/// The head to send to a client. `cross_origin` says that the balancer answers for cross-origin
/// rules: the endpoint's own fields of that kind are left out.
pub fn response_head(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    base: &[u8],
    delivery: Delivery,
    edit: &Edit,
    cross_origin: bool,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_number(out, u64::from(head.status));
    out.push(b' ');
    out.extend_from_slice(head.phrase.get(base));
    out.extend_from_slice(b"\r\n");
    head.copy_fields(base, out, |field| {
        !field.connection_only
            && match field.known {
                Known::TransferEncoding
                | Known::Connection
                | Known::HopByHop
                | Known::Upgrade
                | Known::Own => false,
                // Without a body there must be no length either (RFC 9110 §8.6).
                Known::ContentLength => {
                    !delivery.chunked && head.status >= 200 && head.status != 204
                }
                _ => {
                    let name = field.name.get(base);
                    !(edit.removes(name) || cross_origin && is_cross_origin(name))
                }
            }
    });
    if delivery.chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    connection_line(out, delivery);
    edit.append(out, |name| has_field(&head.fields, base, name));
}

fn connection_line(out: &mut Vec<u8>, delivery: Delivery) {
    if !delivery.keep_alive {
        out.extend_from_slice(b"connection: close\r\n");
    } else if delivery.version_10 {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
}

/// The fields that ask for, or agree to, a switch of protocols.
pub fn push_upgrade(out: &mut Vec<u8>, protocols: &[u8]) {
    out.extend_from_slice(b"connection: upgrade\r\nupgrade: ");
    out.extend_from_slice(protocols);
    out.extend_from_slice(b"\r\n");
}

/// An answer of the balancer's own, without the empty line and body, which follow the caller's
/// further lines.
pub fn own_head(
    out: &mut Vec<u8>,
    status: u16,
    date: &[u8],
    content: Option<(&str, usize)>,
    delivery: Delivery,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_number(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(phrase(status).as_bytes());
    out.extend_from_slice(b"\r\ndate: ");
    out.extend_from_slice(date);
    out.extend_from_slice(b"\r\n");
    if let Some((media_type, length)) = content {
        out.extend_from_slice(b"content-type: ");
        out.extend_from_slice(media_type.as_bytes());
        out.extend_from_slice(b"\r\ncontent-length: ");
        push_number(out, length as u64);
        out.extend_from_slice(b"\r\n");
    }
    connection_line(out, delivery);
}

/// Puts further lines, each with its CRLF, in front of the empty line that ends a head.
pub fn insert_lines(head: &mut Vec<u8>, lines: &[u8]) {
    if !lines.is_empty() {
        head.truncate(head.len() - 2);
        head.extend_from_slice(lines);
        head.extend_from_slice(b"\r\n");
    }
}

/// A number in decimal digits.
pub fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The reason phrase of a status the balancer answers with itself.
pub fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}
