//! Connections of both roles, and what they say.

use evenflow_wire::http2::{
    Config, Connection, ConnectionError, ErrorCode, Event, Key, PREFACE, Role, frame, hpack,
};

pub const CONFIG: Config = Config {
    role: Role::Server,
    max_concurrent_streams: 10,
    stream_window: 65_535,
    connection_window: 1 << 20,
    max_section: 8 * 1024,
};

/// What a stream has received.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Got {
    pub heads: Vec<String>,
    pub data: Vec<u8>,
    pub trailers: Option<String>,
    pub ended: bool,
    pub reset: Option<ErrorCode>,
}

pub type Side = Connection<Got>;

pub fn server() -> Side {
    Connection::new(CONFIG)
}

pub fn client() -> Side {
    Connection::new(Config {
        role: Role::Client,
        ..CONFIG
    })
}

/// Everything that was said since, as text of HTTP/1.1's kind.
pub fn told(side: &Side) -> String {
    let section = side.section();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let first = if section.status() > 0 {
        section.status().to_string()
    } else {
        format!(
            "{} {} {}",
            text(section.method()),
            text(section.authority().unwrap_or_default()),
            text(section.path())
        )
    };
    format!("{first}\n{}", text(section.lines()).replace("\r\n", "\n"))
}

/// Gives bytes to a side, in pieces of this size, and notes what happens on its streams.
pub fn give(side: &mut Side, bytes: &[u8], piece: usize) -> Result<Vec<Event>, ConnectionError> {
    let mut events = Vec::new();
    let (mut start, mut end) = (0, 0);
    loop {
        let received = side.receive(&bytes[start..end], 0)?;
        let Some(event) = received.event else {
            start += received.used;
            if end == bytes.len() {
                return Ok(events);
            }
            end = (end + piece).min(bytes.len());
            continue;
        };
        note(side, &event, &bytes[start..end]);
        start += received.used;
        events.push(event);
    }
}

fn note(side: &mut Side, event: &Event, bytes: &[u8]) {
    let head = told(side);
    let lines = head.split_once('\n').map(|(_, lines)| lines.to_owned());
    let failure = |side: &Side, key| side.failure(key).map(|failure| failure.code);
    match event {
        Event::Head(key) | Event::Interim(key) | Event::TooLarge(key) => {
            side.user(*key).unwrap().heads.push(head);
        }
        Event::Data(key, range) => {
            let data = &bytes[range.clone()];
            side.user(*key).unwrap().data.extend_from_slice(data);
        }
        Event::End(key, trailers) => {
            let got = side.user(*key).unwrap();
            got.ended = true;
            got.trailers = lines.filter(|_| *trailers);
        }
        Event::Reset(key) => {
            let code = failure(side, *key);
            side.user(*key).unwrap().reset = code;
        }
        _ => {}
    }
}

/// Takes what a side has to send.
pub fn output(side: &mut Side) -> Vec<u8> {
    let out = side.output().to_vec();
    side.sent(out.len());
    out
}

/// Moves bytes both ways until there are none.
pub fn settle(a: &mut Side, b: &mut Side) -> (Vec<Event>, Vec<Event>) {
    let (mut at_a, mut at_b) = (Vec::new(), Vec::new());
    loop {
        let (to_b, to_a) = (output(a), output(b));
        if to_b.is_empty() && to_a.is_empty() {
            return (at_a, at_b);
        }
        at_b.extend(give(b, &to_b, 1000).unwrap());
        at_a.extend(give(a, &to_a, 1000).unwrap());
    }
}

pub fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        hpack::field(name.as_bytes(), value.as_bytes(), &mut block);
    }
    block
}

pub fn get() -> Vec<u8> {
    request("GET", &[])
}

pub fn request(method: &str, further: &[(&str, &str)]) -> Vec<u8> {
    let usual = [
        (":method", method),
        (":scheme", "http"),
        (":path", "/a"),
        (":authority", "a.test"),
    ];
    fields(&[&usual[..], further].concat())
}

/// The beginning of a client, and what follows it.
pub fn spoken(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut out = PREFACE.to_vec();
    frame::settings(&mut out, &[]);
    out.extend(frames.concat());
    out
}

pub fn raw(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write(&mut out, kind, flags, stream, payload);
    out
}

/// What a new server makes of a client's frames: its first error, or what its output resets.
pub fn outcome(frames: &[Vec<u8>]) -> Result<Vec<(u32, ErrorCode)>, ErrorCode> {
    let mut side = server();
    output(&mut side);
    let given = give(&mut side, &spoken(frames), usize::MAX / 2);
    given.map_err(|error| error.code)?;
    let out = output(&mut side);
    Ok(resets(&out))
}

pub fn resets(mut out: &[u8]) -> Vec<(u32, ErrorCode)> {
    let mut found = Vec::new();
    while let Some(header) = out.first_chunk() {
        let header = frame::Header::parse(*header);
        let payload = &out[frame::HEADER_LEN..][..header.len];
        if let Ok(frame::Frame::Reset(code)) = frame::parse(header, payload) {
            found.push((header.stream, code));
        }
        out = &out[frame::HEADER_LEN + header.len..];
    }
    found
}

pub fn key(events: &[Event]) -> Key {
    let mut keys = events.iter().filter_map(|event| match event {
        Event::Head(key) | Event::Interim(key) | Event::TooLarge(key) | Event::Reset(key) => {
            Some(*key)
        }
        _ => None,
    });
    keys.next().unwrap()
}
