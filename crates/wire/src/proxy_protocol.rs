//! The PROXY protocol, versions 1 and 2: who a connection is from when a balancer stands before it.
//!
//! No I/O here. The reader is told how many bytes surely still belong to the header, so that it
//! never takes one that does not: what follows is another protocol's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, its end included.
const MAX_LINE: usize = 107;
/// The shortest one: `PROXY UNKNOWN` and its end.
const MIN_LINE: usize = 15;
/// Version 2: the fixed part.
const FIXED: usize = 16;
/// The most that may follow the fixed part. Addresses take 216 bytes at the most, the rest is
/// certificates and the like, which nobody here asks for.
pub const MAX_V2: usize = 4096;
/// The type of the checksum among the extensions.
const CRC32C: u8 = 0x03;

/// The ends of a connection, as the sender of a header saw them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressPair {
    /// Who connected.
    pub source: SocketAddr,
    /// Where to.
    pub destination: SocketAddr,
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The connection is from the sender itself, a health check for example.
    Local,
    /// The ends are not addresses of the internet (version 1 `UNKNOWN`, version 2 `UNSPEC` or Unix).
    Unknown,
    /// The ends.
    Proxied(AddressPair),
}

/// What can be said of the bytes so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyScan {
    /// The header goes on for at least so many bytes.
    Needs(usize),
    /// It is complete, and this long.
    Complete(usize, ProxyHeader),
}

/// Looks at the beginning of a connection.
///
/// # Errors
/// It does not begin with a header, or with one that breaks the rules; the text says which.
pub fn scan(bytes: &[u8]) -> Result<ProxyScan, &'static str> {
    let shared = bytes.len().min(SIGNATURE.len());
    if bytes[..shared] == SIGNATURE[..shared] && !bytes.is_empty() {
        return scan_v2(bytes);
    }
    let word = b"PROXY ";
    let shared = bytes.len().min(word.len());
    if bytes[..shared] != word[..shared] {
        return Err("no PROXY header");
    }
    scan_v1(bytes)
}

fn scan_v1(bytes: &[u8]) -> Result<ProxyScan, &'static str> {
    let window = &bytes[..bytes.len().min(MAX_LINE)];
    let Some(end) = memchr::memchr(b'\n', window) else {
        if bytes.len() >= MAX_LINE {
            return Err("the header's line is too long");
        }
        let ended = usize::from(bytes.last() == Some(&b'\r'));
        let sure = MIN_LINE.saturating_sub(bytes.len()).max(2 - ended);
        return Ok(ProxyScan::Needs(sure.min(MAX_LINE - bytes.len())));
    };
    let Some(line) = bytes[..end].strip_suffix(b"\r") else {
        return Err("the header's line ends without CR");
    };
    let line = std::str::from_utf8(line).map_err(|_| "the header's line is not ASCII")?;
    let mut words = line.split(' ').skip(1);
    let said = match words.next() {
        // What stands behind UNKNOWN is to be ignored.
        Some("UNKNOWN") => ProxyHeader::Unknown,
        Some("TCP4") => ProxyHeader::Proxied(ends_v1::<Ipv4Addr>(words)?),
        Some("TCP6") => ProxyHeader::Proxied(ends_v1::<Ipv6Addr>(words)?),
        _ => return Err("the header names no known protocol"),
    };
    Ok(ProxyScan::Complete(end + 1, said))
}

fn ends_v1<'a, A: std::str::FromStr + Into<IpAddr>>(
    words: impl Iterator<Item = &'a str>,
) -> Result<AddressPair, &'static str> {
    let words: Vec<&str> = words.take(5).collect();
    let [source, destination, source_port, destination_port] = words[..] else {
        return Err("the header has not two addresses and two ports");
    };
    let address = |text: &str| text.parse::<A>().map(Into::into);
    let port = |text: &str| {
        let plain = text == "0" || !text.starts_with('0') && !text.starts_with('+');
        text.parse::<u16>().ok().filter(|_| plain)
    };
    let (Ok(source), Ok(destination)) = (address(source), address(destination)) else {
        return Err("an address of the header is not valid");
    };
    let (Some(source_port), Some(destination_port)) = (port(source_port), port(destination_port))
    else {
        return Err("a port of the header is not valid");
    };
    Ok(AddressPair {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    })
}

fn scan_v2(bytes: &[u8]) -> Result<ProxyScan, &'static str> {
    if bytes.len() < FIXED {
        return Ok(ProxyScan::Needs(FIXED - bytes.len()));
    }
    let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if bytes[12] >> 4 != 2 {
        return Err("the header's version is not 2");
    }
    if length > MAX_V2 {
        return Err("the header is too long");
    }
    let total = FIXED + length;
    if bytes.len() < total {
        return Ok(ProxyScan::Needs(total - bytes.len()));
    }
    let body = &bytes[FIXED..total];
    let (ends, rest) = match bytes[13] {
        0x11 | 0x12 => {
            let (block, rest) = body.split_at_checked(12).ok_or(SHORT)?;
            (Some(ends_v4(block)), rest)
        }
        0x21 | 0x22 => {
            let (block, rest) = body.split_at_checked(36).ok_or(SHORT)?;
            (ends_v6(block), rest)
        }
        0x31 | 0x32 => (None, body.get(216..).ok_or(SHORT)?),
        // Whatever stands in an unspecified family is not to be looked into.
        0x00 => (None, &[][..]),
        _ => return Err("the header's address family is not known"),
    };
    let said = match bytes[12] & 0xf {
        0 => ProxyHeader::Local,
        1 => ends.map_or(ProxyHeader::Unknown, ProxyHeader::Proxied),
        _ => return Err("the header's command is not known"),
    };
    check_extensions(&bytes[..total], total - rest.len())?;
    Ok(ProxyScan::Complete(total, said))
}

const SHORT: &str = "the header is too short for its addresses";

fn port(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

fn ends_v4(block: &[u8]) -> AddressPair {
    let address = |at: usize| Ipv4Addr::new(block[at], block[at + 1], block[at + 2], block[at + 3]);
    AddressPair {
        source: SocketAddr::new(address(0).into(), port(&block[8..])),
        destination: SocketAddr::new(address(4).into(), port(&block[10..])),
    }
}

fn ends_v6(block: &[u8]) -> Option<AddressPair> {
    let address = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 16] = block[at..at + 16].try_into().ok()?;
        Some(Ipv6Addr::from(octets).into())
    };
    Some(AddressPair {
        source: SocketAddr::new(address(0)?, port(&block[32..])),
        destination: SocketAddr::new(address(16)?, port(&block[34..])),
    })
}

/// Walks the extensions, and checks the checksum if there is one.
fn check_extensions(header: &[u8], mut at: usize) -> Result<(), &'static str> {
    while at < header.len() {
        let Some([kind, high, low]) = header.get(at..at + 3) else {
            return Err("an extension of the header is cut short");
        };
        let size = usize::from(u16::from_be_bytes([*high, *low]));
        let Some(value) = header.get(at + 3..at + 3 + size) else {
            return Err("an extension of the header is cut short");
        };
        if *kind == CRC32C {
            let Ok(sent) = <[u8; 4]>::try_from(value) else {
                return Err("the header's checksum has not four bytes");
            };
            let parts = [&header[..at + 3], &[0; 4], &header[at + 7..]];
            if crc32c(&parts) != u32::from_be_bytes(sent) {
                return Err("the header's checksum is wrong");
            }
        }
        at += 3 + size;
    }
    Ok(())
}

/// CRC-32C, bit by bit: headers are short and rare.
fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut crc = !0_u32;
    for byte in parts.iter().copied().flatten() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// Appends a header of version 1; without ends that of an unknown connection.
pub fn push_v1(out: &mut Vec<u8>, ends: Option<AddressPair>) {
    let Some((source, destination)) = ends.map(one_family) else {
        out.extend_from_slice(b"PROXY UNKNOWN\r\n");
        return;
    };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let line = format!(
        "PROXY {family} {} {} {} {}\r\n",
        source.ip(),
        destination.ip(),
        source.port(),
        destination.port()
    );
    out.extend_from_slice(line.as_bytes());
}

/// Appends a header of version 2; without ends that of a connection of our own.
pub fn push_v2(out: &mut Vec<u8>, ends: Option<AddressPair>) {
    out.extend_from_slice(&SIGNATURE);
    match ends.map(one_family) {
        None => out.extend_from_slice(&[0x20, 0, 0, 0]),
        Some((source, destination)) => {
            let (family, length) = if source.is_ipv4() {
                (0x11, 12)
            } else {
                (0x21, 36)
            };
            out.extend_from_slice(&[0x21, family, 0, length]);
            for end in [source, destination] {
                match end.ip() {
                    IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
                    IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
                }
            }
            out.extend_from_slice(&source.port().to_be_bytes());
            out.extend_from_slice(&destination.port().to_be_bytes());
        }
    }
}

/// Both ends in one address family, as the header needs them.
fn one_family(ends: AddressPair) -> (SocketAddr, SocketAddr) {
    let plain = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    let (source, destination) = (plain(ends.source), plain(ends.destination));
    if source.is_ipv4() == destination.is_ipv4() {
        return (source, destination);
    }
    let wide = |end: SocketAddr| match end.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), end.port()),
        IpAddr::V6(_) => end,
    };
    (wide(source), wide(destination))
}
