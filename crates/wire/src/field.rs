//! Header fields: what their names mean to a proxy, and where they stand in the bytes of a head.

/// A part of the buffer that a head was parsed from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    pub(crate) fn of(base: &[u8], part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize - base.as_ptr() as usize) as u32;
        Self {
            start,
            end: start + part.len() as u32,
        }
    }

    /// The bytes themselves; `base` is the buffer given to the parser.
    #[inline]
    pub fn get(self, base: &[u8]) -> &[u8] {
        &base[self.start as usize..self.end as usize]
    }

    /// The bytes themselves, to be written over.
    pub fn get_mut(self, base: &mut [u8]) -> &mut [u8] {
        &mut base[self.start as usize..self.end as usize]
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// Field names that the exchange treats in a way of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Any other field.
    Other,
    /// `Host`
    Host,
    /// `Content-Length`
    ContentLength,
    /// `Transfer-Encoding`
    TransferEncoding,
    /// `Connection`
    Connection,
    /// Removed whatever `Connection` says: `Keep-Alive`, `Proxy-Connection`, `TE`.
    HopByHop,
    /// `Upgrade`; written anew where a switch of protocols is wanted.
    Upgrade,
    /// `Expect`
    Expect,
    /// `X-Forwarded-For`
    XForwardedFor,
    /// `X-Forwarded-Proto`
    XForwardedProto,
    /// `X-Forwarded-Host`
    XForwardedHost,
    /// `X-Real-IP`
    XRealIp,
    /// `X-Request-ID`
    XRequestId,
    /// `Forwarded`
    Forwarded,
    /// `Via`
    Via,
    /// `evenflow-…`: only the balancer itself says these.
    Own,
    /// `Date`
    Date,
    /// `X-Client-Cert-Subject`, `X-Client-Cert-Fingerprint`: only the balancer says these.
    ClientCert,
    /// One of the names above but for `_` in place of `-`: some servers take both for the same, so
    /// a client could say by it what it may not say.
    Lookalike,
}

/// What a name is known as.
pub fn classify(name: &[u8]) -> Known {
    let is = |text: &str| name.eq_ignore_ascii_case(text.as_bytes());
    match name.len() {
        2 if is("te") => Known::HopByHop,
        3 if is("via") => Known::Via,
        4 if is("host") => Known::Host,
        4 if is("date") => Known::Date,
        6 if is("expect") => Known::Expect,
        7 if is("upgrade") => Known::Upgrade,
        9 if is("x-real-ip") => Known::XRealIp,
        9 if is("forwarded") => Known::Forwarded,
        10 if is("connection") => Known::Connection,
        10 if is("keep-alive") => Known::HopByHop,
        12 if is("x-request-id") => Known::XRequestId,
        14 if is("content-length") => Known::ContentLength,
        15 if is("x-forwarded-for") => Known::XForwardedFor,
        16 if is("x-forwarded-host") => Known::XForwardedHost,
        16 if is("proxy-connection") => Known::HopByHop,
        17 if is("x-forwarded-proto") => Known::XForwardedProto,
        17 if is("transfer-encoding") => Known::TransferEncoding,
        21 if is("x-client-cert-subject") => Known::ClientCert,
        25 if is("x-client-cert-fingerprint") => Known::ClientCert,
        length if length > 9 && name[..9].eq_ignore_ascii_case(b"evenflow-") => Known::Own,
        length if length >= 9 && memchr::memchr(b'_', name).is_some() => lookalike(name),
        _ => Known::Other,
    }
}

/// What a name with `_` in it is known as.
fn lookalike(name: &[u8]) -> Known {
    let mut room = [0; 32];
    let Some(dashed) = room.get_mut(..name.len()) else {
        return Known::Other;
    };
    for (to, &from) in dashed.iter_mut().zip(name) {
        *to = if from == b'_' { b'-' } else { from };
    }
    match classify(dashed) {
        Known::Other => Known::Other,
        _ => Known::Lookalike,
    }
}

/// One header field.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The name as sent.
    pub name: Span,
    /// The value without surrounding white space.
    pub value: Span,
    /// What the exchange knows it as.
    pub known: Known,
    /// Named by `Connection`: for this connection only.
    pub connection_only: bool,
}

impl Field {
    /// The field's whole line with its CRLF: from its name to the next field's.
    pub(crate) fn line_end(fields: &[Self], index: usize, head_len: usize) -> usize {
        fields
            .get(index + 1)
            .map_or(head_len - 2, |next| next.name.start as usize)
    }
}

/// `TE: trailers`, the one word of this field that HTTP/2 knows.
pub fn is_trailers(name: &[u8], value: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"te") && value.eq_ignore_ascii_case(b"trailers")
}

/// Whether an answer's field belongs to cross-origin resource sharing: `Access-Control-…`.
pub fn is_cross_origin(name: &[u8]) -> bool {
    const PREFIX: &[u8] = b"access-control-";
    name.get(..PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// RFC 9110's `token`.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}
