//! Heads and trailers between HTTP/2 and HTTP/1.1. No I/O.
//!
//! What comes by HTTP/2 is written down as HTTP/1.1 and then read by the strict parser of
//! [`http1`](crate::http1), as everything is, so there is one judge of what a message means. What is
//! written here can therefore be wrong only in what that parser cannot see: that a field ends where
//! it ended. Names and values are checked for it, although the h2 crate has done so before.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, Uri, request, response};

use crate::field::{Field, Known, is_trailers};
use crate::http1::encode::push_number;
use crate::http1::head::{HeadError, Length, MAX_FIELDS, RequestHead, ResponseHead};

const NOT_VALID: &str = "A header field is not valid.";

/// Writes a client's request down as HTTP/1.1. `ended` says that it has no body. Answers whether the
/// body is to be sent in chunks.
///
/// # Errors
/// The request is malformed (RFC 9113 §8.1.1), and its stream is to be reset.
pub fn request_lines(
    parts: &request::Parts,
    ended: bool,
    out: &mut Vec<u8>,
) -> Result<bool, &'static str> {
    out.extend_from_slice(parts.method.as_str().as_bytes());
    out.push(b' ');
    if parts.method == Method::CONNECT {
        let authority = parts.uri.authority().ok_or("CONNECT names nobody.")?;
        push_value(authority.as_str().as_bytes(), out)?;
    } else {
        let path = parts.uri.path_and_query().map_or("", PathAndQuery::as_str);
        // Of the forms of a target there are only these two (RFC 9113 §8.3.1): an absolute one
        // would speak of another host than `:authority` does.
        if !(path.starts_with('/') || path == "*") || path.contains(' ') {
            return Err("The path is not valid.");
        }
        push_value(path.as_bytes(), out)?;
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let authority = parts.uri.authority().map(Authority::as_str);
    if let Some(authority) = authority {
        push_line(b"host", authority.as_bytes(), out)?;
    }
    let mut cookies = false;
    for (name, value) in &parts.headers {
        if name == header::COOKIE {
            cookies = true;
        } else if name == header::HOST
            && authority.is_some_and(|host| value.as_bytes().eq_ignore_ascii_case(host.as_bytes()))
        {
            // The same once more. Another one is left for the parser, which refuses two.
        } else {
            push_field(name, value, out)?;
        }
    }
    if cookies {
        // Sent in crumbs, one field elsewhere (RFC 9113 §8.2.3).
        out.extend_from_slice(b"cookie: ");
        for (at, value) in parts.headers.get_all(header::COOKIE).iter().enumerate() {
            if at > 0 {
                out.extend_from_slice(b"; ");
            }
            push_value(value.as_bytes(), out)?;
        }
        out.extend_from_slice(b"\r\n");
    }
    let chunked = !ended && !parts.headers.contains_key(header::CONTENT_LENGTH);
    end_head(chunked, out);
    Ok(chunked)
}

/// Writes an endpoint's answer down as HTTP/1.1, a final one or one in between. Answers whether the
/// body is to be sent in chunks.
///
/// # Errors
/// The answer is malformed.
pub fn response_lines(
    parts: &response::Parts,
    ended: bool,
    head_request: bool,
    out: &mut Vec<u8>,
) -> Result<bool, &'static str> {
    let status = parts.status.as_u16();
    if status == 101 {
        return Err("HTTP/2 knows no switch of protocols.");
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    push_number(out, u64::from(status));
    out.push(b' ');
    let phrase = parts.status.canonical_reason().unwrap_or_default();
    out.extend_from_slice(phrase.as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in &parts.headers {
        push_field(name, value, out)?;
    }
    let bodiless = head_request || status < 200 || status == 204 || status == 304;
    let framed = bodiless || parts.headers.contains_key(header::CONTENT_LENGTH);
    if !framed && ended {
        out.extend_from_slice(b"content-length: 0\r\n");
    }
    let chunked = !framed && !ended;
    end_head(chunked, out);
    Ok(chunked)
}

fn end_head(chunked: bool, out: &mut Vec<u8>) {
    if chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes trailers down as the lines of a trailer section.
///
/// # Errors
/// They are malformed.
pub fn trailer_lines(trailers: &HeaderMap, out: &mut Vec<u8>) -> Result<(), &'static str> {
    for (name, value) in trailers {
        push_field(name, value, out)?;
    }
    Ok(())
}

fn push_field(
    name: &HeaderName,
    value: &HeaderValue,
    out: &mut Vec<u8>,
) -> Result<(), &'static str> {
    // Only framing of HTTP/1.1 says such things (RFC 9113 §8.2.2).
    if matches!(
        *name,
        header::CONNECTION | header::TRANSFER_ENCODING | header::UPGRADE
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
        || (name == header::TE && value != "trailers")
    {
        return Err("A header field is for connections of HTTP/1.1 only.");
    }
    push_line(name.as_str().as_bytes(), value.as_bytes(), out)
}

fn push_line(name: &[u8], value: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    if name.is_empty() || name.iter().any(|byte| matches!(byte, b':' | ..=b' ')) {
        return Err(NOT_VALID);
    }
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    push_value(value, out)?;
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn push_value(value: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    if value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return Err(NOT_VALID);
    }
    out.extend_from_slice(value);
    Ok(())
}

/// Reads an answer's head, as it is written for clients of HTTP/1.1, for a client of HTTP/2.
///
/// # Errors
/// What is wrong with it.
pub fn response(text: &Bytes, head_request: bool) -> Result<(Response<()>, Length), &'static str> {
    let mut head = ResponseHead::default();
    head.parse(text, head_request)?;
    if head.status == 101 {
        return Err("HTTP/2 knows no switch of protocols.");
    }
    let mut response = Response::new(());
    *response.status_mut() = head.status.try_into().map_err(|_| NOT_VALID)?;
    *response.headers_mut() = fields(text, &head.fields)?;
    Ok((response, head.length))
}

/// Reads a request's head, as it is written for endpoints of HTTP/1.1, for an endpoint of HTTP/2.
///
/// # Errors
/// Why it cannot be sent so.
pub fn request(text: &Bytes, scheme: &Scheme) -> Result<(Request<()>, Length), &'static str> {
    let mut head = RequestHead::default();
    head.parse(text, MAX_FIELDS, text.len())
        .map_err(HeadError::message)?;
    let mut request = Request::new(());
    let method = head.method.get(text);
    *request.method_mut() = Method::from_bytes(method).map_err(|_| NOT_VALID)?;
    let shared = |part: &[u8]| text.slice_ref(part);
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(scheme.clone());
    parts.authority = Some(
        Authority::from_maybe_shared(shared(head.host.get(text)))
            .map_err(|_| "The host cannot be named in HTTP/2.")?,
    );
    parts.path_and_query = Some(
        PathAndQuery::from_maybe_shared(shared(head.target.get(text)))
            .map_err(|_| "The request target cannot be written in HTTP/2.")?,
    );
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| NOT_VALID)?;
    *request.headers_mut() = fields(text, &head.fields)?;
    Ok((request, head.length))
}

/// The fields that are not for one connection of HTTP/1.1 only.
fn fields(text: &Bytes, fields: &[Field]) -> Result<HeaderMap, &'static str> {
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let (name, value) = (field.name.get(text), field.value.get(text));
        let kept = match field.known {
            Known::Host | Known::Connection | Known::TransferEncoding | Known::Upgrade => false,
            Known::HopByHop => is_trailers(name, value),
            _ => !field.connection_only,
        };
        if kept {
            let name = HeaderName::from_bytes(name).map_err(|_| NOT_VALID)?;
            let value = HeaderValue::from_maybe_shared(text.slice_ref(value));
            map.try_append(name, value.map_err(|_| NOT_VALID)?)
                .map_err(|_| NOT_VALID)?;
        }
    }
    Ok(map)
}

/// Reads the lines of a trailer section.
///
/// # Errors
/// What is wrong with them.
pub fn trailers(lines: &[u8]) -> Result<HeaderMap, &'static str> {
    let mut map = HeaderMap::new();
    for line in lines.split(|&byte| byte == b'\n') {
        let Some(line) = line.strip_suffix(b"\r") else {
            continue;
        };
        let colon = memchr::memchr(b':', line).ok_or(NOT_VALID)?;
        let name = HeaderName::from_bytes(&line[..colon]).map_err(|_| NOT_VALID)?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        map.try_append(name, value.map_err(|_| NOT_VALID)?)
            .map_err(|_| NOT_VALID)?;
    }
    Ok(map)
}
