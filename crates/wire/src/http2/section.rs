//! A field section (RFC 9113 §8.1): what a field block says, checked by the rules of HTTP/2.
//!
//! Fields are decoded into one buffer in the form of lines of HTTP/1.1, so that a head can be passed
//! on to a server of either version without being taken apart. What the fields mean is judged
//! elsewhere, by the same rules for both versions; here only what HTTP/2 itself forbids is refused.

use std::ops::Range;

use super::error::ConnectionError;
use super::hpack::{Decoder, Field};

/// What a section is the beginning or the end of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request's head.
    Request,
    /// A response's head, a final one or an interim one.
    Response,
    /// Trailers.
    Trailers,
}

/// A section and the buffer it is in.
#[derive(Debug, Default)]
pub struct Section {
    /// Where all of it is.
    text: Vec<u8>,
    /// The values of the pseudo-fields.
    pseudo: [Option<Span>; 5],
    /// Where the lines of the other fields begin.
    lines: Option<usize>,
    /// The value of the first `host` field where there is no `:authority`.
    host: Option<Span>,
    /// `cookie` fields, to be one (RFC 9113 §8.2.3).
    cookies: Vec<u8>,
    content_length: Option<u64>,
    /// The first rule that is broken.
    malformed: Option<&'static str>,
    /// The section is larger than allowed; what is here is not all of it.
    too_large: bool,
}

type Span = (usize, usize);

const METHOD: usize = 0;
const SCHEME: usize = 1;
const AUTHORITY: usize = 2;
const PATH: usize = 3;
const STATUS: usize = 4;

impl Section {
    /// Decodes a field block, in place of what was here.
    ///
    /// # Errors
    /// The block cannot be decoded, and the connection cannot go on. A malformed section is no such
    /// error, see [`malformed`](Self::malformed).
    pub fn decode(
        &mut self,
        decoder: &mut Decoder,
        block: &[u8],
        kind: Kind,
        limit: usize,
    ) -> Result<(), ConnectionError> {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        let mut cookies = std::mem::take(&mut self.cookies);
        cookies.clear();
        *self = Self {
            cookies,
            ..Self::default()
        };
        let decoded = decoder.decode(block, limit, &mut text, |text, field| {
            if let Err(rule) = self.field(text, field, kind) {
                self.malformed.get_or_insert(rule);
                text.truncate(field.start);
            }
        });
        if !self.cookies.is_empty() {
            self.lines.get_or_insert(text.len());
            text.extend_from_slice(b"cookie: ");
            text.extend_from_slice(&self.cookies);
            text.extend_from_slice(b"\r\n");
        }
        self.text = text;
        self.too_large = !decoded?;
        if !self.too_large
            && let Err(rule) = self.complete(kind)
        {
            self.malformed.get_or_insert(rule);
        }
        Ok(())
    }

    fn field(&mut self, text: &mut Vec<u8>, field: Field, kind: Kind) -> Result<(), &'static str> {
        let name = &text[field.start..field.name_end];
        let value = &text[field.value..field.end];
        if name.first() == Some(&b':') {
            return self.pseudo(name, value, field, kind);
        }
        if name.is_empty() || !name.iter().all(|&byte| is_name(byte)) {
            return Err("a field name is not valid");
        }
        if !is_value(value) {
            return Err("a field value is not valid");
        }
        self.lines.get_or_insert(field.start);
        match name {
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding"
            | b"upgrade" => return Err("a field is for connections of HTTP/1.1 only"),
            b"te" if value != b"trailers" => return Err("TE is something other than `trailers`"),
            b"host" if kind == Kind::Request => {
                let authority = self.pseudo[AUTHORITY].map(|(start, end)| &text[start..end]);
                match authority {
                    Some(authority) if authority.eq_ignore_ascii_case(value) => {
                        text.truncate(field.start);
                        return Ok(());
                    }
                    Some(_) => return Err("`host` differs from `:authority`"),
                    None if self.host.is_some() => return Err("there is more than one host"),
                    None => self.host = Some((field.value, field.end)),
                }
            }
            b"cookie" if kind == Kind::Request => {
                if !self.cookies.is_empty() {
                    self.cookies.extend_from_slice(b"; ");
                }
                self.cookies.extend_from_slice(value);
                text.truncate(field.start);
                return Ok(());
            }
            b"content-length" if kind != Kind::Trailers => {
                let length = decimal(value).ok_or("Content-Length is not a whole number")?;
                if self.content_length.replace(length).is_some() {
                    return Err("Content-Length is repeated");
                }
            }
            _ => {}
        }
        text.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn pseudo(
        &mut self,
        name: &[u8],
        value: &[u8],
        field: Field,
        kind: Kind,
    ) -> Result<(), &'static str> {
        let which = match (kind, name) {
            (Kind::Request, b":method") => METHOD,
            (Kind::Request, b":scheme") => SCHEME,
            (Kind::Request, b":authority") => AUTHORITY,
            (Kind::Request, b":path") => PATH,
            (Kind::Response, b":status") => STATUS,
            _ => return Err("a pseudo-header field has no place here"),
        };
        if self.lines.is_some() {
            return Err("a pseudo-header field comes after others");
        }
        let valid = match which {
            METHOD => value.iter().all(|&byte| is_token(byte)),
            STATUS => value.len() == 3 && value.iter().all(u8::is_ascii_digit),
            // No white space, no control character.
            _ => value.iter().all(|&byte| byte > b' ' && byte != 0x7f),
        };
        if !valid || (value.is_empty() && which != AUTHORITY) {
            return Err("a pseudo-header field is not valid");
        }
        if self.pseudo[which].is_some() {
            return Err("a pseudo-header field is repeated");
        }
        self.pseudo[which] = Some((field.value, field.end));
        Ok(())
    }

    /// What a whole section must have (RFC 9113 §8.3.1, §8.3.2, §8.5).
    fn complete(&self, kind: Kind) -> Result<(), &'static str> {
        let has = |which: usize| self.pseudo[which].is_some();
        let complete = match kind {
            Kind::Trailers => true,
            Kind::Response => has(STATUS) && self.status() >= 100 && self.status() != 101,
            Kind::Request if self.method() == b"CONNECT" => {
                has(AUTHORITY) && !has(SCHEME) && !has(PATH)
            }
            Kind::Request => has(METHOD) && has(SCHEME) && has(PATH),
        };
        if !complete {
            return Err("pseudo-header fields are missing or not valid together");
        }
        // An absolute target would speak of another host than `:authority` does.
        if kind == Kind::Request && has(PATH) && !matches!(self.path(), [b'/', ..] | b"*") {
            return Err("`:path` is not valid");
        }
        Ok(())
    }

    fn get(&self, which: usize) -> &[u8] {
        self.pseudo[which].map_or(b"", |(start, end)| &self.text[start..end])
    }

    /// The broken rule, if one is: the message is malformed and its stream is to be reset.
    pub fn malformed(&self) -> Option<&'static str> {
        self.malformed
    }

    /// Whether it is larger than allowed.
    pub fn is_too_large(&self) -> bool {
        self.too_large
    }

    /// `:method`.
    pub fn method(&self) -> &[u8] {
        self.get(METHOD)
    }

    /// `:path`; empty for CONNECT.
    pub fn path(&self) -> &[u8] {
        self.get(PATH)
    }

    /// `:authority`, where there is one.
    pub fn authority(&self) -> Option<&[u8]> {
        self.pseudo[AUTHORITY].map(|(start, end)| &self.text[start..end])
    }

    /// `:status`; 0 where there is none.
    pub fn status(&self) -> u16 {
        let digits = self.get(STATUS).iter();
        digits.fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'))
    }

    /// The value of `content-length`.
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// The fields that are no pseudo-fields, each a line `name: value` with its CRLF. `host` is
    /// among them only where there is no `:authority`; `cookie` comes last.
    pub fn lines(&self) -> &[u8] {
        &self.text[self.line_range()]
    }

    fn line_range(&self) -> Range<usize> {
        let end = self.text.len();
        self.lines.unwrap_or(end)..end
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether a byte may stand in a field's name, which is in lower case here (RFC 9113 §8.2.1).
fn is_name(byte: u8) -> bool {
    const VALID: [bool; 256] = {
        let mut valid = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            valid[byte] = matches!(byte as u8, b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#'..=b'\'' | b'*'
                | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
            byte += 1;
        }
        valid
    };
    VALID[usize::from(byte)]
}

/// Whether a field may have this value (RFC 9113 §8.2.1, and control characters as in HTTP/1.1).
fn is_value(value: &[u8]) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let control = |byte: u8| (byte < b' ' && byte != b'\t') || byte == 0x7f;
    let wrong = value.iter().any(|&byte| control(byte));
    !wrong && !blank(value.first()) && !blank(value.last())
}

fn decimal(text: &[u8]) -> Option<u64> {
    let valid = (1..=18).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    let digits = text.iter().map(|digit| u64::from(digit - b'0'));
    valid.then(|| digits.fold(0, |sum, digit| sum * 10 + digit))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http2::hpack;

    fn section(fields: &[(&str, &str)], kind: Kind) -> Section {
        let mut block = Vec::new();
        for (name, value) in fields {
            hpack::field(name.as_bytes(), value.as_bytes(), &mut block);
        }
        let mut section = Section::default();
        let decoded = section.decode(&mut Decoder::default(), &block, kind, 10_000);
        decoded.unwrap();
        section
    }

    const USUAL: [(&str, &str); 4] = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/a?b"),
        (":authority", "a.test"),
    ];

    fn request(further: &[(&str, &str)]) -> Section {
        section(&[&USUAL[..], further].concat(), Kind::Request)
    }

    #[test]
    fn a_request_is_lines_with_its_host_once_and_its_cookies_in_one() {
        let found = request(&[
            ("host", "A.test"),
            ("cookie", "a=1"),
            ("x-a", "2"),
            ("content-length", "5"),
            ("cookie", "b=2"),
        ]);
        assert_eq!(found.malformed(), None);
        assert_eq!((found.method(), found.path()), (&b"GET"[..], &b"/a?b"[..]));
        assert_eq!(found.authority(), Some(&b"a.test"[..]));
        assert_eq!(found.content_length(), Some(5));
        assert_eq!(
            std::str::from_utf8(found.lines()).unwrap(),
            "x-a: 2\r\ncontent-length: 5\r\ncookie: a=1; b=2\r\n"
        );
        let found = section(
            &[&USUAL[..3], &[("host", "b.test")]].concat(),
            Kind::Request,
        );
        assert_eq!((found.malformed(), found.authority()), (None, None));
        assert_eq!(found.lines(), b"host: b.test\r\n");
        assert_eq!(request(&[]).lines(), b"");
    }

    #[test]
    fn what_http2_forbids_is_malformed() {
        for (name, value) in [
            ("connection", "close"),
            ("keep-alive", "5"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
            ("host", "b.test"),
            ("content-length", "+5"),
            ("X-A", "1"),
            ("", "1"),
            ("a b", "1"),
            ("a:b", "1"),
            ("x", "a\r\nb: c"),
            ("x", "a\0"),
            ("x", " a"),
            ("x", "a\t"),
            (":path", "/other"),
            (":status", "200"),
            (":other", "x"),
        ] {
            assert!(
                request(&[(name, value)]).malformed().is_some(),
                "{name}: {value}"
            );
        }
        let twice = [("content-length", "5"), ("content-length", "5")];
        assert!(request(&twice).malformed().is_some());
        let valid = [("te", "trailers"), ("x", "a\tb \u{fc}"), ("x_y", "")];
        assert_eq!(request(&valid).malformed(), None);
    }

    #[test]
    fn pseudo_fields_are_there_once_and_first() {
        for missing in 0..3 {
            let mut fields = USUAL.to_vec();
            fields.remove(missing);
            assert!(section(&fields, Kind::Request).malformed().is_some());
        }
        let mut late = USUAL.to_vec();
        late.insert(2, ("x", "y"));
        assert!(section(&late, Kind::Request).malformed().is_some());
        for (at, value) in [
            (0, "GE T"),
            (1, ""),
            (2, ""),
            (2, "a"),
            (2, "http://b/"),
            (2, "/ x"),
            (3, "a\r\nb"),
        ] {
            let mut fields = USUAL.to_vec();
            fields[at].1 = value;
            assert!(
                section(&fields, Kind::Request).malformed().is_some(),
                "{value}"
            );
        }
        let connect = [(":method", "CONNECT"), (":authority", "a.test:443")];
        assert_eq!(section(&connect, Kind::Request).malformed(), None);
        let extended = [&connect[..], &[(":protocol", "websocket")]].concat();
        assert!(section(&extended, Kind::Request).malformed().is_some());
        for (status, valid) in [
            ("200", true),
            ("103", true),
            ("101", false),
            ("099", false),
            ("20", false),
            ("2x0", false),
        ] {
            let found = section(&[(":status", status)], Kind::Response);
            assert_eq!(found.malformed().is_none(), valid, "{status}");
        }
        assert!(section(&[], Kind::Response).malformed().is_some());
        assert!(
            section(&[(":path", "/"), ("x", "y")], Kind::Trailers)
                .malformed()
                .is_some()
        );
        assert_eq!(section(&[("x", "y")], Kind::Trailers).lines(), b"x: y\r\n");
    }

    #[test]
    fn a_section_that_is_too_large_is_said_to_be() {
        let mut block = Vec::new();
        for _ in 0..10 {
            hpack::field(b"x-a", b"12345", &mut block);
        }
        let mut section = Section::default();
        let mut decoder = Decoder::default();
        section
            .decode(&mut decoder, &block, Kind::Trailers, 400)
            .unwrap();
        assert!(!section.is_too_large());
        section
            .decode(&mut decoder, &block, Kind::Trailers, 399)
            .unwrap();
        assert!(section.is_too_large());
    }

    proptest! {
        #[test]
        fn any_fields_give_whole_lines(
            fields in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..6), prop::collection::vec(any::<u8>(), 0..12)), 0..12,
            ),
        ) {
            let mut block = Vec::new();
            for (name, value) in &fields {
                hpack::field(name, value, &mut block);
            }
            for kind in [Kind::Request, Kind::Response, Kind::Trailers] {
                let mut section = Section::default();
                section.decode(&mut Decoder::default(), &block, kind, 1000).unwrap();
                let lines = section.lines();
                prop_assert!(lines.is_empty() || lines.ends_with(b"\r\n"));
                for line in lines.split_inclusive(|&byte| byte == b'\n') {
                    prop_assert!(line.ends_with(b"\r\n") && line[0] != b':');
                    let text = &line[..line.len() - 2];
                    prop_assert!(!text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
                    prop_assert!(text.windows(2).any(|pair| pair == b": "));
                }
            }
        }
    }
}
