//! The parts of a certificate that [`special`](super::special) judges by, read from strict DER
//! (RFC 5280 §4.1), and whether a key has signed one. No certificate is trusted here.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::SignatureVerificationAlgorithm;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const ISSUER_ID: u8 = 0x81;
const SUBJECT_ID: u8 = 0x82;
const EXTENSIONS: u8 = 0xa3;

/// 2.5.29.37
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// 2.5.29.37.0
const ANY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
/// 1.3.6.1.5.5.7.3.1
pub const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
/// 1.3.6.1.5.5.7.3.2
pub const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

/// What a certificate or a revocation list is: something with a signature.
#[derive(Debug)]
pub struct Signed<'a> {
    /// What is signed, with its tag and length.
    message: &'a [u8],
    /// The content of the algorithm's identifier.
    algorithm: &'a [u8],
    signature: &'a [u8],
}

/// A certificate. Names, identifiers and keys are the content of their elements.
#[derive(Debug)]
pub struct Certificate<'a> {
    /// 1 to 3.
    pub version: u8,
    /// For [`Signed::is_by`].
    pub signed: Signed<'a>,
    /// The serial number.
    pub serial: &'a [u8],
    /// The issuer's name.
    pub issuer: &'a [u8],
    /// In seconds since 1970.
    pub not_before: u64,
    /// In seconds since 1970.
    pub not_after: u64,
    /// The key, as one element with its tag and length.
    pub key: &'a [u8],
    usages: Usages<'a>,
}

/// What a certificate may be used for.
#[derive(Debug)]
enum Usages<'a> {
    /// It does not say.
    Any,
    /// The content of the extension's value.
    Named(&'a [u8]),
}

/// Elements one after the other.
struct Reader<'a>(&'a [u8]);

/// An element: its content, and all of it.
#[derive(Clone, Copy)]
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    whole: &'a [u8],
}

impl<'a> Reader<'a> {
    fn element(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let count = usize::from(first & 0x7f);
            let digits = rest.get(..count)?;
            let length = digits
                .iter()
                .fold(0, |sum, &digit| sum << 8 | usize::from(digit));
            // The shortest form alone is DER; longer than 16 MiB is no certificate.
            let shortest = length >= 0x80 && digits.first() != Some(&0);
            (shortest && count <= 3).then_some((length, &rest[count..]))?
        };
        let content = rest.get(..length)?;
        let used = self.0.len() - rest.len() + length;
        let (whole, rest) = self.0.split_at(used);
        self.0 = rest;
        Some(Element {
            tag,
            content,
            whole,
        })
    }

    fn expect(&mut self, tag: u8) -> Option<Element<'a>> {
        self.element().filter(|element| element.tag == tag)
    }

    /// The content of the next element if it has this tag; empty, and nothing read, if not.
    fn optional(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.0.first() == Some(&tag) {
            let content = self.element()?.content;
            (!content.is_empty()).then_some(content)
        } else {
            Some(&[])
        }
    }

    /// That nothing is left.
    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// A bit string of whole bytes.
fn bits(element: Element<'_>) -> Option<&[u8]> {
    element.content.strip_prefix(&[0])
}

impl<'a> Signed<'a> {
    /// Reads a certificate or a revocation list as far as it says what is signed, and how.
    pub fn read(der: &'a [u8]) -> Option<Self> {
        let mut outer = Reader(der);
        let mut parts = Reader(outer.expect(SEQUENCE)?.content);
        outer.end()?;
        let message = parts.expect(SEQUENCE)?.whole;
        let algorithm = parts.expect(SEQUENCE)?.content;
        let signature = bits(parts.expect(BIT_STRING)?)?;
        parts.end()?;
        Some(Self {
            message,
            algorithm,
            signature,
        })
    }

    /// Whether a key, given as the content of its `SubjectPublicKeyInfo`, has made the signature.
    pub fn is_by(&self, key: &[u8], algorithms: &WebPkiSupportedAlgorithms) -> bool {
        algorithms.all.iter().any(|algorithm| {
            algorithm.signature_alg_id().as_ref() == self.algorithm
                && Self::message_is_by(key, *algorithm, self.message, self.signature)
        })
    }

    /// Whether a key has made the signature of a message with this algorithm.
    pub fn message_is_by(
        key: &[u8],
        algorithm: &dyn SignatureVerificationAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        let mut parts = Reader(key);
        let Some((kind, key)) = parts.expect(SEQUENCE).zip(parts.expect(BIT_STRING)) else {
            return false;
        };
        parts.end().is_some()
            && algorithm.public_key_alg_id().as_ref() == kind.content
            && bits(key).is_some_and(|key| {
                let verified = algorithm.verify_signature(key, message, signature);
                verified.is_ok()
            })
    }
}

impl<'a> Certificate<'a> {
    /// Reads a certificate; `None` where it is none, or not as RFC 5280 wants it.
    pub fn read(der: &'a [u8]) -> Option<Self> {
        let signed = Signed::read(der)?;
        let mut fields = Reader(Reader(signed.message).expect(SEQUENCE)?.content);
        let version = match fields.optional(VERSION)? {
            [] => 1,
            [INTEGER, 1, number @ 1..=2] => number + 1,
            // The default is not written down, and there are no others.
            _ => return None,
        };
        let serial = fields.expect(INTEGER)?.content;
        if fields.expect(SEQUENCE)?.content != signed.algorithm {
            return None;
        }
        let issuer = fields.expect(SEQUENCE)?.content;
        let mut validity = Reader(fields.expect(SEQUENCE)?.content);
        let (not_before, not_after) = (time(validity.element()?)?, time(validity.element()?)?);
        validity.end()?;
        fields.expect(SEQUENCE)?;
        let key = fields.expect(SEQUENCE)?.whole;
        let mut usages = Usages::Any;
        if version > 1 {
            fields.optional(ISSUER_ID)?;
            fields.optional(SUBJECT_ID)?;
        }
        if version == 3 {
            usages = Usages::read(fields.optional(EXTENSIONS)?)?;
        }
        fields.end()?;
        Some(Self {
            version,
            signed,
            serial,
            issuer,
            not_before,
            not_after,
            key,
            usages,
        })
    }

    /// Whether it may be used so; one that names no uses may be used for all.
    pub fn permits(&self, usage: &[u8]) -> bool {
        let Usages::Named(usages) = self.usages else {
            return true;
        };
        let mut usages = Reader(usages);
        std::iter::from_fn(|| usages.expect(OID))
            .any(|named| named.content == usage || named.content == ANY_USAGE)
    }

    /// The key's content, as [`Signed::is_by`] and roots of trust have it.
    pub fn key_content(&self) -> &'a [u8] {
        let element = Reader(self.key).element();
        element.map_or(&[], |element| element.content)
    }
}

impl<'a> Usages<'a> {
    /// Reads them from the extensions, which may be none.
    fn read(extensions: &'a [u8]) -> Option<Self> {
        let mut found = Self::Any;
        if extensions.is_empty() {
            return Some(found);
        }
        let mut extensions = Reader(Reader(extensions).expect(SEQUENCE)?.content);
        while extensions.end().is_none() {
            let mut extension = Reader(extensions.expect(SEQUENCE)?.content);
            let name = extension.expect(OID)?.content;
            extension.optional(BOOLEAN)?;
            let value = extension.expect(OCTET_STRING)?.content;
            extension.end()?;
            if name == EXTENDED_KEY_USAGE {
                if matches!(found, Self::Named(_)) {
                    return None;
                }
                let mut value = Reader(value);
                found = Self::Named(value.expect(SEQUENCE)?.content);
                value.end()?;
            }
        }
        Some(found)
    }
}

/// A time as RFC 5280 §4.1.2.5 has it: in UTC, with seconds.
fn time(element: Element<'_>) -> Option<u64> {
    let text = std::str::from_utf8(element.content).ok()?;
    let digits = text.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (element.tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year: u64 = digits[..2].parse().ok()?;
            (
                if year < 50 { 2000 + year } else { 1900 + year },
                &digits[2..],
            )
        }
        (GENERALIZED_TIME, 14) => (digits[..4].parse().ok()?, &digits[4..]),
        _ => return None,
    };
    let mut parts = (0..5).map(|at| rest[2 * at..2 * at + 2].parse::<u64>().ok());
    let mut part = |bound: std::ops::RangeInclusive<u64>| {
        let value = parts.next()??;
        bound.contains(&value).then_some(value)
    };
    let (month, day) = (part(1..=12)?, part(1..=31)?);
    let (hour, minute, second) = (part(0..=23)?, part(0..=59)?, part(0..=59)?);
    if year < 1970 {
        return Some(0);
    }
    // Days since 1970 of a calendar that begins in March, so that leap days come last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some((days.checked_sub(719_468)?) * 86_400 + hour * 3600 + minute * 60 + second)
}
