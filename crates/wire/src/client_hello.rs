//! What a TLS client asks for before anything is encrypted: the server's name and the application
//! protocols. Reads, never answers: the handshake is the backend's.
//!
//! No I/O here; the bytes stay where they are and are relayed as they came.

/// The most bytes that are looked at. Hellos with post-quantum keys have about 2 KiB.
pub const MAX_BYTES: usize = 16 * 1024;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientHello {
    /// The server's name in lower case, without a dot at its end.
    pub server_name: Option<String>,
    /// The application protocols, the preferred first.
    pub alpn: Vec<Vec<u8>>,
}

/// Looks at the beginning of a connection. `None`: the message is not complete yet.
///
/// # Errors
/// It is no TLS, its first message is no client hello, or that is malformed or too long.
pub fn parse(bytes: &[u8]) -> Result<Option<ClientHello>, &'static str> {
    let mut message = Vec::new();
    let mut records = bytes;
    loop {
        if let [kind, major, ..] = records
            && (*kind != 22 || *major != 3)
        {
            return Err("no TLS handshake");
        }
        if records.first().is_some_and(|kind| *kind != 22) {
            return Err("no TLS handshake");
        }
        let Some((header, rest)) = records.split_at_checked(5) else {
            return incomplete(bytes);
        };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if !(1..=1 << 14).contains(&length) {
            return Err("a TLS record has no valid length");
        }
        // Of a record that is not here whole, what is here counts.
        let here = &rest[..length.min(rest.len())];
        message.extend_from_slice(here);
        if message.first().is_some_and(|kind| *kind != 1) {
            return Err("the first message is no client hello");
        }
        if let [_, high, middle, low, body @ ..] = &message[..] {
            let size = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
            if size > MAX_BYTES {
                return Err("the client hello is too long");
            }
            if let Some(body) = body.get(..size) {
                return hello(body).map(Some);
            }
        }
        if here.len() < length {
            return incomplete(bytes);
        }
        records = &rest[length..];
    }
}

fn incomplete(bytes: &[u8]) -> Result<Option<ClientHello>, &'static str> {
    if bytes.len() >= MAX_BYTES {
        return Err("the client hello is too long");
    }
    Ok(None)
}

const CUT: &str = "the client hello is cut short";

/// Takes so many bytes off the front.
fn take<'a>(from: &mut &'a [u8], count: usize) -> Result<&'a [u8], &'static str> {
    let (taken, rest) = from.split_at_checked(count).ok_or(CUT)?;
    *from = rest;
    Ok(taken)
}

/// Takes a field that begins with its length in one byte.
fn short<'a>(from: &mut &'a [u8]) -> Result<&'a [u8], &'static str> {
    let length = take(from, 1)?[0];
    take(from, length.into())
}

/// Takes a field that begins with its length in two bytes.
fn long<'a>(from: &mut &'a [u8]) -> Result<&'a [u8], &'static str> {
    let length = take(from, 2)?;
    take(from, u16::from_be_bytes([length[0], length[1]]).into())
}

fn hello(body: &[u8]) -> Result<ClientHello, &'static str> {
    let mut rest = body;
    take(&mut rest, 2 + 32)?;
    short(&mut rest)?;
    long(&mut rest)?;
    short(&mut rest)?;
    let mut found = ClientHello::default();
    if rest.is_empty() {
        return Ok(found);
    }
    let mut extensions = long(&mut rest)?;
    while !extensions.is_empty() {
        let kind = take(&mut extensions, 2)?;
        let mut value = long(&mut extensions)?;
        match kind {
            [0, 0] => {
                let mut names = long(&mut value)?;
                while !names.is_empty() {
                    let kind = take(&mut names, 1)?[0];
                    let name = long(&mut names)?;
                    if kind == 0 && found.server_name.is_none() {
                        found.server_name = Some(server_name(name)?);
                    }
                }
            }
            [0, 16] => {
                let mut protocols = long(&mut value)?;
                while !protocols.is_empty() {
                    found.alpn.push(short(&mut protocols)?.to_vec());
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

fn server_name(bytes: &[u8]) -> Result<String, &'static str> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    let name = bytes.strip_suffix(b".").unwrap_or(bytes);
    if name.is_empty() || name.len() > 253 || !name.iter().all(plain) {
        return Err("the server's name is no name");
    }
    Ok(String::from_utf8_lossy(name).to_ascii_lowercase())
}
