//! A connection's whole stream of requests: what is forwarded holds exactly the requests decided on.
//!
//! The smuggling oracle: requests are taken from the input as the exchange takes them, each is
//! written as it goes to an endpoint, and a strict reference must read from all of that as many
//! requests, with the same bodies.

use evenflow_wire::http1::head::{Length, RequestHead};

use super::bodies::decoded;
use super::heads::{REQUEST_WORDS, forwarded, whole};
use super::{Target, reference, rule};

/// A stream of requests with their bodies.
pub const STREAM: Target = Target {
    name: "request_stream",
    seeds: &[
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;x\r\na\r\n0\r\nX: y\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 24\r\n\r\nGET /smuggled HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nDELETE / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    ],
    words: REQUEST_WORDS,
    check,
};

fn check(input: &[u8]) -> Result<(), String> {
    let mut rest = input;
    let mut written = Vec::new();
    let mut bodies = Vec::new();
    while let Some(bytes) = whole(rest) {
        let mut head = RequestHead::default();
        if head.parse(bytes, 100, 8192).is_err() {
            break;
        }
        let Ok(read) = decoded(&rest[bytes.len()..], rest.len(), head.length) else {
            break;
        };
        if !read.done {
            break;
        }
        forwarded(&mut written, &head, bytes);
        if head.length == Length::Chunked {
            read.push_chunked(&mut written);
        } else {
            written.extend_from_slice(&read.data);
        }
        bodies.push(read.data);
        rest = &rest[rest.len() - read.rest.len()..];
        if !head.keep_alive {
            break;
        }
    }
    let Some(seen) = reference::requests(&written) else {
        return Err("the reference cannot read what is forwarded".into());
    };
    rule(
        seen.len() == bodies.len(),
        &format!("{} requests became {}", bodies.len(), seen.len()),
    )?;
    rule(seen == bodies, "a body changed on the way")
}
