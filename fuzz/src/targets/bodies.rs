//! Bodies: the same data however they arrive, and as a strict reference reads them.

use evenflow_wire::http1::body::{Decoder, encode_size_line};
use evenflow_wire::http1::head::{Length, ResponseHead};

use super::heads::{RESPONSE_SEEDS, RESPONSE_WORDS, whole};
use super::{Target, reference, rule};

/// Words that decoders of chunks disagree about.
pub const CHUNK_WORDS: &[&[u8]] = &[
    b"0\r\n\r\n",
    b"3\r\nabc\r\n",
    b"3;a=b\r\nabc\r\n",
    b"3 \r\nabc\r\n",
    b"0x3\r\n",
    b"+3\r\n",
    b"-1\r\n",
    b"0003\r\nabc\r\n",
    b"ffffffffffffffff\r\n",
    b"10000000000000003\r\n",
    b"7fffffffffffffff\r\n",
    b";a=\"\n\"",
    b";\r",
    b"X: y\r\n",
    b"Content-Length: 3\r\n",
    b"X : y\r\n",
    b"\r\n y\r\n",
    b"0\n\n",
    b"0\r\n\n",
];

/// A chunked body.
pub const CHUNKED: Target = Target {
    name: "chunked_body",
    seeds: &[
        b"3\r\nabc\r\n0\r\n\r\n",
        b"a;name=value\r\n0123456789\r\n1\r\nx\r\n0\r\nTrailer: 1\r\n\r\n",
        b"0\r\n\r\nGET / HTTP/1.1\r\n",
    ],
    words: CHUNK_WORDS,
    check: check_chunked,
};

/// A whole response: its head and the body that it announces.
pub const RESPONSE: Target = Target {
    name: "response_framing",
    seeds: RESPONSE_SEEDS,
    words: RESPONSE_WORDS,
    check: check_response,
};

/// What a decoder made of some input.
#[derive(Debug, PartialEq, Eq)]
pub struct Read {
    /// The data.
    pub data: Vec<u8>,
    /// Whether the body ended.
    pub done: bool,
    /// What was left over.
    pub rest: Vec<u8>,
    /// The trailer lines kept.
    pub trailers: Vec<u8>,
}

impl Read {
    /// Appends the body in chunks, as it is forwarded.
    pub fn push_chunked(&self, out: &mut Vec<u8>) {
        if !self.data.is_empty() {
            encode_size_line(self.data.len(), out);
            out.extend_from_slice(&self.data);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"0\r\n");
        out.extend_from_slice(&self.trailers);
        out.extend_from_slice(b"\r\n");
    }
}

/// Decodes input that arrives in pieces of so many bytes.
pub fn decoded(input: &[u8], piece: usize, length: Length) -> Result<Read, &'static str> {
    let mut decoder = Decoder::new(length);
    let mut pending = Vec::new();
    let mut data = Vec::new();
    for part in input.chunks(piece.max(1)) {
        pending.extend_from_slice(part);
        if decoder.is_done() {
            continue;
        }
        let found = decoder.decode(&mut pending)?;
        data.extend_from_slice(&pending[found.data]);
        pending.drain(..found.used);
    }
    Ok(Read {
        data,
        done: decoder.is_done(),
        rest: pending,
        trailers: decoder.trailers().to_vec(),
    })
}

fn check_chunked(input: &[u8]) -> Result<(), String> {
    let at_once = decoded(input, input.len(), Length::Chunked);
    for piece in [1, 2, 3, 7] {
        let same = match (&at_once, &decoded(input, piece, Length::Chunked)) {
            (Ok(at_once), Ok(piecewise)) => at_once == piecewise,
            (Err(_), Err(_)) => true,
            _ => false,
        };
        rule(same, "the same body in other pieces is read otherwise")?;
    }
    let Ok(read) = at_once else { return Ok(()) };
    if !read.done {
        return Ok(());
    }
    let Some((data, rest)) = reference::chunked(input) else {
        return Err("a body was accepted that the reference refuses".into());
    };
    rule(data == read.data, "the reference reads other data")?;
    rule(rest == read.rest, "the reference sees the end elsewhere")?;
    // Encoded again as it is forwarded, it is the same to both.
    let mut again = Vec::new();
    read.push_chunked(&mut again);
    let Some((data, rest)) = reference::chunked(&again) else {
        return Err("what is forwarded is refused by the reference".into());
    };
    rule(
        data == read.data && rest.is_empty(),
        "what is forwarded reads otherwise",
    )
}

fn check_response(input: &[u8]) -> Result<(), String> {
    let Some(bytes) = whole(input) else {
        return Ok(());
    };
    let rest = &input[bytes.len()..];
    for head_request in [false, true] {
        let mut head = ResponseHead::default();
        if head.parse(bytes, head_request).is_err() {
            continue;
        }
        let bodiless = head_request || head.status < 200 || matches!(head.status, 204 | 304);
        rule(
            !bodiless || head.length == Length::None,
            "an answer that has no body is given one",
        )?;
        let fields = reference::lines(bytes).ok_or("a head was accepted that is none")?;
        let has = |name: &str| fields.iter().any(|(field, _)| field == name);
        rule(
            !(has("content-length") && has("transfer-encoding")),
            "two framings were accepted",
        )?;
        let Ok(read) = decoded(rest, rest.len(), head.length) else {
            continue;
        };
        rule(
            read.data.len() + read.rest.len() <= rest.len(),
            "more came out than went in",
        )?;
        match head.length {
            Length::None => rule(read.data.is_empty() && read.done, "data without a body")?,
            Length::Known(length) => rule(
                read.data == rest[..rest.len().min(length as usize)],
                "a measured body is not its bytes",
            )?,
            Length::UntilClose => rule(read.data == rest && !read.done, "bytes are missing")?,
            Length::Chunked if read.done => rule(
                reference::chunked(rest).is_some_and(|(data, _)| data == read.data),
                "the reference reads another body",
            )?,
            Length::Chunked => {}
        }
    }
    Ok(())
}
