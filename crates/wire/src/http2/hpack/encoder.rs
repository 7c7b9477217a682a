//! Encoding of fields (RFC 7541 §6.1, §6.2).
//!
//! Only the static table is used, and strings are sent as they are: an encoder without state costs
//! the least of this processor, and lets fields be written before their turn on the connection. What
//! compression would save is little beside a body.

use super::table::STATIC;

/// Tells the peer's decoder that the dynamic table is of size 0; first in a block.
pub const SIZE_UPDATE: u8 = 0x20;

/// Appends what [`SIZE_UPDATE`] says.
pub fn size_update(out: &mut Vec<u8>) {
    out.push(SIZE_UPDATE);
}

/// Appends a field. The name is in lower case already.
pub fn field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let known = index(name);
    if let Some((index, with_value)) = known
        && with_value
        && let Some(exact) = exact(index, name, value)
    {
        out.push(0x80 | exact);
        return;
    }
    let secret = matches!(
        name,
        b"authorization" | b"proxy-authorization" | b"cookie" | b"set-cookie"
    );
    // A secret is not to be remembered by any table on its way (RFC 7541 §7.1.3).
    let kind = if secret { 0x10 } else { 0 };
    if let Some((index, _)) = known {
        integer(usize::from(index), 4, kind, out);
    } else {
        out.push(kind);
        string(name, out);
    }
    string(value, out);
}

/// Appends the pseudo-field `:status`.
pub fn status(code: u16, out: &mut Vec<u8>) {
    let index = match code {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => {
            let digits = [code / 100 % 10, code / 10 % 10, code % 10].map(|d| b'0' + d as u8);
            out.extend_from_slice(&[0x08, 3]);
            out.extend_from_slice(&digits);
            return;
        }
    };
    out.push(0x80 | index);
}

fn string(text: &[u8], out: &mut Vec<u8>) {
    integer(text.len(), 7, 0, out);
    out.extend_from_slice(text);
}

/// Appends an integer behind the first bits of its byte.
pub(super) fn integer(mut number: usize, prefix: u32, first: u8, out: &mut Vec<u8>) {
    let mask = (1_usize << prefix) - 1;
    if number < mask {
        out.push(first | number as u8);
        return;
    }
    out.push(first | mask as u8);
    number -= mask;
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The first entry of the static table with this name and value.
fn exact(first: u8, name: &[u8], value: &[u8]) -> Option<u8> {
    let mut at = usize::from(first) - 1;
    while let Some(&(other, text)) = STATIC.get(at)
        && other == name
    {
        if text == value {
            return Some(at as u8 + 1);
        }
        at += 1;
    }
    None
}

/// The first entry of the static table with this name, and whether its entries have values.
fn index(name: &[u8]) -> Option<(u8, bool)> {
    let candidates = BY_LENGTH.get(name.len())?;
    let found = candidates.iter().take_while(|&&at| at != 0);
    let mut found = found.filter(|&&at| STATIC[usize::from(at) - 1].0 == name);
    found
        .next()
        .map(|&at| (at, !STATIC[usize::from(at) - 1].1.is_empty()))
}

const LONGEST_NAME: usize = 27;

/// The first entries of each name, by the name's length; 0 fills up.
const BY_LENGTH: [[u8; 8]; LONGEST_NAME + 1] = by_length();

const fn by_length() -> [[u8; 8]; LONGEST_NAME + 1] {
    let mut out = [[0; 8]; LONGEST_NAME + 1];
    let mut at = 0;
    while at < STATIC.len() {
        let name = STATIC[at].0;
        if at == 0 || !same(STATIC[at - 1].0, name) {
            let row = &mut out[name.len()];
            let mut place = 0;
            while row[place] != 0 {
                place += 1;
            }
            row[place] = at as u8 + 1;
        }
        at += 1;
    }
    out
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}
