//! Bodies: where one ends and which of the received bytes are its data. No I/O.

use std::ops::Range;

use super::head::{Length, Scan, scan};
use crate::edit::{RemovedFields, alike};
use crate::field::{Known, classify};

/// The longest chunk-size line accepted, extensions included; they are read over and not forwarded.
const MAX_SIZE_LINE: usize = 256;
/// The largest trailer section accepted, in bytes.
const MAX_TRAILERS: usize = 8 * 1024;

/// What one call of [`Decoder::decode`] found.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The data, moved together.
    pub data: Range<usize>,
    /// How many of the given bytes are used up, framing included.
    pub used: usize,
}

/// Reads one body.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    trailers: Vec<u8>,
    /// Names that no trailer may have, beside those that none ever may.
    unwanted: Option<RemovedFields>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many bytes are left.
    Length(u64),
    /// Until the sender closes.
    UntilClose,
    /// A chunk's size line comes next.
    Size,
    /// So many bytes of a chunk are left.
    Chunk(u64),
    /// The CRLF after a chunk's data comes next.
    ChunkEnd,
    /// The trailer section comes next.
    Trailers,
    Done,
}

impl Decoder {
    /// A reader for a body of this length.
    pub fn new(length: Length) -> Self {
        Self {
            state: match length {
                Length::None | Length::Known(0) => State::Done,
                Length::Known(length) => State::Length(length),
                Length::Chunked => State::Size,
                Length::UntilClose => State::UntilClose,
            },
            trailers: Vec::new(),
            unwanted: None,
        }
    }

    /// Leaves trailers of these names out as well.
    #[must_use]
    pub fn without(mut self, unwanted: Option<RemovedFields>) -> Self {
        self.unwanted = unwanted;
        self
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The bytes still to come, where that is known.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// The lines of a chunked body's trailer section, each with its CRLF.
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// The sender closed. `false`: the body is cut short.
    pub fn close(&mut self) -> bool {
        if self.state == State::UntilClose {
            self.state = State::Done;
        }
        self.is_done()
    }

    /// Takes what it can of `bytes`. Bytes that are not used up (the beginning of a size line, or
    /// of whatever follows the body) are to be given again with more behind them.
    ///
    /// # Errors
    /// What is wrong with the framing.
    pub fn decode(&mut self, bytes: &mut [u8]) -> Result<Decoded, &'static str> {
        let mut used = 0;
        let mut start = 0;
        let mut filled = 0;
        loop {
            let rest = bytes.len() - used;
            match self.state {
                State::Length(left) => {
                    let take = left.min(rest as u64);
                    used += take as usize;
                    filled += take as usize;
                    self.state = match left - take {
                        0 => State::Done,
                        left => State::Length(left),
                    };
                    break;
                }
                State::UntilClose => {
                    used += rest;
                    filled += rest;
                    break;
                }
                State::Size => match size_line(&bytes[used..])? {
                    None => break,
                    Some((0, line)) => {
                        used += line;
                        self.state = State::Trailers;
                    }
                    Some((size, line)) => {
                        used += line;
                        self.state = State::Chunk(size);
                    }
                },
                State::Chunk(left) => {
                    let take = left.min(rest as u64) as usize;
                    if take == 0 {
                        break;
                    }
                    if filled == 0 {
                        // Nothing before it: the data can stay where it is.
                        start = used;
                    } else {
                        bytes.copy_within(used..used + take, start + filled);
                    }
                    used += take;
                    filled += take;
                    self.state = match left - take as u64 {
                        0 => State::ChunkEnd,
                        left => State::Chunk(left),
                    };
                }
                State::ChunkEnd => {
                    if rest < 2 {
                        if rest == 1 && bytes[used] != b'\r' {
                            return Err("A chunk does not end in CRLF.");
                        }
                        break;
                    }
                    if bytes[used..used + 2] != *b"\r\n" {
                        return Err("A chunk does not end in CRLF.");
                    }
                    used += 2;
                    self.state = State::Size;
                }
                State::Trailers => match self.trailer_section(&bytes[used..])? {
                    None => break,
                    Some(len) => {
                        used += len;
                        self.state = State::Done;
                    }
                },
                State::Done => break,
            }
        }
        Ok(Decoded {
            data: start..start + filled,
            used,
        })
    }

    fn trailer_section(&mut self, bytes: &[u8]) -> Result<Option<usize>, &'static str> {
        let len = match scan(bytes, 0)? {
            Scan::Complete(len) if len <= MAX_TRAILERS => len,
            Scan::Partial(_) if bytes.len() <= MAX_TRAILERS => return Ok(None),
            _ => return Err("The trailer section is too large."),
        };
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let Ok(httparse::Status::Complete((_, fields))) =
            httparse::parse_headers(&bytes[..len], &mut fields)
        else {
            return Err("A trailer field is not valid.");
        };
        for field in fields {
            let unwanted = self.unwanted.as_deref();
            if is_forbidden_trailer(field.name)
                || unwanted.is_some_and(|names| alike(names, field.name.as_bytes()))
            {
                continue;
            }
            self.trailers.extend_from_slice(field.name.as_bytes());
            self.trailers.extend_from_slice(b": ");
            self.trailers.extend_from_slice(field.value);
            self.trailers.extend_from_slice(b"\r\n");
        }
        Ok(Some(len))
    }
}

/// Fields that frame, route, authenticate or control: never believed at the end of a message
/// (RFC 9110 §6.5.1), so they are dropped.
fn is_forbidden_trailer(name: &str) -> bool {
    const FORBIDDEN: [&str; 25] = [
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "proxy-connection",
        "range",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-real-ip",
        "x-request-id",
    ];
    matches!(
        classify(name.as_bytes()),
        Known::Own | Known::Lookalike | Known::ClientCert
    ) || FORBIDDEN
        .iter()
        .any(|forbidden| name.eq_ignore_ascii_case(forbidden))
}

/// A chunk's size line: its size and its length with the CRLF, or `None` when more is needed.
fn size_line(bytes: &[u8]) -> Result<Option<(u64, usize)>, &'static str> {
    const BAD: &str = "A chunk's size is not valid.";
    let window = &bytes[..bytes.len().min(MAX_SIZE_LINE)];
    let Some(feed) = memchr::memchr(b'\n', window) else {
        if bytes.len() >= MAX_SIZE_LINE {
            return Err("A chunk's size line is too long.");
        }
        // Refuse early what can never become a size line.
        if let Some(first) = bytes.first()
            && !first.is_ascii_hexdigit()
        {
            return Err(BAD);
        }
        return Ok(None);
    };
    if feed == 0 || window[feed - 1] != b'\r' {
        return Err("A chunk's size line does not end in CRLF.");
    }
    let line = &window[..feed - 1];
    let digits = line
        .iter()
        .position(|byte| !byte.is_ascii_hexdigit())
        .unwrap_or(line.len());
    if digits == 0 || digits > 15 {
        return Err(BAD);
    }
    let extension = &line[digits..];
    if !(extension.is_empty() || extension[0] == b';')
        || extension
            .iter()
            .any(|&byte| (byte < b' ' && byte != b'\t') || byte == 0x7f)
    {
        return Err(BAD);
    }
    let size = line[..digits].iter().fold(0u64, |sum, &digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => digit - b'A' + 10,
        };
        sum << 4 | u64::from(value)
    });
    Ok(Some((size, feed + 1)))
}

/// Writes the size line of a chunk.
pub fn encode_size_line(size: usize, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut line = [0; 18];
    let mut at = 16;
    line[16..].copy_from_slice(b"\r\n");
    let mut rest = size;
    loop {
        at -= 1;
        line[at] = DIGITS[rest & 15];
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&line[at..]);
}
