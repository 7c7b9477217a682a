//! Requests and their answers between a client and a server.

use evenflow_wire::http2::frame::{flag, kind};
use evenflow_wire::http2::{ErrorCode, Event, Failure, Key};

use super::support::*;

fn pair() -> (Side, Side) {
    let (mut a, mut b) = (client(), server());
    settle(&mut a, &mut b);
    (a, b)
}

fn ask(a: &mut Side, b: &mut Side, block: &[u8], end: bool) -> (Key, Key) {
    let asked = a.open(Got::default(), false, end, 0, |out| {
        out.extend_from_slice(block);
    });
    let (_, events) = settle(a, b);
    (asked.unwrap(), key(&events))
}

#[test]
fn a_request_with_a_body_is_answered_with_interim_data_and_trailers() {
    let (mut a, mut b) = pair();
    let block = request("POST", &[("content-length", "5"), ("cookie", "a=1")]);
    let (asked, served) = ask(&mut a, &mut b, &block, false);
    assert_eq!(a.send_data(asked, b"hel", false), 3);
    assert_eq!(a.send_data(asked, b"lo", true), 2);
    settle(&mut a, &mut b);
    let got = b.user(served).unwrap().clone();
    assert_eq!(
        got.heads,
        ["POST a.test /a\ncontent-length: 5\ncookie: a=1\n"]
    );
    assert_eq!((got.data.as_slice(), got.ended), (&b"hello"[..], true));

    let interim = fields(&[(":status", "103"), ("link", "</a>")]);
    assert!(b.send_interim(served, |out| out.extend_from_slice(&interim)));
    let head = fields(&[(":status", "200")]);
    assert!(b.send_head(served, false, |out| out.extend_from_slice(&head)));
    assert_eq!(b.send_data(served, b"well", false), 4);
    let trailers = fields(&[("grpc-status", "0")]);
    assert!(b.send_trailers(served, |out| out.extend_from_slice(&trailers)));
    settle(&mut a, &mut b);
    let got = a.user(asked).unwrap().clone();
    assert_eq!(got.heads, ["103\nlink: </a>\n", "200\n"]);
    assert_eq!(got.data, b"well");
    assert_eq!(got.trailers.as_deref(), Some("grpc-status: 0\n"));
    assert_eq!((a.open_streams(), b.open_streams()), (0, 0));
    assert_eq!(got.reset, None);
    a.close(asked).unwrap();
    b.close(served).unwrap();
    assert!(output(&mut a).is_empty() && output(&mut b).is_empty());
}

#[test]
fn a_reader_that_takes_nothing_holds_back_its_own_stream_alone() {
    let (mut a, mut b) = pair();
    let asked: Vec<_> = (0..3).map(|_| ask(&mut a, &mut b, &get(), true)).collect();
    let head = fields(&[(":status", "200")]);
    let body = vec![b'x'; 200_000];
    let mut rest = [&body[..]; 3];
    for (_, served) in &asked {
        b.send_head(*served, false, |out| out.extend_from_slice(&head));
    }
    // The first one's client reads nothing.
    for _ in 0..40 {
        for (at, (mine, served)) in asked.iter().enumerate() {
            let sent = b.send_data(*served, rest[at], true);
            rest[at] = &rest[at][sent..];
            settle(&mut a, &mut b);
            let held = a.user(*mine).unwrap().data.len();
            if at > 0 && held > 0 {
                a.user(*mine).unwrap().data.clear();
                a.release(*mine, held, 1 << 20);
            }
            settle(&mut a, &mut b);
        }
    }
    assert_eq!(rest.map(<[u8]>::len), [200_000 - 65_535, 0, 0]);
    assert!(b.is_stream_window_closed(asked[0].1));
    assert!(!a.user(asked[0].0).unwrap().ended && a.user(asked[2].0).unwrap().ended);
    // Once it is read, the rest follows.
    a.release(asked[0].0, 65_535, 1 << 20);
    let (_, events) = settle(&mut a, &mut b);
    assert!(events.contains(&Event::StreamWindow(asked[0].1)));
    assert!(b.sendable(asked[0].1) > 65_535);
}

#[test]
fn output_that_is_not_sent_takes_no_more_data() {
    let (mut a, mut b) = pair();
    let (_, served) = ask(&mut a, &mut b, &get(), true);
    b.send_head(served, false, |out| {
        out.extend_from_slice(&fields(&[(":status", "200")]));
    });
    a.release(served, 0, 1 << 20);
    while b.send_data(served, &vec![0; 60_000], false) > 0 {}
    assert!(b.output().len() <= 128 * 1024 + 100);
}

#[test]
fn an_answer_before_the_request_ends_stops_it_without_an_error() {
    let (mut a, mut b) = pair();
    let (asked, served) = ask(&mut a, &mut b, &request("POST", &[]), false);
    b.send_head(served, true, |out| {
        out.extend_from_slice(&fields(&[(":status", "413")]));
    });
    b.close(served).unwrap();
    settle(&mut a, &mut b);
    let failure = Failure {
        code: ErrorCode::NO_ERROR,
        unprocessed: false,
        remote: true,
    };
    assert_eq!(a.failure(asked), Some(failure));
    assert_eq!(a.user(asked).unwrap().heads, ["413\n"]);
    // Frames that were under way are ignored.
    let late = raw(kind::DATA, flag::END_STREAM, 1, b"late");
    assert_eq!(give(&mut b, &late, 100), Ok(vec![]));
    assert!(output(&mut b).is_empty());
}

#[test]
fn what_is_given_up_is_reset_and_what_was_not_worked_on_is_known() {
    let (mut a, mut b) = pair();
    let (first, served) = ask(&mut a, &mut b, &get(), true);
    a.close(first).unwrap();
    settle(&mut a, &mut b);
    assert_eq!(b.user(served).unwrap().reset, Some(ErrorCode::CANCEL));
    let (second, served) = ask(&mut a, &mut b, &get(), true);
    b.close(served);
    let (third, served) = ask(&mut a, &mut b, &get(), true);
    b.reset(served, ErrorCode::REFUSED_STREAM);
    settle(&mut a, &mut b);
    assert!(!a.failure(second).unwrap().unprocessed);
    assert!(a.failure(third).unwrap().unprocessed);
}

#[test]
fn goodbye_is_said_in_two_steps_and_says_what_was_worked_on() {
    let (mut a, mut b) = pair();
    let (asked, served) = ask(&mut a, &mut b, &get(), true);
    b.say_goodbye();
    // Crosses the goodbye on its way, and is served all the same.
    let late = a.open(Got::default(), false, true, 0, |out| {
        out.extend_from_slice(&get());
    });
    let (_, events) = settle(&mut a, &mut b);
    assert!(b.has_said_goodbye() && !a.can_open() && a.is_leaving());
    let late_served = key(&events);
    for served in [served, late_served] {
        b.send_head(served, true, |out| {
            out.extend_from_slice(&fields(&[(":status", "200")]));
        });
    }
    settle(&mut a, &mut b);
    for asked in [asked, late.unwrap()] {
        assert_eq!(a.user(asked).unwrap().heads, ["200\n"]);
    }
    assert_eq!(b.open_streams(), 0);
    // A goodbye that names a lower stream fails those beyond it.
    let (mut a, mut b) = pair();
    let (first, _) = ask(&mut a, &mut b, &get(), true);
    let (second, _) = ask(&mut a, &mut b, &get(), true);
    let events = give(
        &mut a,
        &raw(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]),
        100,
    );
    assert_eq!(events, Ok(vec![Event::GoAway]));
    assert_eq!(a.failure(first), None);
    assert!(a.failure(second).unwrap().unprocessed);
}

#[test]
fn a_client_keeps_to_the_streams_it_may_have() {
    let mut a = client();
    assert!(!a.can_open(), "nothing before the settings are known");
    let mut b = server();
    settle(&mut a, &mut b);
    for _ in 0..10 {
        ask(&mut a, &mut b, &get(), true);
    }
    assert!(!a.can_open());
    assert_eq!(a.open(Got::default(), false, true, 0, |_| {}), None);
}

#[test]
fn pings_are_answered_and_answers_are_told() {
    let (mut a, mut b) = pair();
    a.ping(*b"12345678");
    assert_eq!(settle(&mut a, &mut b).0, [Event::Pong(*b"12345678")]);
}

#[test]
fn answers_without_a_body_are_whole_whatever_length_they_tell() {
    for (head_request, status) in [(true, "200"), (false, "304"), (false, "204")] {
        let (mut a, mut b) = pair();
        let asked = a.open(Got::default(), head_request, true, 0, |out| {
            out.extend_from_slice(&get());
        });
        let (_, events) = settle(&mut a, &mut b);
        let head = fields(&[(":status", status), ("content-length", "5")]);
        b.send_head(key(&events), true, |out| out.extend_from_slice(&head));
        settle(&mut a, &mut b);
        assert!(a.is_received(asked.unwrap()));
        assert_eq!(a.failure(asked.unwrap()), None, "{status}");
    }
}
