//! Decoding of field blocks (RFC 7541 §3.2, §6), straight into one buffer.

use super::huffman;
use super::table::{DEFAULT_SIZE, DynamicTable, OVERHEAD, STATIC};
use crate::http2::error::{ConnectionError, ErrorCode};

/// One side's decoding state.
#[derive(Debug)]
pub struct Decoder {
    table: DynamicTable,
}

/// A decoded field, by its place in the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Where the name begins.
    pub start: usize,
    /// Where the name ends. `: ` follows.
    pub name_end: usize,
    /// Where the value begins.
    pub value: usize,
    /// Where the value ends.
    pub end: usize,
}

const INVALID: ConnectionError =
    ConnectionError::new(ErrorCode::COMPRESSION_ERROR, "a field block is not valid");

impl Default for Decoder {
    fn default() -> Self {
        Self {
            table: DynamicTable::new(DEFAULT_SIZE),
        }
    }
}

/// What separates name and value in the buffer, so that a field is a line of HTTP/1.1.
const SEPARATOR: &[u8] = b": ";

impl Decoder {
    /// Decodes a whole block. Each field is appended to `out` as `name: value` and then shown to
    /// `field`, which may end the line or take it out of the buffer again. What it does beyond
    /// `limit` bytes of list size (RFC 9113 §6.5.2) is up to the decoder: fields are decoded, since
    /// the table depends on it, and not shown. `false`: the list was larger than that.
    ///
    /// # Errors
    /// The block cannot be decoded; the connection cannot go on.
    pub fn decode(
        &mut self,
        mut block: &[u8],
        limit: usize,
        out: &mut Vec<u8>,
        mut field: impl FnMut(&mut Vec<u8>, Field),
    ) -> Result<bool, ConnectionError> {
        let mut size = 0_usize;
        let mut updates = 0;
        let mut begun = false;
        while let Some(&first) = block.first() {
            if first & 0xe0 == 0x20 {
                // At the beginning of a block only, and twice at most (RFC 7541 §4.2).
                let max_size = integer(&mut block, 5)?;
                updates += 1;
                if begun || updates > 2 || max_size > DEFAULT_SIZE {
                    return Err(INVALID);
                }
                self.table.resize(max_size);
                continue;
            }
            begun = true;
            let start = out.len();
            let decoded = self.field(&mut block, out)?;
            size = size.saturating_add(decoded.end - start - SEPARATOR.len() + OVERHEAD);
            if size > limit {
                out.truncate(start);
            } else {
                field(out, decoded);
            }
        }
        Ok(size <= limit)
    }

    /// Appends the next field to `out`.
    fn field(&mut self, block: &mut &[u8], out: &mut Vec<u8>) -> Result<Field, ConnectionError> {
        let first = block[0];
        let start = out.len();
        if first & 0x80 != 0 {
            let index = integer(block, 7)?;
            let (name, value) = self.get(index)?;
            out.reserve(name.len() + value.len() + 4);
            out.extend_from_slice(name);
            out.extend_from_slice(SEPARATOR);
            out.extend_from_slice(value);
            return Ok(Field {
                start,
                name_end: start + name.len(),
                value: start + name.len() + SEPARATOR.len(),
                end: out.len(),
            });
        }
        let indexing = first & 0x40 != 0;
        let index = integer(block, if indexing { 6 } else { 4 })?;
        if index == 0 {
            string(block, out)?;
        } else {
            out.extend_from_slice(self.get(index)?.0);
        }
        let name_end = out.len();
        out.extend_from_slice(SEPARATOR);
        let value = out.len();
        string(block, out)?;
        if indexing {
            self.table.insert(&out[start..name_end], &out[value..]);
        }
        Ok(Field {
            start,
            name_end,
            value,
            end: out.len(),
        })
    }

    fn get(&self, index: usize) -> Result<(&[u8], &[u8]), ConnectionError> {
        let position = index.checked_sub(1).ok_or(INVALID)?;
        match STATIC.get(position) {
            Some(&field) => Ok(field),
            None => self.table.get(position - STATIC.len()).ok_or(INVALID),
        }
    }
}

/// An integer with a prefix of so many bits (RFC 7541 §5.1), at most 28 bits beyond it.
fn integer(block: &mut &[u8], prefix: u32) -> Result<usize, ConnectionError> {
    let (&first, rest) = block.split_first().ok_or(INVALID)?;
    *block = rest;
    let mask = (1_usize << prefix) - 1;
    let mut number = usize::from(first) & mask;
    if number < mask {
        return Ok(number);
    }
    for shift in [0, 7, 14, 21] {
        let (&byte, rest) = block.split_first().ok_or(INVALID)?;
        *block = rest;
        number += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(INVALID)
}

/// Appends a string (RFC 7541 §5.2) to `out`.
fn string(block: &mut &[u8], out: &mut Vec<u8>) -> Result<(), ConnectionError> {
    let coded = block.first().ok_or(INVALID)? & 0x80 != 0;
    let length = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or(INVALID)?;
    *block = rest;
    if !coded {
        out.extend_from_slice(text);
    } else if !huffman::decode(text, out) {
        return Err(INVALID);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::encoder;
    use super::super::huffman::tests::encode as huffman;
    use super::Decoder;

    type Pair = (String, String);

    fn decode(decoder: &mut Decoder, block: &[u8]) -> Option<Vec<Pair>> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut fields = Vec::new();
        let mut out = Vec::new();
        let whole = decoder.decode(block, usize::MAX, &mut out, |out, field| {
            fields.push((
                text(&out[field.start..field.name_end]),
                text(&out[field.value..field.end]),
            ));
        });
        whole.is_ok_and(|whole| whole).then_some(fields)
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text
            .bytes()
            .filter(|byte| !byte.is_ascii_whitespace())
            .map(|byte| (byte as char).to_digit(16).unwrap() as u8)
            .collect();
        digits
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect()
    }

    fn pairs(fields: &[(&str, &str)]) -> Vec<Pair> {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        fields.iter().map(owned).collect()
    }

    /// RFC 7541 C.3 and C.4: the same three requests, without and with the Huffman code.
    #[test]
    fn requests_of_the_rfc_are_decoded() {
        for blocks in [
            [
                "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
                "8286 84be 5808 6e6f 2d63 6163 6865",
                "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
            ],
            [
                "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
                "8286 84be 5886 a8eb 1064 9cbf",
                "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
            ],
        ] {
            let mut decoder = Decoder::default();
            let usual = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
            let host = (":authority", "www.example.com");
            let first = [&usual[..], &[host]].concat();
            assert_eq!(decode(&mut decoder, &hex(blocks[0])), Some(pairs(&first)));
            let second = [&first[..], &[("cache-control", "no-cache")]].concat();
            assert_eq!(decode(&mut decoder, &hex(blocks[1])), Some(pairs(&second)));
            let third = [
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/index.html"),
                host,
                ("custom-key", "custom-value"),
            ];
            assert_eq!(decode(&mut decoder, &hex(blocks[2])), Some(pairs(&third)));
        }
    }

    /// RFC 7541 C.5 and C.6: responses for a table of 256 bytes, so that entries are evicted.
    #[test]
    fn responses_of_the_rfc_are_decoded() {
        for blocks in [
            [
                "3fe1 01 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 \
                 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 \
                 7861 6d70 6c65 2e63 6f6d",
                "4803 3330 37c1 c0bf",
                "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d \
                 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 \
                 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e \
                 3d31",
            ],
            [
                "3fe1 01 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 \
                 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
                "4883 640e ffc1 c0bf",
                "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab \
                 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f \
                 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
            ],
        ] {
            let mut decoder = Decoder::default();
            let date = "Mon, 21 Oct 2013 20:13:21 GMT";
            let rest = [
                ("cache-control", "private"),
                ("date", date),
                ("location", "https://www.example.com"),
            ];
            let with = |status| [&[(":status", status)], &rest[..]].concat();
            assert_eq!(
                decode(&mut decoder, &hex(blocks[0])),
                Some(pairs(&with("302")))
            );
            assert_eq!(
                decode(&mut decoder, &hex(blocks[1])),
                Some(pairs(&with("307")))
            );
            let third = [
                (":status", "200"),
                ("cache-control", "private"),
                ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
                ("location", "https://www.example.com"),
                ("content-encoding", "gzip"),
                (
                    "set-cookie",
                    "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
                ),
            ];
            assert_eq!(decode(&mut decoder, &hex(blocks[2])), Some(pairs(&third)));
            assert!(decoder.table.get(3).is_none());
        }
    }

    #[test]
    fn literals_of_each_kind_are_decoded() {
        // RFC 7541 C.2.
        for (block, field) in [
            (
                "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
                ("custom-key", "custom-header"),
            ),
            (
                "040c 2f73 616d 706c 652f 7061 7468",
                (":path", "/sample/path"),
            ),
            (
                "1008 7061 7373 776f 7264 0673 6563 7265 74",
                ("password", "secret"),
            ),
            ("82", (":method", "GET")),
        ] {
            assert_eq!(
                decode(&mut Decoder::default(), &hex(block)),
                Some(pairs(&[field]))
            );
        }
    }

    #[test]
    fn what_cannot_be_decoded_is_refused() {
        for block in [
            // Index 0; an index beyond the tables; ends too early; a table that is too large; a size
            // update behind a field; three of them; an integer without end; a bad Huffman code.
            "80",
            "be",
            "0005 61",
            "40",
            "3fe2 1f",
            "82 20",
            "20 20 20 82",
            "ffff ffff ffff 0f",
            "0081 ff 0161",
        ] {
            assert_eq!(
                decode(&mut Decoder::default(), &hex(block)),
                None,
                "{block}"
            );
        }
    }

    #[test]
    fn fields_beyond_the_limit_are_not_shown_but_remembered() {
        let mut decoder = Decoder::default();
        let mut block = vec![0x40, 1, b'a', 1, b'b', 0x40, 1, b'c', 1, b'd'];
        let (mut out, mut shown) = (Vec::new(), 0);
        let whole = decoder.decode(&block, 40, &mut out, |_, _| shown += 1);
        assert_eq!((whole, shown), (Ok(false), 1));
        assert_eq!(out, b"a: b");
        block = vec![0xbe, 0xbf];
        assert_eq!(
            decode(&mut decoder, &block),
            Some(pairs(&[("c", "d"), ("a", "b")]))
        );
    }

    fn literal(name: &str, value: &str, kind: u8, coded: bool, out: &mut Vec<u8>) {
        out.push(kind);
        for text in [name, value] {
            let bytes = if coded {
                huffman(text.as_bytes())
            } else {
                text.as_bytes().to_vec()
            };
            encoder::integer(bytes.len(), 7, if coded { 0x80 } else { 0 }, out);
            out.extend(bytes);
        }
    }

    proptest! {
        #[test]
        fn any_fields_in_any_form_come_back(
            fields in prop::collection::vec(
                ("[a-z-]{1,20}", "[ -~]{0,60}", prop::sample::select(vec![0x00_u8, 0x10, 0x40]), any::<bool>()),
                0..40,
            ),
        ) {
            let mut block = Vec::new();
            for (name, value, kind, coded) in &fields {
                literal(name, value, *kind, *coded, &mut block);
            }
            let expected: Vec<Pair> = fields.into_iter().map(|(name, value, _, _)| (name, value)).collect();
            prop_assert_eq!(decode(&mut Decoder::default(), &block), Some(expected));
        }

        #[test]
        fn what_the_encoder_writes_comes_back(
            fields in prop::collection::vec(("[a-z-]{1,12}|content-type|date|via|:path|server", "[ -~]{0,300}|/"), 0..30),
        ) {
            let mut block = Vec::new();
            for (name, value) in &fields {
                encoder::field(name.as_bytes(), value.as_bytes(), &mut block);
            }
            prop_assert_eq!(decode(&mut Decoder::default(), &block), Some(fields));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(
            blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..8),
        ) {
            let mut decoder = Decoder::default();
            for block in blocks {
                decode(&mut decoder, &block);
            }
        }
    }
}
