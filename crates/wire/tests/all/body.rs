//! Bodies end where RFC 9112 says, however their bytes arrive.

use evenflow_wire::edit::Edit;
use evenflow_wire::http1::body::{Decoder, encode_size_line};
use evenflow_wire::http1::head::Length;
use proptest::prelude::*;

#[derive(Debug, PartialEq, Eq)]
struct Read {
    data: Vec<u8>,
    trailers: String,
    done: bool,
    /// What follows the body.
    rest: Vec<u8>,
}

/// Reads a body that arrives in pieces ending at these positions.
fn read_in(length: Length, bytes: &[u8], ends: &[usize]) -> Result<Read, &'static str> {
    let mut decoder = Decoder::new(length);
    let mut data = Vec::new();
    let mut pending = Vec::new();
    let mut start = 0;
    for &end in ends {
        pending.extend_from_slice(&bytes[start..end]);
        start = end;
        loop {
            let decoded = decoder.decode(&mut pending)?;
            assert!(decoded.data.end <= decoded.used, "{decoded:?}");
            data.extend_from_slice(&pending[decoded.data.clone()]);
            pending.drain(..decoded.used);
            if decoded.used == 0 {
                break;
            }
        }
    }
    Ok(Read {
        data,
        trailers: String::from_utf8_lossy(decoder.trailers()).into_owned(),
        done: decoder.is_done(),
        rest: pending,
    })
}

fn read(length: Length, bytes: &[u8]) -> Result<Read, &'static str> {
    read_in(length, bytes, &[bytes.len()])
}

fn chunked(bytes: &[u8]) -> Read {
    read(Length::Chunked, bytes)
        .unwrap_or_else(|error| panic!("{error} {:?}", String::from_utf8_lossy(bytes)))
}

const CORPUS: [&[u8]; 8] = [
    b"0\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1",
    b"1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\n\r\n",
    b"00005\r\n\r\n\r\n0\r\n0\r\n\r\n",
    b"A\r\n0123456789\r\nb;x=y;z=\"q\"\r\n0123456789a\r\n000;end\r\n\r\n",
    b"3\r\nabc\r\n0\r\nX-Sum: 1\r\nHost: evil\r\nX-Two:\r\n\r\nrest",
    b"2\r\nab\r\nX\r\n",
    b"2\r\nabc\r\n",
];

#[test]
fn every_split_of_a_chunked_body_reads_like_the_whole() {
    for bytes in CORPUS {
        let whole = read(Length::Chunked, bytes);
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let pieces = read_in(Length::Chunked, bytes, &[first, second, bytes.len()]);
                let text = String::from_utf8_lossy(bytes);
                assert_eq!(pieces, whole, "{text:?} cut at {first} and {second}");
            }
        }
        let each: Vec<usize> = (1..=bytes.len()).collect();
        assert_eq!(read_in(Length::Chunked, bytes, &each), whole);
    }
}

#[test]
fn data_of_several_chunks_is_moved_together() {
    let mut bytes = b"1\r\na\r\n2;x\r\nbc\r\n3\r\ndef\r\n0\r\n\r\nnext".to_vec();
    let mut decoder = Decoder::new(Length::Chunked);
    let decoded = decoder.decode(&mut bytes).unwrap();
    assert_eq!(&bytes[decoded.data], b"abcdef");
    assert_eq!(&bytes[decoded.used..], b"next");
    assert!(decoder.is_done());
}

#[test]
fn extensions_are_dropped_and_what_follows_is_left() {
    let found = chunked(b"5;a=b;c=\"d e\"\r\nhello\r\n0;last\r\n\r\nGET");
    assert_eq!(found.data, b"hello");
    assert_eq!(found.rest, b"GET");
    assert!(found.done);
}

#[test]
fn trailers_are_kept_but_for_those_that_would_be_believed() {
    let found = chunked(
        b"0\r\nX-Checksum:  abc \r\nContent-Length: 3\r\nHOST: a\r\nTransfer-Encoding: chunked\r\n\
          Authorization: x\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: a\r\n\
          X-Forwarded-Proto: https\r\nX-Real-IP: 1.2.3.4\r\nX-Request-ID: 1\r\n\
          Evenflow-Client: 127.0.0.1\r\nEmpty:\r\n\r\n",
    );
    assert_eq!(found.trailers, "X-Checksum: abc\r\nEmpty: \r\n");
    assert!(found.done && found.rest.is_empty());
}

#[test]
fn trailers_that_a_rule_keeps_out_of_the_header_are_left_out() {
    let mut edit = Edit::default();
    edit.remove("x-user").unwrap();
    let mut bytes = b"0\r\nX-User: 1\r\nx_user: 2\r\nX_Real_IP: 3\r\nX-Client-Cert-Subject: 5\r\nX-Sum: 4\r\n\r\n".to_vec();
    let mut decoder = Decoder::new(Length::Chunked).without(edit.removed());
    decoder.decode(&mut bytes).unwrap();
    assert!(decoder.is_done());
    assert_eq!(decoder.trailers(), b"X-Sum: 4\r\n");
}

#[test]
fn a_trailer_section_is_bounded() {
    let section = |size: usize| {
        let line = format!("X: {}\r\n", "a".repeat(size - 7));
        format!("0\r\n{line}\r\n").into_bytes()
    };
    assert!(chunked(&section(8 * 1024)).done);
    assert!(read(Length::Chunked, &section(8 * 1024 + 1)).is_err());
    let endless = format!("0\r\n{}", "X: a\r\n".repeat(2000));
    assert!(read(Length::Chunked, endless.as_bytes()).is_err());
    let many = format!("0\r\n{}\r\n", "X: a\r\n".repeat(33));
    assert!(read(Length::Chunked, many.as_bytes()).is_err());
}

#[test]
fn chunks_that_could_be_read_in_two_ways_are_refused() {
    let bad: [&[u8]; 31] = [
        b"\r\n",
        b"\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\rhello\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n",
        b"-5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5h\r\nhello\r\n",
        b"5,\r\nhello\r\n",
        b"5 ;a\r\nhello\r\n",
        b";a\r\n",
        b"g\r\n",
        b"\xff\r\n",
        b"5;a\rb\r\nhello\r\n",
        b"5;a\x00\r\nhello\r\n",
        b"5;a\nhello\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\r0\r\n\r\n",
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"4\r\nhello\r\n0\r\n\r\n",
        b"0\r\n\n",
        b"0\r\nX: a\n\r\n",
        b"0\r\nX : a\r\n\r\n",
        b"0\r\nX: a\r\n folded\r\n\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"1234567890abcdef\r\n",
        b"0000000000000000\r\n\r\n",
        b"0\r\nX: \x00\r\n\r\n",
    ];
    for bytes in bad {
        let found = read(Length::Chunked, bytes);
        assert!(
            found.is_err(),
            "{:?} gave {found:?}",
            String::from_utf8_lossy(bytes)
        );
    }
}

#[test]
fn a_size_line_is_bounded() {
    let line = |extension: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(extension));
    assert!(chunked(line(200).as_bytes()).done);
    assert!(read(Length::Chunked, line(300).as_bytes()).is_err());
    let endless = format!("1;{}", "x".repeat(300));
    assert!(read(Length::Chunked, endless.as_bytes()).is_err());
}

#[test]
fn the_largest_size_is_read_and_goes_on() {
    let mut decoder = Decoder::new(Length::Chunked);
    let mut bytes = b"fffffffffffffff\r\nab".to_vec();
    let decoded = decoder.decode(&mut bytes).unwrap();
    assert_eq!(&bytes[decoded.data], b"ab");
    assert_eq!(decoded.used, bytes.len());
    assert!(!decoder.is_done());
}

#[test]
fn a_body_of_known_length_ends_there() {
    let found = read(Length::Known(5), b"helloGET").unwrap();
    assert_eq!(
        (found.data.as_slice(), found.rest.as_slice()),
        (&b"hello"[..], &b"GET"[..])
    );
    assert!(found.done);
    let mut decoder = Decoder::new(Length::Known(5));
    assert_eq!(decoder.remaining(), Some(5));
    assert_eq!(decoder.decode(&mut b"hel".to_vec()).unwrap().data, 0..3);
    assert_eq!(decoder.remaining(), Some(2));
    assert!(!decoder.close(), "a body cut short is whole");
}

#[test]
fn no_body_takes_nothing() {
    for length in [Length::None, Length::Known(0)] {
        let found = read(length, b"GET").unwrap();
        assert!(found.done && found.data.is_empty());
        assert_eq!(found.rest, b"GET");
    }
}

#[test]
fn a_body_without_a_length_ends_when_the_sender_closes() {
    let mut decoder = Decoder::new(Length::UntilClose);
    assert_eq!(decoder.decode(&mut b"abc".to_vec()).unwrap().used, 3);
    assert!(!decoder.is_done());
    assert!(decoder.close() && decoder.is_done());
}

#[test]
fn a_chunked_body_is_cut_short_by_a_close_anywhere() {
    let whole = b"3\r\nabc\r\n0\r\nX: y\r\n\r\n";
    for end in 0..whole.len() {
        let mut decoder = Decoder::new(Length::Chunked);
        let mut pending = whole[..end].to_vec();
        decoder.decode(&mut pending).unwrap();
        assert!(!decoder.close(), "whole after {end} bytes");
    }
}

/// A body as chunks of these data, and its data.
fn chunks() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let chunk = (
        prop::collection::vec(any::<u8>(), 1..40),
        "(;[a-z]{0,5}(=[a-z\"]{0,3})?)?",
    );
    (
        prop::collection::vec(chunk, 0..8),
        "(X-[a-z]{1,3}: [!-~]{0,5}\r\n){0,3}",
    )
        .prop_map(|(chunks, trailers)| {
            let mut bytes = Vec::new();
            let mut data = Vec::new();
            for (chunk, extension) in chunks {
                bytes.extend_from_slice(format!("{:X}{extension}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(&chunk);
                bytes.extend_from_slice(b"\r\n");
                data.extend_from_slice(&chunk);
            }
            bytes.extend_from_slice(b"0\r\n");
            bytes.extend_from_slice(trailers.as_bytes());
            bytes.extend_from_slice(b"\r\n");
            (bytes, data)
        })
}

fn cut(splits: &[prop::sample::Index], len: usize) -> Vec<usize> {
    let mut ends: Vec<_> = splits.iter().map(|split| split.index(len + 1)).collect();
    ends.sort_unstable();
    ends.push(len);
    ends
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn chunks_give_their_data_back(
        (bytes, data) in chunks(),
        splits in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let found = read_in(Length::Chunked, &bytes, &cut(&splits, bytes.len())).unwrap();
        prop_assert_eq!(found.data, data);
        prop_assert!(found.done && found.rest.is_empty());
    }

    #[test]
    fn a_damaged_body_reads_the_same_in_pieces(
        (mut bytes, _) in chunks(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        splits in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let whole = read(Length::Chunked, &bytes);
        let pieces = read_in(Length::Chunked, &bytes, &cut(&splits, bytes.len()));
        prop_assert_eq!(pieces.is_err(), whole.is_err());
        if let Ok(whole) = whole {
            prop_assert_eq!(pieces.unwrap(), whole);
        }
    }

    #[test]
    fn size_lines_are_read_back(size in any::<u32>(), wide in any::<bool>()) {
        let size = if wide { (size as usize) << 27 } else { size as usize >> 16 };
        let mut line = Vec::new();
        encode_size_line(size, &mut line);
        prop_assert_eq!(String::from_utf8(line.clone()).unwrap(), format!("{size:x}\r\n"));
        let mut decoder = Decoder::new(Length::Chunked);
        let decoded = decoder.decode(&mut line).unwrap();
        prop_assert_eq!(decoded.used, line.len());
    }
}
