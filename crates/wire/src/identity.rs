//! Who a client is by its certificate: the subject in the notation of RFC 4514 and the fingerprint.

/// A client whose certificate was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The subject, as in `CN=alice,O=Example`; ASCII, other bytes escaped.
    pub subject: String,
    /// SHA-256 of the certificate in lower-case hexadecimal digits.
    pub fingerprint: String,
}

impl Identity {
    /// The identity in a certificate with this fingerprint. A subject that cannot be read is empty.
    pub fn of(certificate: &[u8], fingerprint: String) -> Self {
        Self {
            subject: subject(certificate).and_then(rfc4514).unwrap_or_default(),
            fingerprint,
        }
    }
}

/// DER tags.
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const VERSION: u8 = 0xa0;
const BMP_STRING: u8 = 0x1e;

/// One element of DER: its tag, its content, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 3 {
            return None;
        }
        let digits = rest.get(..count)?;
        length = digits.iter().fold(0, |sum, &d| sum << 8 | usize::from(d));
        rest = &rest[count..];
    }
    Some((tag, rest.get(..length)?, &rest[length..]))
}

fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    element(bytes)
        .filter(|(found, ..)| *found == tag)
        .map(|(_, content, rest)| (content, rest))
}

/// The subject's content within a certificate (RFC 5280 §4.1).
fn subject(certificate: &[u8]) -> Option<&[u8]> {
    let (certificate, _) = expect(certificate, SEQUENCE)?;
    let (tbs, _) = expect(certificate, SEQUENCE)?;
    let mut rest = match expect(tbs, VERSION) {
        Some((_, rest)) => rest,
        None => tbs,
    };
    // Serial number, signature, issuer, validity.
    for _ in 0..4 {
        rest = element(rest)?.2;
    }
    expect(rest, SEQUENCE).map(|(content, _)| content)
}

/// A name in the notation of RFC 4514: the last part first.
fn rfc4514(mut name: &[u8]) -> Option<String> {
    let mut parts = Vec::new();
    while !name.is_empty() {
        let (mut set, rest) = expect(name, SET)?;
        let mut pairs = Vec::new();
        while !set.is_empty() {
            let (pair, rest) = expect(set, SEQUENCE)?;
            let (kind, value) = expect(pair, OID)?;
            let (tag, value, _) = element(value)?;
            pairs.push(format!("{}={}", attribute(kind)?, escaped(tag, value)));
            set = rest;
        }
        parts.push(pairs.join("+"));
        name = rest;
    }
    parts.reverse();
    Some(parts.join(","))
}

/// An attribute's short name, else its object identifier in digits.
fn attribute(oid: &[u8]) -> Option<String> {
    let short = match oid {
        [0x55, 0x04, 0x03] => "CN",
        [0x55, 0x04, 0x05] => "serialNumber",
        [0x55, 0x04, 0x06] => "C",
        [0x55, 0x04, 0x07] => "L",
        [0x55, 0x04, 0x08] => "ST",
        [0x55, 0x04, 0x09] => "STREET",
        [0x55, 0x04, 0x0a] => "O",
        [0x55, 0x04, 0x0b] => "OU",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01] => "UID",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19] => "DC",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01] => "emailAddress",
        _ => return dotted(oid),
    };
    Some(short.into())
}

fn dotted(oid: &[u8]) -> Option<String> {
    let mut numbers = Vec::new();
    let mut number: u64 = 0;
    for &byte in oid {
        number = number.checked_mul(128)? + u64::from(byte & 0x7f);
        if byte < 0x80 {
            numbers.push(std::mem::take(&mut number));
        }
    }
    let first = *numbers.first()?;
    let top = (first / 40).min(2);
    numbers[0] = first - top * 40;
    numbers.insert(0, top);
    let digits: Vec<String> = numbers.iter().map(u64::to_string).collect();
    Some(digits.join("."))
}

/// A value whose special and non-ASCII characters are escaped, so that it can stand in a header
/// field and says the same to everyone.
fn escaped(tag: u8, value: &[u8]) -> String {
    use std::fmt::Write as _;
    let decoded: Vec<u8> = if tag == BMP_STRING {
        let units = value
            .chunks_exact(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        char::decode_utf16(units)
            .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect::<String>()
            .into_bytes()
    } else {
        value.to_vec()
    };
    let last = decoded.len().saturating_sub(1);
    let mut out = String::with_capacity(decoded.len());
    for (at, &byte) in decoded.iter().enumerate() {
        let edge = (at == 0 && matches!(byte, b' ' | b'#')) || (at == last && byte == b' ');
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' | b'=' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            _ if edge => {
                out.push('\\');
                out.push(char::from(byte));
            }
            0x20..=0x7e => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "\\{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag, content.len() as u8];
        out.extend_from_slice(content);
        out
    }

    fn pair(oid: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        let content = [tlv(OID, oid), tlv(tag, value)].concat();
        tlv(SET, &tlv(SEQUENCE, &content))
    }

    #[test]
    fn the_last_part_of_a_name_comes_first() {
        let name = [
            pair(&[0x55, 0x04, 0x06], 0x13, b"CH"),
            pair(&[0x55, 0x04, 0x0a], 0x0c, b"Example, Inc."),
            pair(&[0x55, 0x04, 0x03], 0x0c, "Zoë\r\nx: y".as_bytes()),
        ];
        assert_eq!(
            rfc4514(&name.concat()).as_deref(),
            Some("CN=Zo\\C3\\AB\\0D\\0Ax: y,O=Example\\, Inc.,C=CH")
        );
    }

    #[test]
    fn unknown_attributes_are_named_by_their_numbers() {
        let name = pair(
            &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07],
            0x0c,
            b"v",
        );
        assert_eq!(rfc4514(&name).as_deref(), Some("1.2.840.113549.1.7=v"));
        let wide = pair(&[0x1e], BMP_STRING, &[0x00, 0x41, 0x01, 0x01]);
        assert_eq!(rfc4514(&wide).as_deref(), Some("0.30=A\\C4\\81"));
    }

    #[test]
    fn what_is_no_certificate_has_an_empty_subject() {
        for wrong in [
            &b""[..],
            b"\x30",
            b"\x30\x84\xff\xff\xff\xff",
            b"\x30\x82\xff\xff\x30",
        ] {
            assert_eq!(Identity::of(wrong, String::new()).subject, "");
        }
    }
}
