//! Heads: what is accepted has one meaning, and what is written from it has the same.

use evenflow_wire::edit::Edit;
use evenflow_wire::http1::encode::{Delivery, Origin, UpstreamTarget, request_head, response_head};
use evenflow_wire::http1::head::{Length, RequestHead, ResponseHead, Scan, scan};

use super::{Target, reference, rule};

/// A request's head.
pub const REQUEST: Target = Target {
    name: "request_head",
    seeds: &[
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /a?b=c HTTP/1.1\r\nHost: a.test:80\r\nContent-Length: 3\r\n\r\n",
        b"PUT /x HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, x-a\r\nX-A: 1\r\n\r\n",
        b"GET http://b.test/path HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    ],
    words: REQUEST_WORDS,
    check: check_request,
};

/// Words that parsers of requests disagree about.
pub const REQUEST_WORDS: &[&[u8]] = &[
    b"Host: b\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: +3\r\n",
    b"Content-Length:\t0003 \r\n",
    b"Content_Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Transfer_Encoding: chunked\r\n",
    b"transfer-encoding:\tCHUNKED\r\n",
    b"Connection: close, host, content-length\r\n",
    b"Connection: transfer-encoding, x-forwarded-for\r\n",
    b"Upgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"X_Forwarded_For: 10.0.0.1\r\n",
    b"Evenflow-Client: 10.0.0.1\r\n",
    b" HTTP/1.0",
    b" HTTP/1.1",
    b"http://other.test/%2e%2e/",
    b"*",
    b"OPTIONS ",
    b"CONNECT ",
    b"\r\n ",
    b"\r\n\t",
    b" :",
];

/// A response's head.
pub const RESPONSE: Target = Target {
    name: "response_head",
    seeds: RESPONSE_SEEDS,
    words: RESPONSE_WORDS,
    check: check_response,
};

/// Well-formed responses.
pub const RESPONSE_SEEDS: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.0 404 Not Found\r\nContent-Type: text/plain\r\n\r\nabc",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\nETag: \"a\"\r\n\r\n",
];

/// Words that parsers of responses disagree about.
pub const RESPONSE_WORDS: &[&[u8]] = &[
    b"Content-Length: 3\r\n",
    b"Content-Length: 3, 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: content-length, x\r\n",
    b"Set-Cookie: a=b\r\n",
    b"HTTP/1.0 ",
    b"HTTP/1.1 204 No Content\r\n",
    b"HTTP/1.1 103 Early Hints\r\n\r\n",
    b" 304 ",
    b" 999 ",
    b"\r\n ",
    b"Date: x\r\n",
    b"Upgrade: h2c\r\n",
];

/// The head at the beginning of some bytes, if there is a whole one.
pub fn whole(input: &[u8]) -> Option<&[u8]> {
    match scan(input, 0) {
        Ok(Scan::Complete(len)) => Some(&input[..len]),
        _ => None,
    }
}

/// What the balancer says of itself in these checks.
fn origin() -> Origin<'static> {
    Origin {
        peer: Some([192, 0, 2, 1].into()),
        client: Some([192, 0, 2, 1].into()),
        trusted: false,
        scheme: "http",
        secure: false,
        identity: None,
        forwarded: true,
        internal: false,
        upgrade: false,
        request_id: b"0123456789abcdef",
        server_name: "evenflow",
    }
}

/// Appends a request's head as it is forwarded.
pub fn forwarded(out: &mut Vec<u8>, head: &RequestHead, bytes: &[u8]) {
    let aim = UpstreamTarget {
        authority: "b.example",
        target: None,
        host: None,
        http2: false,
    };
    request_head(out, head, bytes, &origin(), &aim, &Edit::default());
}

fn has_bare_line_end(bytes: &[u8]) -> bool {
    let feed = (0..bytes.len()).any(|i| bytes[i] == b'\n' && (i == 0 || bytes[i - 1] != b'\r'));
    let carriage = (0..bytes.len()).any(|i| bytes[i] == b'\r' && bytes.get(i + 1) != Some(&b'\n'));
    feed || carriage
}

fn check_request(input: &[u8]) -> Result<(), String> {
    let Some(bytes) = whole(input) else {
        return Ok(());
    };
    let mut head = RequestHead::default();
    if head.parse(bytes, 100, 8192).is_err() {
        return Ok(());
    }
    rule(!has_bare_line_end(bytes), "a bare CR or LF was accepted")?;
    let mut out = Vec::new();
    forwarded(&mut out, &head, bytes);
    let lines = reference::lines(&out).ok_or("what is forwarded is no head")?;
    let count = |name: &str| lines.iter().filter(|(field, _)| field == name).count();

    rule(
        count("host") == 1,
        "what is forwarded has not exactly one Host",
    )?;
    rule(
        count("content-length") + count("transfer-encoding") <= 1,
        "what is forwarded has two framings",
    )?;
    for name in [
        "upgrade",
        "connection",
        "te",
        "keep-alive",
        "proxy-connection",
        "evenflow-client",
    ] {
        rule(count(name) == 0, &format!("{name} was forwarded"))?;
    }
    for name in [
        "x-forwarded-for",
        "x-real-ip",
        "x-forwarded-proto",
        "x-request-id",
    ] {
        let alike = lines
            .iter()
            .filter(|(field, _)| field.replace('_', "-") == name);
        rule(
            alike.count() == 1,
            &format!("{name} is said more than once, or not"),
        )?;
    }
    if head.host.is_empty() {
        return Ok(());
    }
    let mut again = RequestHead::default();
    again
        .parse(&out, 200, 16_384)
        .map_err(|reason| format!("what is forwarded is refused: {reason:?}"))?;
    rule(again.length == head.length, "the body's length changed")?;
    rule(
        again.method.get(&out) == head.method.get(bytes),
        "the method changed",
    )?;
    rule(
        again.host.get(&out) == head.host.get(bytes),
        "the host changed",
    )?;
    rule(
        again.expects_continue <= head.expects_continue,
        "an expectation was made up",
    )?;
    // Forwarded once more, as by a second balancer, it stays what it is.
    let mut twice = Vec::new();
    request_head(
        &mut twice,
        &again,
        &out,
        &origin(),
        &UpstreamTarget {
            authority: "b.example",
            target: None,
            host: None,
            http2: false,
        },
        &Edit::default(),
    );
    let mut third = RequestHead::default();
    third
        .parse(&twice, 200, 16_384)
        .map_err(|reason| format!("what is forwarded twice is refused: {reason:?}"))?;
    rule(
        third.target.get(&twice) == again.target.get(&out),
        "the target changes with each forwarding",
    )
}

fn check_response(input: &[u8]) -> Result<(), String> {
    let Some(bytes) = whole(input) else {
        return Ok(());
    };
    let mut head = ResponseHead::default();
    if head.parse(bytes, false).is_err() {
        return Ok(());
    }
    rule(!has_bare_line_end(bytes), "a bare CR or LF was accepted")?;
    rule(
        head.length != Length::UntilClose || !head.keep_alive,
        "a connection is kept whose body ends by its close",
    )?;
    let chunked = matches!(head.length, Length::Chunked | Length::UntilClose);
    let delivery = Delivery {
        version_10: false,
        keep_alive: true,
        chunked,
    };
    let mut out = Vec::new();
    response_head(&mut out, &head, bytes, delivery, &Edit::default(), false);
    out.extend_from_slice(b"\r\n");
    let mut again = ResponseHead::default();
    again
        .parse(&out, false)
        .map_err(|reason| format!("what is relayed is refused: {reason}"))?;
    let wanted = if chunked {
        Length::Chunked
    } else {
        head.length
    };
    let bodiless = head.status < 200 || matches!(head.status, 204 | 304);
    rule(
        again.length == wanted
            || bodiless
            || (wanted == Length::None && again.length == Length::None),
        "the body's length changed",
    )?;
    rule(again.status == head.status, "the status changed")?;
    rule(again.keep_alive, "the origin's wish to close was relayed")
}
