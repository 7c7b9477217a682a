//! The Huffman code of HPACK (RFC 7541 §5.2 and appendix B).
//!
//! The code is canonical: the lengths of the codes say everything, and the tables are computed from
//! them when this crate is compiled.

/// Code lengths in bits of the 256 octets and of the end-of-string symbol.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const EOS: u16 = 256;
const LONGEST: usize = 30;
/// Codes of up to so many bits are found with one look-up; all printable ASCII but a few are.
const FAST_BITS: u32 = 9;

struct Tables {
    /// By the next [`FAST_BITS`] bits: symbol and code length; length 0 where the code is longer.
    fast: [(u8, u8); 1 << FAST_BITS],
    /// The symbols in the order of their codes.
    symbols: [u16; 257],
    /// By length: the first code, left-aligned in 32 bits, that is too large for it.
    limits: [u64; LONGEST + 1],
    /// By length: the first code, and the position of its symbol.
    firsts: [(u32, u16); LONGEST + 1],
}

const TABLES: Tables = tables();

const fn tables() -> Tables {
    let mut out = Tables {
        fast: [(0, 0); 1 << FAST_BITS],
        symbols: [0; 257],
        limits: [0; LONGEST + 1],
        firsts: [(0, 0); LONGEST + 1],
    };
    let (mut code, mut position, mut length) = (0_u32, 0, 1);
    while length <= LONGEST {
        code <<= 1;
        out.firsts[length] = (code, position as u16);
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                if length as u32 <= FAST_BITS {
                    let spare = FAST_BITS - length as u32;
                    let mut at = (code << spare) as usize;
                    let end = ((code + 1) << spare) as usize;
                    while at < end {
                        out.fast[at] = (symbol as u8, length as u8);
                        at += 1;
                    }
                }
                out.symbols[position] = symbol as u16;
                position += 1;
                code += 1;
            }
            symbol += 1;
        }
        out.limits[length] = (code as u64) << (32 - length);
        length += 1;
    }
    out
}

/// Appends the decoded string to `out`. `false`: `coded` is not a valid code, and what was appended
/// is to be dropped.
pub fn decode(coded: &[u8], out: &mut Vec<u8>) -> bool {
    out.reserve(coded.len() * 2);
    // The bits that are not decoded yet, left-aligned.
    let (mut bits, mut count) = (0_u64, 0_u32);
    let mut input = coded.iter();
    loop {
        while count <= 56 {
            let Some(&byte) = input.next() else { break };
            bits |= u64::from(byte) << (56 - count);
            count += 8;
        }
        let (symbol, length) = TABLES.fast[(bits >> (64 - FAST_BITS)) as usize];
        if length != 0 && u32::from(length) <= count {
            out.push(symbol);
            bits <<= length;
            count -= u32::from(length);
            continue;
        }
        match long(bits, count) {
            Some((symbol, length)) => {
                out.push(symbol);
                bits <<= length;
                count -= length;
            }
            // The rest is padding: fewer than eight bits, all of them ones (RFC 7541 §5.2).
            None => return count < 8 && bits == padding(count),
        }
    }
}

/// `count` ones, left-aligned.
fn padding(count: u32) -> u64 {
    !(u64::MAX >> count)
}

/// The next symbol and its length where that is longer than the fast table's.
fn long(bits: u64, count: u32) -> Option<(u8, u32)> {
    let top = bits >> 32;
    let start = FAST_BITS as usize + 1;
    let length = (start..=LONGEST).find(|&length| top < TABLES.limits[length])?;
    if length as u32 > count {
        return None;
    }
    let (first, position) = TABLES.firsts[length];
    let offset = (top >> (32 - length)) as u32 - first;
    let symbol = TABLES.symbols[usize::from(position) + offset as usize];
    (symbol != EOS).then_some((symbol as u8, length as u32))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::{LENGTHS, LONGEST, TABLES, decode};

    /// The counterpart of [`decode`]; nothing but tests needs it.
    pub(crate) fn encode(text: &[u8]) -> Vec<u8> {
        let mut codes = [(0_u32, 0_u32); 257];
        for length in 1..=LONGEST {
            let (first, position) = TABLES.firsts[length];
            let symbols = LENGTHS
                .iter()
                .filter(|&&l| usize::from(l) == length)
                .count();
            for offset in 0..symbols {
                let symbol = TABLES.symbols[usize::from(position) + offset];
                codes[usize::from(symbol)] = (first + offset as u32, length as u32);
            }
        }
        let (mut out, mut bits, mut count) = (Vec::new(), 0_u64, 0);
        for &byte in text {
            let (code, length) = codes[usize::from(byte)];
            bits = bits << length | u64::from(code);
            count += length;
            while count >= 8 {
                count -= 8;
                out.push((bits >> count) as u8);
            }
        }
        if count > 0 {
            out.push((bits << (8 - count)) as u8 | (0xff >> count));
        }
        out
    }

    #[test]
    fn the_vectors_of_the_rfc_are_decoded() {
        // RFC 7541 C.4.1, C.4.2, C.6.1.
        for (coded, text) in [
            (
                &b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..],
                "www.example.com",
            ),
            (b"\xa8\xeb\x10\x64\x9c\xbf", "no-cache"),
            (b"\x64\x02", "302"),
            (b"\xae\xc3\x77\x1a\x4b", "private"),
        ] {
            let mut out = Vec::new();
            assert!(decode(coded, &mut out));
            assert_eq!(out, text.as_bytes());
            assert_eq!(encode(text.as_bytes()), coded);
        }
    }

    #[test]
    fn wrong_padding_and_the_end_of_string_symbol_are_refused() {
        for coded in [
            // Eight bits of padding; padding with a zero in it; the end-of-string symbol.
            &b"\xff"[..],
            b"\x64\x02\xff",
            b"\x1e",
            b"\xff\xff\xff\xff",
            b"\xff\xff\xff\xfc",
        ] {
            assert!(!decode(coded, &mut Vec::new()), "{coded:x?}");
        }
        assert!(decode(b"", &mut Vec::new()));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut out = Vec::new();
            prop_assert!(decode(&encode(&text), &mut out));
            prop_assert_eq!(out, text);
        }

        #[test]
        fn any_bytes_are_decoded_to_what_encodes_to_them_or_refused(
            coded in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let mut out = Vec::new();
            if decode(&coded, &mut out) {
                prop_assert_eq!(encode(&out), coded);
            }
        }
    }
}
