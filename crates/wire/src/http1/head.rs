//! Request and response heads: bytes in, positions of their parts out. No I/O.
//!
//! httparse splits the lines; this file adds what RFC 9112 leaves to the recipient and what keeps
//! two parsers from disagreeing: lines end in CRLF only, one framing, one host, no folding.
//! Parts are kept as offsets, so a head can stay where it was read while a request is retried.

use std::mem::MaybeUninit;

use memchr::memchr_iter;

use crate::field::{Field, Known, Span, classify};

/// The most header fields a head may have, whatever a listener allows.
pub const MAX_FIELDS: usize = 256;

/// How long a body is (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Length {
    /// No body.
    #[default]
    None,
    /// So many bytes.
    Known(u64),
    /// Chunked transfer coding.
    Chunked,
    /// Until the sender closes; answers only.
    UntilClose,
}

/// What to make of the bytes received so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// A whole head of so many bytes.
    Complete(usize),
    /// More is needed; the next scan may begin here.
    Partial(usize),
}

/// Looks for the empty line that ends a head, from `from` on, which is 0 or an earlier answer.
/// A line feed without its carriage return is refused at once, and so is the reverse, so that a
/// sender of either gets an answer and not a timeout.
pub fn scan(bytes: &[u8], from: usize) -> Result<Scan, &'static str> {
    let mut line = from;
    for offset in memchr_iter(b'\n', &bytes[from..]) {
        let feed = from + offset;
        if feed == 0 || bytes[feed - 1] != b'\r' {
            return Err("A line does not end in CRLF.");
        }
        if feed == line + 1 {
            return Ok(Scan::Complete(feed + 1));
        }
        line = feed + 1;
    }
    // What is here may be all that comes: a sender of bare carriage returns has ended its head.
    let bare = |at: usize| bytes.get(from + at + 1).is_some_and(|&next| next != b'\n');
    if memchr_iter(b'\r', &bytes[from..]).any(bare) {
        return Err("A line does not end in CRLF.");
    }
    Ok(Scan::Partial(line))
}

/// A parsed request head.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // Facts that are independent of each other.
pub struct RequestHead {
    /// The method as sent.
    pub method: Span,
    /// The target to forward: origin form, `*`, or what follows the authority of an absolute target,
    /// which may lack the path.
    pub target: Span,
    /// The host the request is for, with its port if it has one; empty for HTTP/1.0 without one.
    pub host: Span,
    /// HTTP/1.0 (else 1.1).
    pub version_10: bool,
    /// It came by HTTP/2 and was written down as HTTP/1.1; the parser leaves this to its caller.
    pub http2: bool,
    /// All fields in order.
    pub fields: Vec<Field>,
    /// The head's length in bytes.
    pub len: usize,
    /// The body's length.
    pub length: Length,
    /// The client wants the connection kept.
    pub keep_alive: bool,
    /// `Expect: 100-continue`.
    pub expects_continue: bool,
    /// It is not to be forwarded (`Max-Forwards: 0`); the parser leaves this to its caller.
    pub last_hop: bool,
    /// The protocols the client wants to switch to; `None` also where it must not.
    pub upgrade: Option<Span>,
}

/// A parsed response head.
#[derive(Debug, Default)]
pub struct ResponseHead {
    /// The status code.
    pub status: u16,
    /// The reason phrase.
    pub phrase: Span,
    /// All fields in order.
    pub fields: Vec<Field>,
    /// The head's length in bytes.
    pub len: usize,
    /// The body's length, the request's method taken into account.
    pub length: Length,
    /// The connection may be used again.
    pub keep_alive: bool,
    /// There is a `Date`.
    pub dated: bool,
    /// The protocol that is spoken from here on.
    pub upgrade: Option<Span>,
}

/// Why a request's head cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadError {
    /// It breaks RFC 9110/9112 framing or syntax; the text says how.
    Malformed(&'static str),
    /// It has more fields than allowed.
    TooManyFields,
    /// The request target is longer than allowed.
    TargetTooLong,
    /// A major version of HTTP that is not spoken here.
    Version,
    /// A method that a reverse proxy does not serve (CONNECT).
    Method,
    /// `Expect` asks for something other than `100-continue`.
    Expectation,
}

impl HeadError {
    /// One sentence for the sender.
    pub fn message(self) -> &'static str {
        match self {
            Self::Malformed(text) => text,
            Self::TooManyFields => "There are too many header fields.",
            Self::TargetTooLong => "The request target is too long.",
            Self::Version => "This version of HTTP is not supported.",
            Self::Method => "This method is not supported.",
            Self::Expectation => "The expectation is not known.",
        }
    }
}

/// What the framing fields of a head add up to.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools)] // Facts that are independent of each other.
struct Framing {
    content_length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    named: bool,
    upgrade: bool,
}

fn framing(
    base: &[u8],
    headers: &[httparse::Header<'_>],
    fields: &mut Vec<Field>,
) -> Result<Framing, &'static str> {
    let mut out = Framing::default();
    fields.clear();
    for header in headers {
        let known = classify(header.name.as_bytes());
        match known {
            Known::ContentLength => {
                if out.content_length.is_some() {
                    return Err("Content-Length is repeated.");
                }
                out.content_length = Some(decimal(header.value)?);
            }
            Known::TransferEncoding => {
                if out.chunked || !header.value.eq_ignore_ascii_case(b"chunked") {
                    return Err("Transfer-Encoding is something other than one `chunked`.");
                }
                out.chunked = true;
            }
            Known::Connection => {
                for option in header.value.split(|&byte| byte == b',') {
                    let option = option.trim_ascii();
                    if option.eq_ignore_ascii_case(b"close") {
                        out.close = true;
                    } else if option.eq_ignore_ascii_case(b"keep-alive") {
                        out.keep_alive = true;
                    } else if !option.is_empty() {
                        out.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
                        out.named = true;
                    }
                }
            }
            _ => {}
        }
        fields.push(Field {
            name: Span::of(base, header.name.as_bytes()),
            value: Span::of(base, header.value),
            known,
            connection_only: false,
        });
    }
    if out.chunked && out.content_length.is_some() {
        return Err("Content-Length and Transfer-Encoding are both given.");
    }
    if out.named {
        mark_connection_fields(base, fields);
    }
    Ok(out)
}

/// The value of the only `Upgrade` field.
fn protocols(bytes: &[u8], fields: &[Field]) -> Option<Span> {
    let mut found = fields.iter().filter(|field| field.known == Known::Upgrade);
    let value = found.next()?.value;
    let filled = elements(value.get(bytes)).all(|name| !name.is_empty());
    (found.next().is_none() && filled).then_some(value)
}

fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// Whether one of the protocols is HTTP itself, or TLS, which carries it (RFC 2817): requests in a
/// tunnel would pass by all rules.
fn offers_http(list: &[u8]) -> bool {
    elements(list).any(|name| {
        name.eq_ignore_ascii_case(b"h2c")
            || name.eq_ignore_ascii_case(b"h2")
            || starts_with(name, b"http")
            || starts_with(name, b"tls")
    })
}

/// Whether an endpoint's choice is among the protocols that were asked for.
pub fn agrees(asked: &[u8], chosen: &[u8]) -> bool {
    elements(chosen).all(|name| elements(asked).any(|asked| asked.eq_ignore_ascii_case(name)))
}

/// Marks the fields that `Connection` names. What frames the message or says whom it is for cannot
/// be taken away in this manner.
fn mark_connection_fields(base: &[u8], fields: &mut [Field]) {
    for index in 0..fields.len() {
        if fields[index].known != Known::Connection {
            continue;
        }
        let value = fields[index].value.get(base);
        for option in value.split(|&byte| byte == b',') {
            let option = option.trim_ascii();
            for field in &mut *fields {
                let framing = matches!(
                    field.known,
                    Known::Host | Known::ContentLength | Known::TransferEncoding
                );
                if !framing && field.name.get(base).eq_ignore_ascii_case(option) {
                    field.connection_only = true;
                }
            }
        }
    }
}

fn decimal(text: &[u8]) -> Result<u64, &'static str> {
    const ERROR: &str = "Content-Length is not a whole number.";
    if text.is_empty() || text.len() > 18 || !text.iter().all(u8::is_ascii_digit) {
        return Err(ERROR);
    }
    Ok(text
        .iter()
        .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

fn explain(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "A header field's name is not valid.",
        httparse::Error::HeaderValue => "A header field's value is not valid.",
        httparse::Error::NewLine => "A line does not end in CRLF.",
        httparse::Error::Token => "The request line is not valid.",
        httparse::Error::Status => "The status line is not valid.",
        httparse::Error::TooManyHeaders => "There are too many header fields.",
        httparse::Error::Version => "The HTTP version is not valid.",
    }
}

impl RequestHead {
    /// Parses `bytes`, which is one whole head as [`scan`] found it.
    ///
    /// # Errors
    /// Why it cannot be read; the connection is of no further use then.
    pub fn parse(
        &mut self,
        bytes: &[u8],
        max_fields: usize,
        max_target: usize,
    ) -> Result<(), HeadError> {
        let mut storage = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let storage = &mut storage[..max_fields.min(MAX_FIELDS)];
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(bytes, storage) {
            Ok(httparse::Status::Complete(len)) if len == bytes.len() => {}
            Ok(_) => return Err(HeadError::Malformed("The request head is not valid.")),
            Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooManyFields),
            Err(httparse::Error::Version) if other_version(bytes) => {
                return Err(HeadError::Version);
            }
            Err(error) => return Err(HeadError::Malformed(explain(error))),
        }
        let (Some(method), Some(target), Some(version)) =
            (request.method, request.path, request.version)
        else {
            return Err(HeadError::Malformed("The request line is not valid."));
        };
        if target.len() > max_target {
            return Err(HeadError::TargetTooLong);
        }
        if bytes[method.len() + 1 + target.len()..][..1] != *b" " || bytes[method.len() + 1] == b' '
        {
            return Err(HeadError::Malformed("The request line is not valid."));
        }
        let framing =
            framing(bytes, request.headers, &mut self.fields).map_err(HeadError::Malformed)?;
        self.len = bytes.len();
        self.version_10 = version == 0;
        self.method = Span::of(bytes, method.as_bytes());
        if self.version_10 && framing.chunked {
            return Err(HeadError::Malformed(
                "Transfer-Encoding is given in an HTTP/1.0 request.",
            ));
        }
        self.length = match framing.content_length {
            _ if framing.chunked => Length::Chunked,
            None | Some(0) => Length::None,
            Some(length) => Length::Known(length),
        };
        self.keep_alive = !framing.close && (!self.version_10 || framing.keep_alive);
        // A body would be taken for the new protocol's bytes by one side, and not by the other.
        let may_switch = framing.upgrade && !self.version_10 && self.length == Length::None;
        self.upgrade = if may_switch {
            protocols(bytes, &self.fields).filter(|span| !offers_http(span.get(bytes)))
        } else {
            None
        };
        self.expectation(bytes)?;
        self.destination(bytes, target.as_bytes())
    }

    fn expectation(&mut self, bytes: &[u8]) -> Result<(), HeadError> {
        self.expects_continue = false;
        for field in &self.fields {
            if field.known == Known::Expect {
                if !field.value.get(bytes).eq_ignore_ascii_case(b"100-continue") {
                    return Err(HeadError::Expectation);
                }
                // Without content there is nothing to wait for.
                self.expects_continue = !self.version_10 && self.length != Length::None;
            }
        }
        Ok(())
    }

    /// The target in its four forms (RFC 9112 §3.2) and the host that goes with it.
    fn destination(&mut self, bytes: &[u8], target: &[u8]) -> Result<(), HeadError> {
        let bad = |text| Err(HeadError::Malformed(text));
        let mut hosts = self.fields.iter().filter(|f| f.known == Known::Host);
        let field = hosts.next();
        if hosts.next().is_some() {
            return bad("There is more than one Host.");
        }
        if field.is_none() && !self.version_10 {
            return bad("There is no Host.");
        }
        self.host = field.map_or_else(Span::default, |field| field.value);
        // An absolute target takes the field's place and does not excuse it (RFC 9112 §3.2).
        let named = self.host.get(bytes);
        let absent = named.is_empty() && self.version_10;
        if !absent && !valid_host(named) {
            return bad("The host is not valid.");
        }
        let method = self.method.get(bytes);
        if method == b"CONNECT" {
            return Err(HeadError::Method);
        }
        self.target = Span::of(bytes, target);
        if target == b"*" {
            if method != b"OPTIONS" {
                return bad("The request target is not valid.");
            }
        } else if target[0] != b'/' {
            let scheme = if starts_with(target, b"http://") {
                7
            } else if starts_with(target, b"https://") {
                8
            } else {
                return bad("The request target is not valid.");
            };
            let rest = &target[scheme..];
            let end = rest
                .iter()
                .position(|byte| matches!(byte, b'/' | b'?'))
                .unwrap_or(rest.len());
            if end == 0 {
                return bad("The request target is not valid.");
            }
            self.host = Span::of(bytes, &rest[..end]);
            self.target = Span::of(bytes, &rest[end..]);
            if !valid_host(&rest[..end]) {
                return bad("The host is not valid.");
            }
        }
        if target.contains(&b'#') || target.iter().any(|&byte| byte <= b' ' || byte >= 0x7f) {
            return bad("The request target is not valid.");
        }
        Ok(())
    }

    /// The path of the target, without its query.
    pub fn path<'a>(&self, base: &'a [u8]) -> &'a [u8] {
        let target = self.target.get(base);
        let end = memchr::memchr(b'?', target).unwrap_or(target.len());
        if end == 0 { b"/" } else { &target[..end] }
    }

    /// Lets `write` put another path over the target's, not longer than it, and answer its length;
    /// `base` is the buffer given to the parser. What is behind the target stays in its place.
    pub fn replace_path(&mut self, base: &mut [u8], write: impl FnOnce(&mut [u8]) -> usize) {
        let target = self.target.get_mut(base);
        let query = memchr::memchr(b'?', target).unwrap_or(target.len());
        let len = write(&mut target[..query]);
        target.copy_within(query.., len);
        self.target.end -= (query - len) as u32;
    }

    /// The query of the target; empty when there is none.
    pub fn query<'a>(&self, base: &'a [u8]) -> &'a [u8] {
        let target = self.target.get(base);
        memchr::memchr(b'?', target).map_or(b"", |mark| &target[mark + 1..])
    }

    /// Copies the lines of the fields that `keep` says, in order and as they were sent.
    pub fn copy_fields(&self, base: &[u8], out: &mut Vec<u8>, keep: impl FnMut(&Field) -> bool) {
        copy_fields(&self.fields, self.len, base, out, keep);
    }
}

/// Whether this is a request line in order but for another version of HTTP, correctly written.
fn other_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|&byte| byte == b'\r').next().unwrap_or(bytes);
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(_), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    !target.is_empty()
        && version.len() == 8
        && version.starts_with(b"HTTP/")
        && version[5].is_ascii_digit()
        && version[6] == b'.'
        && version[7].is_ascii_digit()
        && !matches!(version, b"HTTP/1.0" | b"HTTP/1.1")
}

fn starts_with(text: &[u8], prefix: &[u8]) -> bool {
    text.len() >= prefix.len() && text[..prefix.len()].eq_ignore_ascii_case(prefix)
}

/// Whether `host` is a name or address with an optional port (RFC 9110 §7.2).
fn valid_host(host: &[u8]) -> bool {
    let (name, port) = if host.first() == Some(&b'[') {
        let Some(end) = host.iter().position(|&byte| byte == b']') else {
            return false;
        };
        let address = std::str::from_utf8(&host[1..end])
            .ok()
            .and_then(|text| text.parse::<std::net::Ipv6Addr>().ok());
        if address.is_none() {
            return false;
        }
        (&host[..=end], &host[end + 1..])
    } else {
        let end = memchr::memchr(b':', host).unwrap_or(host.len());
        let name = &host[..end];
        if !name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(byte))
        {
            return false;
        }
        (name, &host[end..])
    };
    let port_fits = match port {
        [] | [b':'] => true,
        [b':', digits @ ..] if digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) => {
            let number = digits
                .iter()
                .fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
            u16::try_from(number).is_ok()
        }
        _ => false,
    };
    !name.is_empty() && port_fits
}

impl ResponseHead {
    /// Parses `bytes`, which is one whole head as [`scan`] found it. `head_request` says that the
    /// request's method was HEAD.
    pub fn parse(&mut self, bytes: &[u8], head_request: bool) -> Result<(), &'static str> {
        let mut storage = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut response, bytes, &mut storage) {
            Ok(httparse::Status::Complete(len)) if len == bytes.len() => {}
            Ok(_) => return Err("The response head is not valid."),
            Err(error) => return Err(explain(error)),
        }
        let (Some(status), Some(version)) = (response.code, response.version) else {
            return Err("The status line is not valid.");
        };
        if !(100..=999).contains(&status) {
            return Err("The status code is not valid.");
        }
        let framing = framing(bytes, response.headers, &mut self.fields)?;
        self.status = status;
        self.phrase = response
            .reason
            .filter(|reason| !reason.is_empty())
            .map_or_else(Span::default, |reason| Span::of(bytes, reason.as_bytes()));
        self.len = bytes.len();
        self.keep_alive = !framing.close && (version == 1 || framing.keep_alive);
        self.upgrade = if framing.upgrade && status == 101 {
            protocols(bytes, &self.fields)
        } else {
            None
        };
        self.dated = self.fields.iter().any(|field| field.known == Known::Date);
        if framing.chunked && version == 0 {
            return Err("Transfer-Encoding is given in an HTTP/1.0 response.");
        }
        self.length = if head_request || status < 200 || status == 204 || status == 304 {
            Length::None
        } else if framing.chunked {
            Length::Chunked
        } else {
            match framing.content_length {
                Some(0) => Length::None,
                Some(length) => Length::Known(length),
                None => Length::UntilClose,
            }
        };
        if self.length == Length::UntilClose {
            self.keep_alive = false;
        }
        Ok(())
    }

    /// Copies the lines of the fields that `keep` says, in order and as they were sent.
    pub fn copy_fields(&self, base: &[u8], out: &mut Vec<u8>, keep: impl FnMut(&Field) -> bool) {
        copy_fields(&self.fields, self.len, base, out, keep);
    }
}

/// Copies runs of neighbouring kept lines at once: most heads lose only a line or two.
fn copy_fields(
    fields: &[Field],
    head_len: usize,
    base: &[u8],
    out: &mut Vec<u8>,
    mut keep: impl FnMut(&Field) -> bool,
) {
    let mut run: Option<usize> = None;
    let mut end = 0;
    for (index, field) in fields.iter().enumerate() {
        if keep(field) {
            run.get_or_insert(field.name.start as usize);
            end = Field::line_end(fields, index, head_len);
        } else if let Some(start) = run.take() {
            out.extend_from_slice(&base[start..end]);
        }
    }
    if let Some(start) = run {
        out.extend_from_slice(&base[start..end]);
    }
}
