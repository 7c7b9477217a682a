//! Answers as they are written for clients: framed as these can take them, edited, and nothing of the
//! endpoint's connection.

use evenflow_wire::edit::Edit;
use evenflow_wire::field::Known;
use evenflow_wire::http1::encode::{Delivery, own_head, response_head};
use evenflow_wire::http1::head::{Length, ResponseHead};
use proptest::prelude::*;

/// The values of a field, in order.
fn values<'a>(lines: &'a [String], name: &str) -> Vec<&'a str> {
    lines
        .iter()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .collect()
}

fn response(lines: &[&str], head_request: bool) -> (ResponseHead, Vec<u8>) {
    let bytes = format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes();
    let mut head = ResponseHead::default();
    head.parse(&bytes, head_request).unwrap();
    (head, bytes)
}

const KEPT: Delivery = Delivery {
    version_10: false,
    keep_alive: true,
    chunked: false,
};

fn delivered(lines: &[&str], delivery: Delivery, edit: &Edit, cross_origin: bool) -> Vec<String> {
    let (head, bytes) = response(lines, false);
    let mut out = Vec::new();
    response_head(&mut out, &head, &bytes, delivery, edit, cross_origin);
    let text = String::from_utf8(out).unwrap();
    let text = text.strip_suffix("\r\n").unwrap();
    text.split("\r\n").map(str::to_owned).collect()
}

#[test]
fn an_answer_passes_as_it_was_sent() {
    let lines = [
        "HTTP/1.1 200 Fine",
        "Server:x",
        "Set-Cookie: a=1",
        "set-cookie: b=2",
        "Content-Length: 5",
    ];
    assert_eq!(delivered(&lines, KEPT, &Edit::default(), false), lines);
}

#[test]
fn an_answers_connection_fields_stay_behind() {
    let lines = delivered(
        &[
            "HTTP/1.0 200 OK",
            "Connection: close, X-Hop",
            "X-Hop: 1",
            "Keep-Alive: x",
            "Proxy-Connection: x",
            "Upgrade: h2c",
            "Evenflow-Client: x",
            "Content-Length: 1",
        ],
        KEPT,
        &Edit::default(),
        false,
    );
    assert_eq!(lines, ["HTTP/1.1 200 OK", "Content-Length: 1"]);
}

#[test]
fn an_answer_is_framed_as_the_client_can_take_it() {
    let cases: [(&[&str], Delivery, &[&str]); 7] = [
        (
            &["Transfer-Encoding: chunked"],
            Delivery {
                chunked: true,
                ..KEPT
            },
            &["transfer-encoding: chunked"],
        ),
        (
            &[],
            Delivery {
                chunked: true,
                ..KEPT
            },
            &["transfer-encoding: chunked"],
        ),
        (
            &["Transfer-Encoding: chunked"],
            Delivery {
                version_10: true,
                keep_alive: false,
                ..KEPT
            },
            &["connection: close"],
        ),
        (
            &["Content-Length: 3"],
            Delivery {
                version_10: true,
                ..KEPT
            },
            &["Content-Length: 3", "connection: keep-alive"],
        ),
        (
            &["Content-Length: 3"],
            Delivery {
                keep_alive: false,
                ..KEPT
            },
            &["Content-Length: 3", "connection: close"],
        ),
        (
            &["Content-Length: 3"],
            Delivery {
                chunked: true,
                ..KEPT
            },
            &["transfer-encoding: chunked"],
        ),
        (&["Content-Length: 3"], KEPT, &["Content-Length: 3"]),
    ];
    for (fields, delivery, expected) in cases {
        let lines = [&["HTTP/1.1 200 OK"], fields].concat();
        let found = delivered(&lines, delivery, &Edit::default(), false);
        assert_eq!(found[1..], *expected, "{fields:?} {delivery:?}");
    }
}

#[test]
fn an_answer_that_has_no_body_has_no_length() {
    for (status, length) in [
        ("103 Early Hints", 0),
        ("204 No Content", 0),
        ("304 Same", 1),
    ] {
        let line = format!("HTTP/1.1 {status}");
        let lines = delivered(&[&line, "Content-Length: 3"], KEPT, &Edit::default(), false);
        assert_eq!(values(&lines, "content-length").len(), length, "{status}");
    }
}

#[test]
fn an_answer_is_edited() {
    let mut edit = Edit::default();
    edit.remove("server").unwrap();
    edit.set("X-Frame-Options", "DENY").unwrap();
    edit.default_to("Cache-Control", "no-store").unwrap();
    edit.default_to("X-New", "1").unwrap();
    let lines = delivered(
        &[
            "HTTP/1.1 200 OK",
            "Server: x",
            "x-frame-options: no",
            "cache-control: public",
            "Content-Length: 0",
        ],
        KEPT,
        &edit,
        false,
    );
    assert_eq!(
        lines,
        [
            "HTTP/1.1 200 OK",
            "cache-control: public",
            "Content-Length: 0",
            "X-Frame-Options: DENY",
            "X-New: 1"
        ]
    );
}

#[test]
fn an_endpoints_own_cross_origin_fields_are_replaced() {
    let lines = delivered(
        &[
            "HTTP/1.1 200 OK",
            "Access-Control-Allow-Origin: *",
            "Vary: Accept",
            "Content-Length: 0",
        ],
        KEPT,
        &Edit::default(),
        true,
    );
    assert_eq!(values(&lines, "access-control-allow-origin"), [""; 0]);
    assert_eq!(values(&lines, "vary"), ["Accept"]);
}

#[test]
fn an_answer_of_the_balancers_own_is_whole() {
    let mut out = Vec::new();
    own_head(&mut out, 503, b"today", Some(("text/plain", 12)), KEPT);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 503 Service Unavailable\r\ndate: today\r\ncontent-type: text/plain\r\n\
         content-length: 12\r\n"
    );
    let mut out = Vec::new();
    let closing = Delivery {
        keep_alive: false,
        ..KEPT
    };
    own_head(&mut out, 204, b"today", None, closing);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 204 No Content\r\ndate: today\r\nconnection: close\r\n"
    );
}

proptest! {
    #[test]
    fn what_is_delivered_reads_back_with_the_same_meaning(
        fields in prop::collection::vec(prop::sample::select(vec![
            "Connection: close, x-hop", "X-Hop: 1", "Keep-Alive: 1", "Upgrade: x", "Via: a",
            "Evenflow-X: 1", "Date: x", "X-Any: \t1 ", "Server:", "Trailer: x",
        ]), 0..6),
        framing in prop::sample::select(vec!["X: 1", "Content-Length: 4", "Transfer-Encoding: chunked"]),
        status in prop::sample::select(vec!["200 OK", "404", "500 Bad \u{e4}", "999 X"]),
        keep_alive: bool,
    ) {
        let line = format!("HTTP/1.1 {status}");
        let lines: Vec<&str> = [line.as_str(), framing].into_iter().chain(fields).collect();
        let (head, bytes) = response(&lines, false);
        let chunked = matches!(head.length, Length::Chunked | Length::UntilClose);
        let delivery = Delivery { version_10: false, keep_alive, chunked };
        let mut out = Vec::new();
        response_head(&mut out, &head, &bytes, delivery, &Edit::default(), false);
        out.extend_from_slice(b"\r\n");
        let mut again = ResponseHead::default();
        prop_assert_eq!(again.parse(&out, false), Ok(()));
        prop_assert_eq!(again.status, head.status);
        prop_assert_eq!(again.keep_alive, keep_alive);
        prop_assert_eq!(again.length, if chunked { Length::Chunked } else { head.length });
        let count = |known| again.fields.iter().filter(|f| f.known == known).count();
        prop_assert_eq!(count(Known::HopByHop) + count(Known::Own), 0);
    }
}
