//! Heads of HTTP/2: written down as HTTP/1.1 they mean what they meant, and nothing beside it.

use std::str;

use bytes::Bytes;
use evenflow_wire::http1::head::{Length, MAX_FIELDS, RequestHead, Scan, scan};
use evenflow_wire::http2::translate::{request, request_lines, trailer_lines, trailers};
use http::uri::{Parts, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};

use super::{Target, rule};

/// A request: method, path and authority, then fields, one a line.
pub const REQUEST: Target = Target {
    name: "http2_request",
    seeds: &[
        b"GET\n/\na.test\n",
        b"POST\n/a?b=c\na.test:80\ncontent-length:3\nx-a:1\ncookie:a=b\ncookie:c=d",
        b"OPTIONS\n*\n[::1]\nte:trailers\nhost:[::1]",
        b"PUT\n/x\na\nexpect:100-continue\nvia:2.0 x",
    ],
    words: &[
        b"\r\n",
        b" HTTP/1.1\r\nx: y",
        b"host:b\n",
        b"transfer-encoding:chunked\n",
        b"connection:close\n",
        b"content-length:5\n",
        b"cookie:x\n",
        b"http://other.test/",
        b"\r\n\r\nGET / HTTP/1.1\r\n",
        b"x_y: ",
        b": ",
        b"\t",
        b"\0",
        b"user@",
    ],
    check,
};

type Pair = (Vec<u8>, Vec<u8>);

fn check(input: &[u8]) -> Result<(), String> {
    let mut lines = input.split(|&byte| byte == b'\n');
    let (Some(method), Some(path), Some(authority)) = (lines.next(), lines.next(), lines.next())
    else {
        return Ok(());
    };
    let mut parts = Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = authority.try_into().ok();
    parts.path_and_query = path.try_into().ok();
    let Ok(uri) = Uri::from_parts(parts) else {
        return Ok(());
    };
    let Ok(mut given) = Request::builder().method(method).uri(uri).body(()) else {
        return Ok(());
    };
    let mut fields = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(&line[colon + 1..]);
        if let (Ok(name), Ok(value)) = (name, value) {
            fields.append(name, value);
        }
    }
    check_trailers(&fields)?;
    *given.headers_mut() = fields;
    let (parts, ()) = given.into_parts();
    for ended in [false, true] {
        let mut text = Vec::new();
        let Ok(chunked) = request_lines(&parts, ended, &mut text) else {
            continue;
        };
        rule(!(ended && chunked), "a body where there is none")?;
        rule(
            scan(&text, 0) == Ok(Scan::Complete(text.len())),
            "what is written is not one head",
        )?;
        let mut head = RequestHead::default();
        if head.parse(&text, MAX_FIELDS, text.len()).is_err() {
            continue;
        }
        check_meaning(&parts, &head, &text)?;
        rule(
            (head.length == Length::Chunked) == chunked,
            "the framing is not what was said",
        )?;
        check_way_back(&parts, &head, text)?;
    }
    Ok(())
}

fn check_meaning(
    parts: &http::request::Parts,
    head: &RequestHead,
    text: &[u8],
) -> Result<(), String> {
    rule(
        head.method.get(text) == parts.method.as_str().as_bytes(),
        "the method is another",
    )?;
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    rule(
        head.target.get(text) == path.as_bytes(),
        "the target is another",
    )?;
    let host = match parts.uri.authority() {
        Some(authority) => authority.as_str().as_bytes(),
        None => parts
            .headers
            .get("host")
            .map_or(&b""[..], HeaderValue::as_bytes),
    };
    rule(
        head.host.get(text) == host.trim_ascii(),
        "the host is another",
    )?;
    let own = ["host", "transfer-encoding", "cookie"];
    let mut expected = pairs(&parts.headers, &own);
    let mut found: Vec<Pair> = head
        .fields
        .iter()
        .map(|field| {
            (
                field.name.get(text).to_vec(),
                field.value.get(text).to_vec(),
            )
        })
        .filter(|(name, _)| !own.map(str::as_bytes).contains(&name.as_slice()))
        .collect();
    expected.sort();
    found.sort();
    rule(found == expected, "the fields are others")
}

/// What is read for HTTP/2 again is the request that was given.
fn check_way_back(
    parts: &http::request::Parts,
    head: &RequestHead,
    text: Vec<u8>,
) -> Result<(), String> {
    if head.fields.iter().any(|field| field.connection_only) {
        return Err("a field is for the connection alone".into());
    }
    let Ok((back, length)) = request(&Bytes::from(text), &Scheme::HTTP) else {
        return Ok(());
    };
    rule(length == head.length, "the length is another")?;
    rule(back.method() == parts.method, "the method changed")?;
    // As text: an empty path and `/` are the same, and not equal to the http crate.
    let path = |uri: &Uri| uri.path_and_query().map(|path| path.as_str().to_owned());
    rule(path(back.uri()) == path(&parts.uri), "the path changed")?;
    let own = ["host", "cookie"];
    let (mut now, mut before) = (pairs(back.headers(), &own), pairs(&parts.headers, &own));
    now.sort();
    before.sort();
    rule(now == before, "the fields changed")
}

fn pairs(fields: &HeaderMap, but: &[&str]) -> Vec<Pair> {
    fields
        .iter()
        .filter(|(name, _)| !but.contains(&name.as_str()))
        .map(|(name, value)| (name.as_str().into(), value.as_bytes().trim_ascii().to_vec()))
        .collect()
}

fn check_trailers(fields: &HeaderMap) -> Result<(), String> {
    let mut lines = Vec::new();
    if trailer_lines(fields, &mut lines).is_err() {
        return Ok(());
    }
    let back = trailers(&lines).map_err(|error| format!("trailers: {error}"))?;
    rule(
        pairs(&back, &[]) == pairs(fields, &[]),
        "the trailers changed",
    )
}
