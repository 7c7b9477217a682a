//! What stands before a connection's own protocol: PROXY headers, and TLS client hellos.

use evenflow_wire::client_hello;
use evenflow_wire::proxy_protocol::{self, ProxyScan};

use super::{Target, rule};

/// A PROXY header.
pub const PROXY_HEADER: Target = Target {
    name: "proxy_header",
    seeds: &[
        b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\nGET /",
        b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n",
        b"PROXY UNKNOWN\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13\xc0\0\x02\x07\xc0\0\x02\x08\0\x50\x01\xbb\x03\0\x04abcd",
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    ],
    words: &[b"PROXY ", b"TCP4", b"TCP6", b"UNKNOWN", b"\r\n", b"\x03\0\x04", b"\x21\x21\0\x24"],
    check: check_proxy_header,
};

/// A TLS client hello.
pub const CLIENT_HELLO: Target = Target {
    name: "client_hello",
    seeds: &[
        b"\x16\x03\x01\0\x4e\x01\0\0\x4a\x03\x03................................\0\0\x02\x13\x01\x01\0\0\x1f\0\0\0\x0b\0\x09\0\0\x06a.test\0\x10\0\x0c\0\x0a\x02h2\x06http/1",
        b"\x16\x03\x01\0\x05\x01\0\0\x01\x03",
    ],
    words: &[b"\x16\x03\x01", b"\0\0\0\x0b", b"\0\x10\0\x05", b"*.test", b"A.TEST", b"\0\0"],
    check: check_client_hello,
};

fn check_proxy_header(input: &[u8]) -> Result<(), String> {
    let mut taken = 0;
    loop {
        match proxy_protocol::scan(&input[..taken]) {
            Ok(ProxyScan::Needs(0)) => return Err("nothing more is needed, yet it goes on".into()),
            Ok(ProxyScan::Needs(more)) if taken + more > input.len() => return Ok(()),
            Ok(ProxyScan::Needs(more)) => taken += more,
            Ok(ProxyScan::Complete(length, said)) => {
                rule(length == taken, "bytes behind the header were taken")?;
                let same = proxy_protocol::scan(input) == Ok(ProxyScan::Complete(length, said));
                return rule(same, "in pieces it is read otherwise");
            }
            Err(_) => {
                let refused = proxy_protocol::scan(input).is_err();
                return rule(refused, "in pieces it is refused, as a whole it is not");
            }
        }
    }
}

fn check_client_hello(input: &[u8]) -> Result<(), String> {
    let whole = client_hello::parse(input);
    if input.len() < client_hello::MAX_BYTES {
        for end in 0..input.len() {
            match client_hello::parse(&input[..end]) {
                Ok(None) => {}
                found => return rule(found == whole, "with more bytes it is read otherwise"),
            }
        }
    }
    let Ok(Some(hello)) = whole else {
        return Ok(());
    };
    let name = hello.server_name.unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
    rule(
        name.bytes().all(plain),
        "a server's name that is none was accepted",
    )
}
