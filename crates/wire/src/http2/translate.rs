//! Messages between HTTP/2 and HTTP/1.1.
//!
//! What comes by HTTP/2 is written down as HTTP/1.1 and then read by the strict parser of
//! [`http1`](crate::http1), as everything is, so there is one judge of what a message means. What is
//! written for HTTP/1.1 is written as field blocks for HTTP/2: the head's lines are gone through once,
//! and nothing is stored.

use memchr::memchr;

use super::hpack;
use super::section::{Kind, Section};
use crate::field::is_trailers;
use crate::http1::encode::push_number;
use crate::http1::head::Length;

const NOT_A_HEAD: &str = "The head is not valid.";

/// Writes a request's section down as HTTP/1.1. `ended` says that it has no body. Answers whether the
/// body is to be sent in chunks.
pub fn request_text(section: &Section, ended: bool, out: &mut Vec<u8>) -> bool {
    let authority = section.authority();
    let target = match section.path() {
        // CONNECT, which the parser refuses.
        b"" => authority.unwrap_or_default(),
        path => path,
    };
    out.reserve(section.lines().len() + target.len() + 128);
    out.extend_from_slice(section.method());
    out.push(b' ');
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(authority) = authority {
        out.extend_from_slice(b"host: ");
        out.extend_from_slice(authority);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(section.lines());
    let chunked = !ended && section.content_length().is_none();
    end_head(chunked, out);
    chunked
}

/// Writes a response's section down as HTTP/1.1, a final one or an interim one. Answers whether the
/// body is to be sent in chunks.
pub fn response_text(
    section: &Section,
    phrase: &str,
    ended: bool,
    head_request: bool,
    out: &mut Vec<u8>,
) -> bool {
    let status = section.status();
    out.reserve(section.lines().len() + 128);
    out.extend_from_slice(b"HTTP/1.1 ");
    push_number(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(phrase.as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(section.lines());
    let bodiless = head_request || status < 200 || status == 204 || status == 304;
    let framed = bodiless || section.content_length().is_some();
    if !framed && ended {
        out.extend_from_slice(b"content-length: 0\r\n");
    }
    let chunked = !framed && !ended;
    end_head(chunked, out);
    chunked
}

fn end_head(chunked: bool, out: &mut Vec<u8>) {
    if chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// What a head for HTTP/1.1 says of its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// The body's length.
    pub length: Length,
    /// The request's method is HEAD.
    pub head_request: bool,
    /// The response's status; 0 for a request.
    pub status: u16,
}

/// Writes a request's head, as it is written for servers of HTTP/1.1, as a field block.
///
/// # Errors
/// It is no such head.
pub fn request_block(
    text: &[u8],
    scheme: &[u8],
    out: &mut Vec<u8>,
) -> Result<Message, &'static str> {
    let (line, rest) = split_line(text).ok_or(NOT_A_HEAD)?;
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target)) = (parts.next(), parts.next()) else {
        return Err(NOT_A_HEAD);
    };
    hpack::field(b":method", method, out);
    hpack::field(b":scheme", scheme, out);
    if let Some(host) = host(rest) {
        hpack::field(b":authority", host, out);
    }
    hpack::field(b":path", target, out);
    let (length, chunked) = lines(rest, Kind::Request, out)?;
    Ok(Message {
        length: match length {
            _ if chunked => Length::Chunked,
            None | Some(0) => Length::None,
            Some(length) => Length::Known(length),
        },
        head_request: method == b"HEAD",
        status: 0,
    })
}

/// Writes a response's head, as it is written for clients of HTTP/1.1, as a field block.
///
/// # Errors
/// It is no such head, or one that HTTP/2 does not know.
pub fn response_block(
    text: &[u8],
    head_request: bool,
    out: &mut Vec<u8>,
) -> Result<Message, &'static str> {
    let (line, rest) = split_line(text).ok_or(NOT_A_HEAD)?;
    let digits = line.get(9..12).ok_or(NOT_A_HEAD)?;
    let status = digits.iter().fold(0, |sum, digit| {
        sum * 10 + u16::from(digit.wrapping_sub(b'0') % 10)
    });
    if status == 101 {
        return Err("HTTP/2 knows no switch of protocols.");
    }
    hpack::status(status, out);
    let (length, chunked) = lines(rest, Kind::Response, out)?;
    let bodiless = head_request || status < 200 || status == 204 || status == 304;
    Ok(Message {
        length: match length {
            _ if bodiless => Length::None,
            _ if chunked => Length::Chunked,
            Some(0) => Length::None,
            Some(length) => Length::Known(length),
            None => Length::UntilClose,
        },
        head_request,
        status,
    })
}

/// Writes the lines of a trailer section as a field block.
///
/// # Errors
/// They are no such lines.
pub fn trailer_block(text: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    lines(text, Kind::Trailers, out).map(|_| ())
}

/// Takes the first line off, without its end.
fn split_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let feed = memchr(b'\n', text)?;
    Some((text[..feed].strip_suffix(b"\r")?, &text[feed + 1..]))
}

/// A line's name and its value without surrounding white space.
fn split_field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr(b':', line)?;
    Some((&line[..colon], line[colon + 1..].trim_ascii()))
}

/// The value of the first `Host`, which the writers of requests put first.
fn host(mut text: &[u8]) -> Option<&[u8]> {
    while let Some((line, rest)) = split_line(text) {
        let (name, value) = split_field(line)?;
        if name.eq_ignore_ascii_case(b"host") {
            return Some(value);
        }
        text = rest;
    }
    None
}

/// Appends the fields that are not for one connection of HTTP/1.1 only; answers the length that they
/// tell, and whether the body is in chunks.
fn lines(
    mut text: &[u8],
    kind: Kind,
    out: &mut Vec<u8>,
) -> Result<(Option<u64>, bool), &'static str> {
    let (mut length, mut chunked) = (None, false);
    while let Some((line, rest)) = split_line(text) {
        text = rest;
        if line.is_empty() {
            break;
        }
        let (name, value) = split_field(line).ok_or(NOT_A_HEAD)?;
        let mut room = [0; 64];
        let long;
        let name = if let Some(lower) = room.get_mut(..name.len()) {
            lower.copy_from_slice(name);
            lower.make_ascii_lowercase();
            &*lower
        } else {
            long = name.to_ascii_lowercase();
            &long
        };
        match name {
            b"host" if kind == Kind::Request => continue,
            // Frames nothing there, and must not be (RFC 9110 §6.5.1).
            b"content-length" if kind == Kind::Trailers => continue,
            b"transfer-encoding" => {
                chunked = true;
                continue;
            }
            b"connection" | b"keep-alive" | b"proxy-connection" | b"upgrade" => continue,
            b"te" if !is_trailers(name, value) => continue,
            b"content-length" => {
                let digits = std::str::from_utf8(value).ok();
                length = Some(
                    digits
                        .and_then(|digits| digits.parse().ok())
                        .ok_or(NOT_A_HEAD)?,
                );
            }
            _ => {}
        }
        hpack::field(name, value, out);
    }
    Ok((length, chunked))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::{MAX_FIELDS, RequestHead, ResponseHead};
    use crate::http2::hpack::Decoder;

    fn section(fields: &[(&str, &str)], kind: Kind) -> Section {
        let mut block = Vec::new();
        for (name, value) in fields {
            hpack::field(name.as_bytes(), value.as_bytes(), &mut block);
        }
        read(&block, kind)
    }

    fn read(block: &[u8], kind: Kind) -> Section {
        let mut section = Section::default();
        let mut decoder = Decoder::default();
        section.decode(&mut decoder, block, kind, 1 << 20).unwrap();
        assert_eq!(section.malformed(), None);
        section
    }

    fn request(further: &[(&str, &str)], ended: bool) -> (String, bool) {
        let usual = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/x?y=1"),
            (":authority", "a.test:80"),
        ];
        let mut out = Vec::new();
        let section = section(&[&usual[..], further].concat(), Kind::Request);
        let chunked = request_text(&section, ended, &mut out);
        (String::from_utf8(out).unwrap(), chunked)
    }

    #[test]
    fn a_request_is_written_with_its_host_its_cookies_in_one_and_its_framing() {
        let fields = [
            ("host", "A.test:80"),
            ("cookie", "a=1"),
            ("x-a", "2"),
            ("cookie", "b=2"),
        ];
        let (text, chunked) = request(&fields, false);
        assert!(chunked);
        assert_eq!(
            text,
            "POST /x?y=1 HTTP/1.1\r\nhost: a.test:80\r\nx-a: 2\r\ncookie: a=1; b=2\r\n\
             transfer-encoding: chunked\r\n\r\n"
        );
        assert!(!request(&[("content-length", "5")], false).1);
        let (text, chunked) = request(&[], true);
        assert!(!chunked && !text.contains("transfer-encoding"), "{text}");
        let mut head = RequestHead::default();
        head.parse(text.as_bytes(), MAX_FIELDS, 8192).unwrap();
        assert_eq!(head.target.get(text.as_bytes()), b"/x?y=1");
    }

    #[test]
    fn an_answer_is_framed_by_what_it_is() {
        let length = ("content-length", "7");
        for (status, further, ended, head_request, expected) in [
            ("200", None, false, false, Length::Chunked),
            ("200", None, true, false, Length::None),
            ("200", Some(length), false, false, Length::Known(7)),
            ("200", Some(length), true, true, Length::None),
            ("204", None, true, false, Length::None),
            ("304", Some(length), true, false, Length::None),
            ("103", None, false, false, Length::None),
        ] {
            let fields: Vec<_> = [(":status", status)].into_iter().chain(further).collect();
            let mut text = Vec::new();
            let section = section(&fields, Kind::Response);
            response_text(&section, "Any", ended, head_request, &mut text);
            let mut head = ResponseHead::default();
            head.parse(&text, head_request).unwrap();
            assert_eq!(head.length, expected, "{status}");
        }
    }

    #[test]
    fn what_is_for_the_connection_is_not_sent_on() {
        let text = "HTTP/1.1 200 OK\r\nConnection: close\r\nKeep-Alive: 5\r\n\
                    Transfer-Encoding: chunked\r\nX-Kept:  2 \r\n\r\n";
        let mut block = Vec::new();
        let message = response_block(text.as_bytes(), false, &mut block).unwrap();
        assert_eq!((message.status, message.length), (200, Length::Chunked));
        assert_eq!(read(&block, Kind::Response).lines(), b"x-kept: 2\r\n");
        let switch = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
        assert!(response_block(switch, false, &mut block).is_err());

        let text =
            "POST /a?b HTTP/1.1\r\nhost: a.test\r\nTE: trailers\r\ncontent-length: 3\r\n\r\n";
        block.clear();
        let message = request_block(text.as_bytes(), b"https", &mut block).unwrap();
        assert_eq!(
            (message.length, message.head_request),
            (Length::Known(3), false)
        );
        let section = read(&block, Kind::Request);
        assert_eq!(section.authority(), Some(&b"a.test"[..]));
        assert_eq!(
            (section.method(), section.path()),
            (&b"POST"[..], &b"/a?b"[..])
        );
        assert_eq!(section.lines(), b"te: trailers\r\ncontent-length: 3\r\n");
    }

    #[test]
    fn trailers_come_back_as_they_were() {
        let lines = b"grpc-status: 0\r\nx: a: b\r\nx: \r\n";
        let mut block = Vec::new();
        trailer_block(lines, &mut block).unwrap();
        assert_eq!(read(&block, Kind::Trailers).lines(), lines);
        assert!(trailer_block(b"no colon\r\n", &mut block).is_err());
    }
}
