//! HTTP/2: frames, field blocks and connections. What is read means one thing, however it comes in,
//! and what is written down as HTTP/1.1 means the same and nothing beside it.

use evenflow_wire::http1::head::{Length, MAX_FIELDS, RequestHead, Scan, scan};
use evenflow_wire::http2::frame::{self, HEADER_LEN};
use evenflow_wire::http2::hpack::{self, Decoder};
use evenflow_wire::http2::section::{Kind, Section};
use evenflow_wire::http2::translate::{request_block, request_text, response_text, trailer_block};
use evenflow_wire::http2::{Config, Connection, Event, PREFACE, Role};

use super::{Target, rule};

/// A request: a field a line, `name:value`; of a pseudo-field the name begins with a colon.
pub const REQUEST: Target = Target {
    name: "http2_request",
    seeds: &[
        b":method:GET\n:scheme:http\n:path:/\n:authority:a.test",
        b":method:POST\n:scheme:https\n:path:/a?b=c\n:authority:a.test:80\ncontent-length:3\nx-a:1\ncookie:a=b\ncookie:c=d",
        b":method:OPTIONS\n:scheme:http\n:path:*\n:authority:[::1]\nte:trailers\nhost:[::1]",
        b":status:200\ncontent-length:5\nvia:2.0 x",
        b"grpc-status:0\nx:",
    ],
    words: &[
        b"\r\n",
        b" HTTP/1.1\r\nx: y",
        b"\nhost:b\n",
        b"\ntransfer-encoding:chunked\n",
        b"\nconnection:close\n",
        b"\ncontent-length:5\n",
        b"\ncookie:x\n",
        b"http://other.test/",
        b"\r\n\r\nGET / HTTP/1.1\r\n",
        b"\n:path:/other\n",
        b": ",
        b"\t",
        b"\0",
        b"user@",
    ],
    check: check_message,
};

/// A field block.
pub const BLOCK: Target = Target {
    name: "hpack_block",
    seeds: &[
        b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
        b"\x82\x86\x84\xbe\x58\x08no-cache",
        b"\x40\x0acustom-key\x0dcustom-header\xbe",
        b"\x3f\xe1\x01\x48\x82\x64\x02\x58\x85\xae\xc3\x77\x1a\x4b",
        b"\x10\x08password\x06secret\x20",
    ],
    words: &[
        b"\x20",
        b"\x3f\xe1\x1f",
        b"\xbe",
        b"\xbf",
        b"\xff",
        b"\x40\x01a\x01b",
        b"\x7f",
        b"\x80",
    ],
    check: check_block,
};

/// What a client sends behind its preface.
pub const FRAMES: Target = Target {
    name: "http2_frames",
    seeds: &[
        b"\0\0\0\x04\0\0\0\0\0\0\0\x04\x01\x05\0\0\0\x01\x82\x86\x84\x81",
        b"\0\0\0\x04\0\0\0\0\0\0\0\x03\x01\x04\0\0\0\x01\x83\x86\x84\0\0\x03\0\x01\0\0\0\x01abc",
        b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\x05\0\0\x08\x06\0\0\0\0\0pingpong\0\0\x04\x08\0\0\0\0\0\0\0\0\x05",
        b"\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\0\0\0\0\x01\x82\0\0\x02\x09\x04\0\0\0\x01\x86\x84\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08",
        b"\0\0\0\x04\0\0\0\0\0\0\0\x03\x01\x04\0\0\0\x01\x83\x86\x84\0\0\x06\0\x09\0\0\0\x01\x02abc\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0",
    ],
    words: &[
        b"\0\0\0\x04\x01\0\0\0\0",
        b"\0\0\0\x01\x05\0\0\0\x03",
        b"\0\0\x03\x01\x04\0\0\0\x03\x83\x86\x84",
        b"\0\0\x01\0\0\0\0\0\x01x",
        b"\0\0\0\x09\x04\0\0\0\x01",
        b"\0\0\x04\x08\0\0\0\0\x01\0\0\0\x01",
        b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08",
        b"\0\x40\0",
        b"\x7f\xff\xff\xff",
    ],
    check: check_frames,
};

fn check_message(input: &[u8]) -> Result<(), String> {
    let mut block = Vec::new();
    let mut given = Vec::new();
    for line in input.split(|&byte| byte == b'\n') {
        let from = usize::from(line.first() == Some(&b':'));
        if let Some(colon) = line[from..].iter().position(|&byte| byte == b':') {
            let (name, value) = (&line[..from + colon], &line[from + colon + 1..]);
            hpack::field(name, value, &mut block);
            given.push((name, value));
        }
    }
    for (kind, ended) in [
        (Kind::Request, true),
        (Kind::Request, false),
        (Kind::Response, false),
        (Kind::Trailers, true),
    ] {
        let mut section = Section::default();
        let decoded = section.decode(&mut Decoder::default(), &block, kind, 1 << 20);
        rule(decoded.is_ok(), "what the encoder writes is not decoded")?;
        if section.malformed().is_some() {
            continue;
        }
        match kind {
            Kind::Request => check_request(&section, ended, &given)?,
            Kind::Response => {
                let mut text = Vec::new();
                response_text(&section, "OK", ended, false, &mut text);
                rule(
                    scan(&text, 0) == Ok(Scan::Complete(text.len())),
                    "what is written is not one head",
                )?;
            }
            Kind::Trailers => {
                let mut back = Vec::new();
                rule(
                    trailer_block(section.lines(), &mut back).is_ok(),
                    "trailers are lost",
                )?;
                let framing = given.iter().any(|(name, _)| *name == b"content-length");
                rule(framing || back == block, "the trailers changed")?;
            }
        }
    }
    Ok(())
}

fn check_request(section: &Section, ended: bool, given: &[(&[u8], &[u8])]) -> Result<(), String> {
    let mut text = Vec::new();
    let chunked = request_text(section, ended, &mut text);
    rule(!(ended && chunked), "a body where there is none")?;
    rule(
        scan(&text, 0) == Ok(Scan::Complete(text.len())),
        "what is written is not one head",
    )?;
    let mut head = RequestHead::default();
    if head.parse(&text, MAX_FIELDS, text.len()).is_err() {
        return Ok(());
    }
    let value = |name: &[u8]| {
        given
            .iter()
            .find(|(given, _)| *given == name)
            .map(|(_, value)| *value)
    };
    rule(
        Some(head.method.get(&text)) == value(b":method"),
        "the method is another",
    )?;
    rule(
        Some(head.target.get(&text)) == value(b":path"),
        "the target is another",
    )?;
    let host = value(b":authority").or(value(b"host"));
    rule(Some(head.host.get(&text)) == host, "the host is another")?;
    rule(
        (head.length == Length::Chunked) == chunked,
        "the framing is not what was said",
    )?;
    let own = |name: &[u8]| {
        name.starts_with(b":") || [&b"host"[..], b"transfer-encoding", b"cookie"].contains(&name)
    };
    let mut expected: Vec<_> = given
        .iter()
        .filter(|(name, _)| !own(name))
        .copied()
        .collect();
    let mut found: Vec<_> = head
        .fields
        .iter()
        .map(|field| (field.name.get(&text), field.value.get(&text)))
        .filter(|(name, _)| !own(name))
        .collect();
    expected.sort_unstable();
    found.sort_unstable();
    rule(found == expected, "the fields are others")?;
    // What is read for HTTP/2 again is the request that was given.
    let mut block = Vec::new();
    let message = request_block(&text, b"http", &mut block)?;
    rule(message.length == head.length, "the length is another")?;
    let mut back = Section::default();
    let decoded = back.decode(&mut Decoder::default(), &block, Kind::Request, 1 << 20);
    rule(
        decoded.is_ok() && back.malformed().is_none(),
        "the way back is lost",
    )?;
    rule(
        back.method() == section.method() && back.path() == section.path(),
        "the request changed",
    )
}

fn check_block(input: &[u8]) -> Result<(), String> {
    let mut decoder = Decoder::default();
    // The second time, the table is as the first has left it.
    for _ in 0..2 {
        for limit in [usize::MAX, 100] {
            let mut out = Vec::new();
            let mut size = 0;
            let whole = decoder.decode(input, limit, &mut out, |out, field| {
                size += field.end - field.start - 2 + 32;
                assert!(
                    field.start <= field.name_end
                        && field.value <= field.end
                        && field.end == out.len()
                );
            });
            rule(size <= limit, "more is shown than the limit allows")?;
            if whole.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn server() -> Connection<Vec<u8>> {
    Connection::new(Config {
        role: Role::Server,
        max_concurrent_streams: 5,
        stream_window: 65_535,
        connection_window: 65_535,
        max_section: 4096,
    })
}

/// What a server makes of bytes that come in pieces of this size: its events, what it sends, and the
/// error that ends it.
fn run(input: &[u8], piece: usize) -> (Vec<Event>, Vec<u8>, bool) {
    let mut side = server();
    let mut events = Vec::new();
    let (mut start, mut end) = (0, 0);
    loop {
        let Ok(received) = side.receive(&input[start..end], 0) else {
            return (events, side.output().to_vec(), true);
        };
        if let Some(event) = received.event {
            if let Event::Data(key, range) = &event {
                let data = input[start..end][range.clone()].to_vec();
                if let Some(user) = side.user(*key) {
                    user.extend(data);
                }
            } else {
                events.push(event);
            }
            start += received.used;
            continue;
        }
        start += received.used;
        if end == input.len() {
            let data: Vec<u8> = side.users().flat_map(|(_, data)| data.clone()).collect();
            return (events, [side.output(), &data].concat(), false);
        }
        end = (end + piece).min(input.len());
    }
}

fn check_frames(input: &[u8]) -> Result<(), String> {
    if let Some((header, payload)) = input.split_first_chunk::<HEADER_LEN>() {
        let header = frame::Header::parse(*header);
        let payload = &payload[..payload.len().min(header.len)];
        let _ = frame::parse(header, payload);
    }
    let given = [PREFACE, input].concat();
    let whole = run(&given, given.len());
    rule(run(&given, 1) == whole, "single bytes mean something else")?;
    rule(run(&given, 7) == whole, "pieces mean something else")
}
