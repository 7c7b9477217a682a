//! What a client may not do, and what that costs it.

use evenflow_wire::http2::ErrorCode;
use evenflow_wire::http2::frame::{flag, kind};

use super::support::*;

const WHOLE: u8 = flag::END_HEADERS | flag::END_STREAM;

fn head(stream: u32, flags: u8) -> Vec<u8> {
    raw(kind::HEADERS, flags, stream, &get())
}

#[test]
fn what_breaks_the_connection() {
    let protocol = ErrorCode::PROTOCOL_ERROR;
    let open = || head(1, flag::END_HEADERS);
    for (name, frames, code) in [
        (
            "data on stream 0",
            vec![raw(kind::DATA, 0, 0, b"x")],
            protocol,
        ),
        (
            "data on an idle stream",
            vec![raw(kind::DATA, 0, 1, b"x")],
            protocol,
        ),
        (
            "a reset of an idle stream",
            vec![raw(kind::RST_STREAM, 0, 1, &[0; 4])],
            protocol,
        ),
        (
            "a window of an idle stream",
            vec![raw(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])],
            protocol,
        ),
        ("an even stream", vec![head(2, WHOLE)], protocol),
        (
            "a lower stream",
            vec![head(5, WHOLE), head(3, WHOLE)],
            protocol,
        ),
        (
            "a push",
            vec![raw(kind::PUSH_PROMISE, 0, 1, &[0; 8])],
            protocol,
        ),
        (
            "a frame amid a block",
            vec![head(1, 0), raw(kind::PING, 0, 0, &[0; 8])],
            protocol,
        ),
        (
            "another stream's continuation",
            vec![head(1, 0), raw(kind::CONTINUATION, 4, 3, b"")],
            protocol,
        ),
        (
            "a continuation of nothing",
            vec![raw(kind::CONTINUATION, 4, 1, b"")],
            protocol,
        ),
        (
            "padding alone",
            vec![open(), raw(kind::DATA, flag::PADDED, 1, &[1])],
            protocol,
        ),
        (
            "a large frame",
            vec![raw(kind::PING, 0, 0, &[0; 16_385])],
            ErrorCode::FRAME_SIZE_ERROR,
        ),
        (
            "a bad block",
            vec![raw(kind::HEADERS, WHOLE, 1, &[0x80])],
            ErrorCode::COMPRESSION_ERROR,
        ),
        (
            "a window too large",
            vec![raw(kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])],
            ErrorCode::FLOW_CONTROL_ERROR,
        ),
        (
            "settings that make a window too large",
            vec![
                open(),
                raw(kind::WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0, 0]),
                raw(kind::SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]),
            ],
            ErrorCode::FLOW_CONTROL_ERROR,
        ),
    ] {
        assert_eq!(outcome(&frames), Err(code), "{name}");
    }
}

#[test]
fn what_breaks_a_stream_alone() {
    let protocol = ErrorCode::PROTOCOL_ERROR;
    let open = || head(1, flag::END_HEADERS);
    let block = |further: &[(&str, &str)]| request("POST", further);
    let known = |length| {
        raw(
            kind::HEADERS,
            flag::END_HEADERS,
            1,
            &block(&[("content-length", length)]),
        )
    };
    for (name, frames, code) in [
        (
            "a malformed head",
            vec![raw(kind::HEADERS, WHOLE, 1, &block(&[("X", "y")]))],
            protocol,
        ),
        (
            "no end with trailers",
            vec![open(), raw(kind::HEADERS, 4, 1, &fields(&[("x", "y")]))],
            protocol,
        ),
        (
            "malformed trailers",
            vec![
                open(),
                raw(kind::HEADERS, WHOLE, 1, &fields(&[(":path", "/")])),
            ],
            protocol,
        ),
        (
            "more data than said",
            vec![known("1"), raw(kind::DATA, 0, 1, b"ab")],
            protocol,
        ),
        (
            "less data than said",
            vec![known("3"), raw(kind::DATA, 1, 1, b"ab")],
            protocol,
        ),
        (
            "no data where some is said",
            vec![raw(
                kind::HEADERS,
                WHOLE,
                1,
                &block(&[("content-length", "1")]),
            )],
            protocol,
        ),
        (
            "trailers before all data",
            vec![
                known("3"),
                raw(kind::HEADERS, WHOLE, 1, &fields(&[("x", "y")])),
            ],
            protocol,
        ),
        (
            "a window of 0",
            vec![open(), raw(kind::WINDOW_UPDATE, 0, 1, &[0; 4])],
            protocol,
        ),
        (
            "a stream on itself",
            vec![raw(
                kind::HEADERS,
                WHOLE | flag::PRIORITY,
                1,
                &[&[0, 0, 0, 1, 0], &get()[..]].concat(),
            )],
            protocol,
        ),
        (
            "data behind the end",
            vec![head(1, WHOLE), raw(kind::DATA, 0, 1, b"x")],
            ErrorCode::STREAM_CLOSED,
        ),
        (
            "a head behind the end",
            vec![head(1, WHOLE), head(1, WHOLE)],
            ErrorCode::STREAM_CLOSED,
        ),
        (
            "a window too large",
            vec![
                open(),
                raw(kind::WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff]),
            ],
            ErrorCode::FLOW_CONTROL_ERROR,
        ),
        (
            "more data than the window",
            [vec![open()], vec![raw(kind::DATA, 0, 1, &[0; 16_384]); 4]].concat(),
            ErrorCode::FLOW_CONTROL_ERROR,
        ),
    ] {
        assert_eq!(outcome(&frames), Ok(vec![(1, code)]), "{name}");
    }
}

#[test]
fn more_streams_than_allowed_are_refused() {
    let streams: Vec<_> = (0..12)
        .map(|at| head(1 + 2 * at, flag::END_HEADERS))
        .collect();
    let refused = ErrorCode::REFUSED_STREAM;
    assert_eq!(outcome(&streams), Ok(vec![(21, refused), (23, refused)]));
}

#[test]
fn a_block_of_a_refused_stream_is_decoded_all_the_same() {
    // The malformed head puts a field into the table that the next one needs.
    let mut first = request("GET", &[]);
    first.extend(b"\x40\x01X\x01y");
    let mut second = request("GET", &[]);
    second.extend(b"\x40\x01x\x01y\xbf");
    let frames = [
        raw(kind::HEADERS, WHOLE, 1, &first),
        raw(kind::HEADERS, WHOLE, 3, &second),
    ];
    let protocol = ErrorCode::PROTOCOL_ERROR;
    assert_eq!(outcome(&frames), Ok(vec![(1, protocol), (3, protocol)]));
}

#[test]
fn a_wrong_beginning_is_refused_at_once() {
    for bytes in [&b"GET"[..], b"PRI * HTTP/2.0\r\n\r\nXX"] {
        assert!(give(&mut server(), bytes, 100).is_err());
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(raw(kind::PING, 0, 0, &[0; 8]));
    assert!(give(&mut server(), &bytes, 100).is_err());
    let bytes = raw(kind::PING, 0, 0, &[0; 8]);
    assert!(give(&mut client(), &bytes, 100).is_err());
}

#[test]
fn a_server_begins_no_streams() {
    let mut side = client();
    let mut bytes = raw(kind::SETTINGS, 0, 0, b"");
    bytes.extend(raw(kind::HEADERS, WHOLE, 2, &fields(&[(":status", "200")])));
    let error = give(&mut side, &bytes, 100).unwrap_err();
    assert_eq!(error.code, ErrorCode::PROTOCOL_ERROR);
    side.fail(error);
    assert!(!side.output().is_empty());
}
