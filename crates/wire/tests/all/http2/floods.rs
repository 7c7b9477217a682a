//! What costs more here than there is bounded.

use evenflow_wire::http2::frame::{flag, kind};
use evenflow_wire::http2::{ErrorCode, Event};

use super::support::*;

const WHOLE: u8 = flag::END_HEADERS | flag::END_STREAM;

/// How many of these a new server bears; the stream's number is filled in.
fn borne(mut frames: impl FnMut(u32) -> Vec<u8>, most: u32) -> (u32, ErrorCode) {
    let mut side = server();
    give(&mut side, &spoken(&[]), 1000).unwrap();
    for count in 0..most {
        output(&mut side);
        let given = give(&mut side, &frames(count), 1 << 20);
        if let Err(error) = given {
            return (count, error.code);
        }
    }
    panic!("{most} are borne");
}

#[test]
fn frames_that_move_nothing_are_borne_in_a_burst_only() {
    let calm = ErrorCode::ENHANCE_YOUR_CALM;
    let kinds: [(u8, u32, &[u8]); 5] = [
        (kind::PING, 0, &[0; 8]),
        (kind::SETTINGS, 0, &[]),
        (kind::PRIORITY, 1, &[0; 5]),
        (kind::WINDOW_UPDATE, 0, &[0, 0, 0, 1]),
        (99, 0, &[]),
    ];
    for (kind, stream, payload) in kinds {
        let (count, code) = borne(|_| raw(kind, 0, stream, payload), 5000);
        assert!(code == calm && count > 500, "{kind} {count}");
    }
    let empty = |count| match count {
        0 => raw(kind::HEADERS, flag::END_HEADERS, 1, &get()),
        _ => raw(kind::DATA, 0, 1, b""),
    };
    assert_eq!(borne(empty, 5000).1, calm);
}

#[test]
fn answers_that_nobody_reads_are_bounded_while_pings_come_with_data() {
    let mut side = server();
    give(
        &mut side,
        &spoken(&[raw(kind::HEADERS, 4, 1, &get())]),
        1000,
    )
    .unwrap();
    let mut most = 0;
    let both = [raw(kind::DATA, 0, 1, b"x"), raw(kind::PING, 0, 0, &[0; 8])].concat();
    let error = loop {
        let given = give(&mut side, &both, 1000);
        match given {
            Ok(events) => {
                for event in events {
                    if let Event::Data(key, range) = event {
                        side.release(key, range.len(), 65_535);
                    }
                }
            }
            Err(error) => break error,
        }
        most = most.max(side.output().len());
    };
    assert_eq!(error.code, ErrorCode::ENHANCE_YOUR_CALM);
    assert!(most < 2 << 20);
}

#[test]
fn streams_given_up_at_once_are_borne_in_a_burst_only() {
    let hasty = |count: u32| {
        let stream = 2 * count + 1;
        let head = raw(kind::HEADERS, WHOLE, stream, &get());
        [head, raw(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    };
    let mut side = server();
    give(&mut side, &spoken(&[]), 1000).unwrap();
    let mut count = 0;
    let error = loop {
        match give(&mut side, &hasty(count), 1000) {
            Ok(events) => side.close(key(&events)),
            Err(error) => break error,
        };
        count += 1;
    };
    assert_eq!((count, error.code), (200, ErrorCode::ENHANCE_YOUR_CALM));
}

#[test]
fn errors_of_streams_are_borne_in_a_burst_only() {
    let malformed = request("GET", &[("X", "y")]);
    let (count, code) = borne(
        |count| raw(kind::HEADERS, WHOLE, 2 * count + 1, &malformed),
        1000,
    );
    assert_eq!((count, code), (256, ErrorCode::ENHANCE_YOUR_CALM));
}

#[test]
fn a_head_without_end_is_cut_off() {
    for size in [16_000, 1, 0] {
        let part = vec![0; size];
        let continuation = |count| match count {
            0 => raw(kind::HEADERS, 0, 1, &get()),
            _ => raw(kind::CONTINUATION, 0, 1, &part),
        };
        assert_eq!(borne(continuation, 5000).1, ErrorCode::ENHANCE_YOUR_CALM);
    }
}

#[test]
fn a_large_head_is_told_as_such() {
    let mut side = server();
    let large = "y".repeat(9000);
    let head = raw(kind::HEADERS, WHOLE, 1, &request("GET", &[("x", &large)]));
    let events = give(&mut side, &spoken(&[head]), 1000).unwrap();
    assert!(matches!(events[1], Event::TooLarge(_)), "{events:?}");
    // One field in the table, named again and again, takes no memory either (CVE-2016-6581).
    let mut block = request("GET", &[]);
    block.extend(b"\x40\x01x\x7f\x81\x16");
    block.extend([b'y'; 2944]);
    block.extend([0xbe; 8000]);
    let events = give(&mut side, &raw(kind::HEADERS, WHOLE, 3, &block), 1000).unwrap();
    assert!(matches!(events[0], Event::TooLarge(_)), "{events:?}");
    assert!(side.section().lines().len() < 9000);
}
