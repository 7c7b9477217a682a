//! What holds for any bytes, any pieces and any order.

use evenflow_wire::http2::frame::{flag, kind};
use evenflow_wire::http2::{Event, Key};
use proptest::prelude::*;

use super::support::*;

/// Events without the places of data, which depend on how bytes come, and with neighbours joined.
fn without_ranges(events: Vec<Event>) -> Vec<Event> {
    let mut out: Vec<Event> = Vec::new();
    for event in events {
        let event = match event {
            Event::Data(key, _) => Event::Data(key, 0..0),
            event => event,
        };
        if out.last() != Some(&event) {
            out.push(event);
        }
    }
    out
}

/// A frame that may make sense.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let stream = prop::sample::select(vec![0_u32, 1, 1, 3, 5, 7, 2]);
    let payload = prop_oneof![
        3 => Just(get()),
        1 => Just(request("POST", &[("content-length", "5"), ("x", "y")])),
        1 => Just(fields(&[("x", "y")])),
        2 => prop::collection::vec(any::<u8>(), 0..50),
        1 => Just(vec![0; 8]),
        1 => Just(vec![0, 0, 1, 0]),
    ];
    let flags = prop::sample::select(vec![0_u8, 1, 4, 5, 5, 8, 0x2d]);
    let kinds = prop::sample::select(vec![
        kind::HEADERS,
        kind::HEADERS,
        kind::HEADERS,
        kind::DATA,
        kind::DATA,
        kind::RST_STREAM,
        kind::SETTINGS,
        kind::PING,
        kind::GOAWAY,
        kind::WINDOW_UPDATE,
        kind::CONTINUATION,
        99,
    ]);
    (kinds, flags, stream, payload)
        .prop_map(|(kind, flags, stream, payload)| raw(kind, flags, stream, &payload))
}

proptest! {
    #[test]
    fn pieces_of_any_size_say_the_same(
        frames in prop::collection::vec(frames(), 0..12), piece in 1..40_usize,
    ) {
        let bytes = spoken(&frames);
        let (mut whole, mut cut) = (server(), server());
        let expected = give(&mut whole, &bytes, bytes.len()).map(without_ranges);
        let found = give(&mut cut, &bytes, piece).map(without_ranges);
        prop_assert_eq!(found, expected);
        let users = |side: &mut Side| side.users().map(|(_, got)| got.clone()).collect::<Vec<_>>();
        prop_assert_eq!(users(&mut cut), users(&mut whole));
        prop_assert_eq!(output(&mut cut), output(&mut whole));
    }

    #[test]
    fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), is_client: bool) {
        let mut side = if is_client { client() } else { server() };
        let mut given = if is_client { Vec::new() } else { spoken(&[]) };
        given.extend(bytes);
        let _ = give(&mut side, &given, 64);
    }

    /// A model of both directions: whatever is sent arrives in order and once, nothing exceeds a
    /// window (the other side would say so), and once all is read nothing is stuck.
    #[test]
    fn data_arrives_whole_within_the_windows(
        steps in prop::collection::vec((0..4_usize, 0..3_usize, 0..90_000_usize), 1..60),
    ) {
        let (mut a, mut b) = (client(), server());
        settle(&mut a, &mut b);
        let head = fields(&[(":status", "200")]);
        let mut streams: Vec<(Key, Key, usize, usize)> = Vec::new();
        for _ in 0..3 {
            let mine = a.open(Got::default(), false, true, 0, |out| out.extend_from_slice(&get()));
            let (_, events) = settle(&mut a, &mut b);
            let served = key(&events);
            b.send_head(served, false, |out| out.extend_from_slice(&head));
            streams.push((mine.unwrap(), served, 0, 0));
        }
        let text: Vec<u8> = (0..200_000_u32).map(|at| (at % 251) as u8).collect();
        let read = |a: &mut Side, b: &mut Side, (mine, _, _, at): &mut (Key, Key, usize, usize), most: usize| {
            let got = &mut a.user(*mine).unwrap().data;
            let count = got.len().min(most);
            let fits = got.drain(..count).eq(text[*at..*at + count].iter().copied());
            *at += count;
            a.release(*mine, count, 100_000);
            settle(a, b);
            fits
        };
        for (what, which, count) in steps {
            let stream = &mut streams[which];
            if what == 0 {
                prop_assert!(read(&mut a, &mut b, stream, count));
            } else {
                let end = (stream.2 + count).min(text.len());
                stream.2 += b.send_data(stream.1, &text[stream.2..end], false);
                settle(&mut a, &mut b);
            }
        }
        for stream in &mut streams {
            while stream.3 < text.len() {
                let before = (stream.2, stream.3);
                let end = stream.2 == text.len();
                stream.2 += b.send_data(stream.1, &text[stream.2..], true);
                settle(&mut a, &mut b);
                prop_assert!(read(&mut a, &mut b, stream, usize::MAX));
                prop_assert!(end || (stream.2, stream.3) != before, "stuck at {:?}", before);
            }
        }
        // Each ends with its last byte, or with an empty frame if that had gone already.
        for (mine, served, ..) in streams {
            b.send_data(served, b"", true);
            settle(&mut a, &mut b);
            prop_assert!(a.is_received(mine));
        }
        prop_assert_eq!((a.open_streams(), b.open_streams()), (0, 0));
    }
}

#[test]
fn a_reset_amid_data_ends_its_events() {
    let mut side = server();
    let bytes = spoken(&[
        raw(kind::HEADERS, flag::END_HEADERS, 1, &get()),
        raw(kind::DATA, flag::END_STREAM, 1, b"abcdef"),
    ]);
    let events = give(&mut side, &bytes[..bytes.len() - 3], 1 << 16).unwrap();
    let key = key(&events);
    side.close(key);
    assert_eq!(give(&mut side, &bytes[bytes.len() - 3..], 10), Ok(vec![]));
}
