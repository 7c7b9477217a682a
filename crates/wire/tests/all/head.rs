//! Heads are taken apart as RFC 9112 says, and what two parsers could read differently is refused.

use evenflow_wire::field::{Field, Known};
use evenflow_wire::http1::head::{
    HeadError, Length, MAX_FIELDS, RequestHead, ResponseHead, Scan, scan,
};
use evenflow_wire::http1::hops::{self, Hop};
use proptest::prelude::*;

/// Lines as a whole head: each with its CRLF, and the empty line.
fn head(lines: &[&str]) -> Vec<u8> {
    let mut out = lines.join("\r\n").into_bytes();
    out.extend_from_slice(b"\r\n\r\n");
    out
}

/// What a connection makes of received bytes: finds the head, then parses it.
fn receive(bytes: &[u8]) -> Result<Option<RequestHead>, HeadError> {
    match scan(bytes, 0).map_err(HeadError::Malformed)? {
        Scan::Partial(_) => Ok(None),
        Scan::Complete(len) => {
            let mut head = RequestHead::default();
            head.parse(&bytes[..len], 100, 8192)?;
            Ok(Some(head))
        }
    }
}

fn parsed(bytes: &[u8]) -> RequestHead {
    match receive(bytes) {
        Ok(Some(head)) => head,
        other => panic!("{:?} gave {other:?}", String::from_utf8_lossy(bytes)),
    }
}

fn refused(bytes: &[u8]) -> HeadError {
    match receive(bytes) {
        Err(reason) => reason,
        Ok(head) => panic!("{:?} gave {head:?}", String::from_utf8_lossy(bytes)),
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn answer(bytes: &[u8], head_request: bool) -> Result<ResponseHead, &'static str> {
    let Scan::Complete(len) = scan(bytes, 0)? else {
        panic!("not a whole head: {:?}", String::from_utf8_lossy(bytes));
    };
    let mut head = ResponseHead::default();
    head.parse(&bytes[..len], head_request).map(|()| head)
}

#[test]
fn a_request_is_taken_apart() {
    let bytes = head(&[
        "POST /a/b?c=d HTTP/1.1",
        "Host: example.com:8080",
        "Content-Length: 12",
        "X-Empty:",
        "X-Spaced: \t two words \t",
    ]);
    let head = parsed(&bytes);
    assert_eq!(text(head.method.get(&bytes)), "POST");
    assert_eq!(text(head.target.get(&bytes)), "/a/b?c=d");
    assert_eq!(text(head.path(&bytes)), "/a/b");
    assert_eq!(text(head.query(&bytes)), "c=d");
    assert_eq!(text(head.host.get(&bytes)), "example.com:8080");
    assert_eq!(head.length, Length::Known(12));
    assert_eq!(head.len, bytes.len());
    assert!(!head.version_10 && head.keep_alive && !head.expects_continue);
    let fields: Vec<_> = head
        .fields
        .iter()
        .map(|f| (text(f.name.get(&bytes)), text(f.value.get(&bytes)), f.known))
        .collect();
    assert_eq!(
        fields,
        [
            ("Host", "example.com:8080", Known::Host),
            ("Content-Length", "12", Known::ContentLength),
            ("X-Empty", "", Known::Other),
            ("X-Spaced", "two words", Known::Other),
        ]
    );
}

#[test]
fn the_target_has_four_forms_of_which_three_are_served() {
    // Request line, host field, then target, path, query and host as they are used.
    let cases = [
        ("GET / HTTP/1.1", "a", "/", "/", "", "a"),
        ("GET /?q HTTP/1.1", "a", "/?q", "/", "q", "a"),
        ("GET /a?b?c HTTP/1.1", "a", "/a?b?c", "/a", "b?c", "a"),
        ("GET //a HTTP/1.1", "a", "//a", "//a", "", "a"),
        (
            "GET /a//../%2e HTTP/1.1",
            "a",
            "/a//../%2e",
            "/a//../%2e",
            "",
            "a",
        ),
        ("GET http://b/x?y HTTP/1.1", "a", "/x?y", "/x", "y", "b"),
        ("GET http://b:80/ HTTP/1.1", "a", "/", "/", "", "b:80"),
        ("GET HTTPS://b/x HTTP/1.1", "a", "/x", "/x", "", "b"),
        ("GET http://b HTTP/1.1", "a", "", "/", "", "b"),
        ("OPTIONS * HTTP/1.1", "a", "*", "*", "", "a"),
        ("GET / HTTP/1.1", "[::1]", "/", "/", "", "[::1]"),
        (
            "GET / HTTP/1.1",
            "[2001:db8::7]:80",
            "/",
            "/",
            "",
            "[2001:db8::7]:80",
        ),
        (
            "GET / HTTP/1.1",
            "a.b-c_d.example.:1",
            "/",
            "/",
            "",
            "a.b-c_d.example.:1",
        ),
        ("GET / HTTP/1.1", "a:", "/", "/", "", "a:"),
    ];
    for (line, host, target, path, query, used_host) in cases {
        let bytes = head(&[line, &format!("Host: {host}")]);
        let head = parsed(&bytes);
        assert_eq!(text(head.target.get(&bytes)), target, "target of {line}");
        assert_eq!(text(head.path(&bytes)), path, "path of {line}");
        assert_eq!(text(head.query(&bytes)), query, "query of {line}");
        assert_eq!(
            text(head.host.get(&bytes)),
            used_host,
            "host of {line}, {host}"
        );
    }
}

#[test]
fn the_body_has_one_length() {
    let cases: [(&[&str], Length); 7] = [
        (&[], Length::None),
        (&["Content-Length: 0"], Length::None),
        (&["content-length: 5"], Length::Known(5)),
        (&["Content-Length: 0005"], Length::Known(5)),
        (
            &["Content-Length: 999999999999999999"],
            Length::Known(999_999_999_999_999_999),
        ),
        (&["Transfer-Encoding: chunked"], Length::Chunked),
        (&["transfer-encoding: CHUNKED"], Length::Chunked),
    ];
    for (fields, length) in cases {
        let lines = [&["POST / HTTP/1.1", "Host: a"], fields].concat();
        assert_eq!(parsed(&head(&lines)).length, length, "{fields:?}");
    }
}

#[test]
fn the_connection_is_kept_as_version_and_options_say() {
    let cases: [(&str, &[&str], bool); 9] = [
        ("1.1", &[], true),
        ("1.1", &["Connection: close"], false),
        ("1.1", &["Connection: Close"], false),
        ("1.1", &["Connection: x-a, close ,x-b"], false),
        ("1.1", &["Connection: x-a", "Connection: close"], false),
        ("1.1", &["Connection: keep-alive, close"], false),
        ("1.0", &[], false),
        ("1.0", &["Connection: Keep-Alive"], true),
        (
            "1.0",
            &["Connection: keep-alive", "Connection: close"],
            false,
        ),
    ];
    for (version, fields, kept) in cases {
        let line = format!("GET / HTTP/{version}");
        let lines = [&[line.as_str(), "Host: a"], fields].concat();
        assert_eq!(parsed(&head(&lines)).keep_alive, kept, "{lines:?}");
    }
}

#[test]
fn http_10_may_lack_a_host() {
    let bytes = head(&["GET /x HTTP/1.0"]);
    let head = parsed(&bytes);
    assert!(head.version_10 && head.host.is_empty());
}

#[test]
fn an_absolute_target_does_not_excuse_the_host() {
    for host in ["Host: a b", "Host: a/b", "Host:", "Host: u@a"] {
        let bytes = head(&["GET http://b.test/ HTTP/1.1", host]);
        assert_eq!(
            refused(&bytes),
            HeadError::Malformed("The host is not valid."),
            "{host}"
        );
    }
    let bytes = head(&["GET http://b.test/ HTTP/1.0", "Host:"]);
    assert_eq!(parsed(&bytes).host.get(&bytes), b"b.test");
}

#[test]
fn an_expectation_without_content_is_none() {
    for length in ["X: y", "Content-Length: 0"] {
        let bytes = head(&["POST / HTTP/1.1", "Host: a", "Expect: 100-continue", length]);
        assert!(!parsed(&bytes).expects_continue, "{length}");
    }
}

#[test]
fn names_that_some_servers_take_for_known_ones_are_known_as_such() {
    for name in [
        "X_Forwarded_For",
        "x-forwarded_proto",
        "Transfer_Encoding",
        "content_LENGTH",
        "Evenflow_Client",
    ] {
        let line = format!("{name}: 1");
        let bytes = head(&["GET / HTTP/1.1", "Host: a", &line]);
        assert_eq!(parsed(&bytes).fields[1].known, Known::Lookalike, "{name}");
    }
    for name in [
        "X_Forwarded_For_X",
        "user_agent",
        "x_y",
        "_________",
        "transfer_encoding_of_a_very_long_name_indeed",
    ] {
        let line = format!("{name}: 1");
        let bytes = head(&["GET / HTTP/1.1", "Host: a", &line]);
        assert_eq!(parsed(&bytes).fields[1].known, Known::Other, "{name}");
    }
}

#[test]
fn an_unknown_expectation_is_one_that_fails() {
    for value in ["magic", "100-continue, magic", "y 100-continue"] {
        let line = format!("Expect: {value}");
        let bytes = head(&["POST / HTTP/1.1", "Host: a", &line, "Content-Length: 3"]);
        assert_eq!(refused(&bytes), HeadError::Expectation, "{value}");
    }
}

#[test]
fn lines_that_end_in_a_bare_carriage_return_are_refused_before_more_comes() {
    for text in [
        "GET / HTTP/1.1\rHost: a\r\r",
        "GET / HTTP/1.1\r\nHost: a\r\r",
        "GET / HTTP/1.1\rHost: a\r\n\r",
        "GET / HTTP/1.1\r\nHost: a\rX: y",
        "\rG",
    ] {
        let expected = Err("A line does not end in CRLF.");
        assert_eq!(scan(text.as_bytes(), 0), expected, "{text:?}");
    }
    for text in ["GET / HTTP/1.1\r", "GET / HTTP/1.1\r\nHost: a\r\n\r", "\r"] {
        assert!(
            matches!(scan(text.as_bytes(), 0), Ok(Scan::Partial(_))),
            "{text:?}"
        );
    }
}

/// What becomes of a request's `Max-Forwards`.
fn counted(method: &str, field: &str) -> (Result<Hop, &'static str>, String) {
    let line = format!("{method} / HTTP/1.1");
    let mut bytes = head(&[&line, "Host: a", field, "X: y"]);
    let head = parsed(&bytes);
    let hop = hops::count(&head, &mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    (hop, text.lines().nth(2).unwrap().to_owned())
}

#[test]
fn max_forwards_is_counted_down_for_trace_and_options() {
    for method in ["TRACE", "OPTIONS"] {
        for (field, lowered) in [
            ("Max-Forwards: 1", "Max-Forwards: 0"),
            ("max-forwards:9", "max-forwards:8"),
            ("Max-Forwards: 10", "Max-Forwards:  9"),
            ("Max-Forwards: 1000", "Max-Forwards:  999"),
            ("Max-Forwards: 0020", "Max-Forwards:   19"),
            ("X-Other: 5", "X-Other: 5"),
        ] {
            assert_eq!(
                counted(method, field),
                (Ok(Hop::Forward), lowered.to_owned())
            );
        }
        for field in ["Max-Forwards: 0", "Max-Forwards: 000"] {
            assert_eq!(counted(method, field), (Ok(Hop::Last), field.to_owned()));
        }
        for field in [
            "Max-Forwards: x",
            "Max-Forwards:",
            "Max-Forwards: -1",
            "Max-Forwards: 1 1",
        ] {
            assert!(counted(method, field).0.is_err(), "{field}");
        }
        assert!(
            counted(method, "Max-Forwards: 1\r\nmax-forwards: 1")
                .0
                .is_err()
        );
    }
    assert_eq!(counted("GET", "Max-Forwards: 0").0, Ok(Hop::Forward));
}

#[test]
fn an_expectation_counts_for_http_11_only() {
    for (version, expected) in [("1.1", true), ("1.0", false)] {
        let line = format!("POST / HTTP/{version}");
        let bytes = head(&[
            &line,
            "Host: a",
            "Expect: 100-Continue",
            "Content-Length: 1",
        ]);
        assert_eq!(parsed(&bytes).expects_continue, expected, "{version}");
    }
}

#[test]
fn fields_that_connection_names_are_for_this_connection_only() {
    let bytes = head(&[
        "POST / HTTP/1.1",
        "Host: a",
        "X-Hop: 1",
        "Connection: x-hop, host, content-length , absent",
        "Content-Length: 1",
        "x-HOP: 2",
        "X-Hop2: 3",
        "connection: x-hop2",
    ]);
    let head = parsed(&bytes);
    let marked: Vec<_> = head
        .fields
        .iter()
        .filter(|field| field.connection_only)
        .map(|field| text(field.name.get(&bytes)))
        .collect();
    assert_eq!(marked, ["X-Hop", "x-HOP", "X-Hop2"]);
    assert_eq!(head.length, Length::Known(1));
    assert_eq!(text(head.host.get(&bytes)), "a");
}

#[test]
fn every_known_name_is_known_in_any_case() {
    let names = [
        ("Host", Known::Host),
        ("Content-Length", Known::ContentLength),
        ("Connection", Known::Connection),
        ("TE", Known::HopByHop),
        ("Upgrade", Known::Upgrade),
        ("Keep-Alive", Known::HopByHop),
        ("Proxy-Connection", Known::HopByHop),
        ("X-Forwarded-For", Known::XForwardedFor),
        ("X-Forwarded-Proto", Known::XForwardedProto),
        ("X-Forwarded-Host", Known::XForwardedHost),
        ("X-Real-IP", Known::XRealIp),
        ("X-Request-ID", Known::XRequestId),
        ("Forwarded", Known::Forwarded),
        ("Via", Known::Via),
        ("Date", Known::Date),
        ("Evenflow-Client", Known::Own),
        ("evenflow-x", Known::Own),
        ("evenflow-", Known::Other),
        ("X-Evenflow-Client", Known::Other),
        ("Hosts", Known::Other),
    ];
    for (name, known) in names {
        for name in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
            let field = format!("{name}: 1");
            let mut lines = vec!["GET / HTTP/1.1", &field];
            if known != Known::Host {
                lines.push("Host: a");
            }
            let bytes = head(&lines);
            assert_eq!(parsed(&bytes).fields[0].known, known, "{name}");
        }
    }
}

/// Every line here has been used against some pair of parsers that read it differently.
#[test]
fn requests_that_could_be_read_in_two_ways_are_refused() {
    let bad: [&[u8]; 68] = [
        // Line ends
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        b"GET / HTTP/1.1\r\rHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n\r\n",
        b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        // Request line
        b"GET /\r\nHost: a\r\n\r\n",
        b"GET\r\nHost: a\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /  HTTP/2.0\r\nHost: a\r\n\r\n",
        b"GET / x HTTP/2.0\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1 x\r\nHost: a\r\n\r\n",
        b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n",
        b"G\x00T / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / http/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/11\r\nHost: a\r\n\r\n",
        b"GET / HTTPS/1.1\r\nHost: a\r\n\r\n",
        // Target
        b"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET ?a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://u@b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        // Host
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET http://b/ HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a:123456\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [a]\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
        // Fields
        b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\tfolded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX\xe9: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX[]: b\r\n\r\n",
        // Framing
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000000000\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    ];
    for bytes in bad {
        let reason = refused(bytes);
        assert!(
            matches!(reason, HeadError::Malformed(_)),
            "{:?} gave {reason:?}",
            String::from_utf8_lossy(bytes)
        );
    }
}

#[test]
fn what_is_not_served_says_so() {
    let cases = [
        (
            head(&["CONNECT a:443 HTTP/1.1", "Host: a:443"]),
            HeadError::Method,
        ),
        (head(&["GET / HTTP/2.0", "Host: a"]), HeadError::Version),
        (head(&["GET / HTTP/1.2", "Host: a"]), HeadError::Version),
        (head(&["GET / HTTP/0.9", "Host: a"]), HeadError::Version),
        (head(&["PRI * HTTP/2.0"]), HeadError::Version),
        (
            head(&[&format!("GET /{} HTTP/1.1", "a".repeat(8192)), "Host: a"]),
            HeadError::TargetTooLong,
        ),
    ];
    for (bytes, reason) in cases {
        assert_eq!(refused(&bytes), reason);
    }
}

#[test]
fn fields_are_counted_up_to_the_listeners_bound() {
    let fields = |count: usize| {
        let mut lines = vec!["GET / HTTP/1.1".to_owned(), "Host: a".to_owned()];
        lines.extend((1..count).map(|index| format!("X-{index}: {index}")));
        head(&lines.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let mut head = RequestHead::default();
    assert_eq!(head.parse(&fields(7), 7, 100), Ok(()));
    assert_eq!(head.fields.len(), 7);
    assert_eq!(
        head.parse(&fields(8), 7, 100),
        Err(HeadError::TooManyFields)
    );
    assert_eq!(head.parse(&fields(MAX_FIELDS), 100_000, 100), Ok(()));
    let over = fields(MAX_FIELDS + 1);
    assert_eq!(
        head.parse(&over, 100_000, 100),
        Err(HeadError::TooManyFields)
    );
}

#[test]
fn a_head_parsed_anew_keeps_nothing_of_the_one_before() {
    let first = head(&[
        "POST http://b/x HTTP/1.0",
        "Host: a",
        "Connection: keep-alive",
        "Expect: 100-continue",
        "Content-Length: 9",
    ]);
    let second = head(&["GET /y HTTP/1.1", "Host: c"]);
    let mut reused = RequestHead::default();
    reused.parse(&first, 100, 100).unwrap();
    reused.parse(&second, 100, 100).unwrap();
    assert_eq!(format!("{reused:?}"), format!("{:?}", parsed(&second)));
}

#[test]
fn an_answer_is_taken_apart() {
    let bytes = head(&[
        "HTTP/1.1 404 Not Here",
        "Date: now",
        "Content-Length: 7",
        "Connection: x-hop",
        "X-Hop: 1",
    ]);
    let head = answer(&bytes, false).unwrap();
    assert_eq!(head.status, 404);
    assert_eq!(text(head.phrase.get(&bytes)), "Not Here");
    assert_eq!(head.length, Length::Known(7));
    assert!(head.keep_alive && head.dated);
    let marked: Vec<_> = head.fields.iter().map(|f| f.connection_only).collect();
    assert_eq!(marked, [false, false, false, true]);
    let bare = b"HTTP/1.1 200\r\n\r\n";
    assert!(answer(bare, false).unwrap().phrase.is_empty());
}

#[test]
fn an_answers_length_depends_on_status_method_and_fields() {
    use Length::{Chunked, Known, None, UntilClose};
    let cases: [(&str, &[&str], bool, Length, bool); 14] = [
        (
            "HTTP/1.1 200 OK",
            &["Content-Length: 3"],
            false,
            Known(3),
            true,
        ),
        ("HTTP/1.1 200 OK", &["Content-Length: 0"], false, None, true),
        ("HTTP/1.1 200 OK", &["Content-Length: 3"], true, None, true),
        (
            "HTTP/1.1 200 OK",
            &["Transfer-Encoding: chunked"],
            false,
            Chunked,
            true,
        ),
        (
            "HTTP/1.1 200 OK",
            &["Transfer-Encoding: chunked"],
            true,
            None,
            true,
        ),
        ("HTTP/1.1 200 OK", &[], false, UntilClose, false),
        ("HTTP/1.0 200 OK", &[], false, UntilClose, false),
        (
            "HTTP/1.0 200 OK",
            &["Connection: keep-alive"],
            false,
            UntilClose,
            false,
        ),
        (
            "HTTP/1.0 200 OK",
            &["Connection: keep-alive", "Content-Length: 1"],
            false,
            Known(1),
            true,
        ),
        (
            "HTTP/1.0 200 OK",
            &["Content-Length: 1"],
            false,
            Known(1),
            false,
        ),
        (
            "HTTP/1.1 200 OK",
            &["Content-Length: 1", "Connection: close"],
            false,
            Known(1),
            false,
        ),
        ("HTTP/1.1 204 No Content", &[], false, None, true),
        (
            "HTTP/1.1 304 Not Modified",
            &["Content-Length: 9"],
            false,
            None,
            true,
        ),
        ("HTTP/1.1 103 Early Hints", &["Link: a"], false, None, true),
    ];
    for (line, fields, head_request, length, kept) in cases {
        let lines = [&[line], fields].concat();
        let found = answer(&head(&lines), head_request).unwrap();
        assert_eq!(found.length, length, "{lines:?}, HEAD: {head_request}");
        assert_eq!(found.keep_alive, kept, "{lines:?}");
    }
}

#[test]
fn answers_that_could_be_read_in_two_ways_are_refused() {
    let bad: [&[u8]; 15] = [
        b"HTTP/1.1 200 OK\n\n",
        b"HTTP/1.1 200 OK\r\nA: b\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ];
    for bytes in bad {
        let found = answer(bytes, false);
        assert!(
            found.is_err(),
            "{:?} gave {found:?}",
            String::from_utf8_lossy(bytes)
        );
    }
}

#[test]
fn kept_lines_are_copied_as_they_were_sent() {
    let bytes = head(&[
        "GET / HTTP/1.1",
        "hOst:a",
        "X-One:  odd \t spacing \t",
        "X-Two:",
        "x-three: \u{e9}",
    ]);
    let head = parsed(&bytes);
    let copy = |keep: &dyn Fn(&Field) -> bool| {
        let mut out = Vec::new();
        head.copy_fields(&bytes, &mut out, keep);
        String::from_utf8(out).unwrap()
    };
    let lines = [
        "hOst:a\r\n",
        "X-One:  odd \t spacing \t\r\n",
        "X-Two:\r\n",
        "x-three: \u{e9}\r\n",
    ];
    assert_eq!(copy(&|_| true), lines.concat());
    assert_eq!(copy(&|_| false), "");
    let named = |name: &'static str| {
        let bytes = &bytes;
        move |field: &Field| field.name.get(bytes) != name.as_bytes()
    };
    assert_eq!(copy(&named("hOst")), lines[1..].concat());
    assert_eq!(
        copy(&named("X-Two")),
        [lines[0], lines[1], lines[3]].concat()
    );
    assert_eq!(copy(&named("x-three")), lines[..3].concat());
}

#[test]
fn a_scan_waits_for_the_empty_line() {
    assert_eq!(scan(b"", 0), Ok(Scan::Partial(0)));
    assert_eq!(scan(b"GET", 0), Ok(Scan::Partial(0)));
    assert_eq!(scan(b"GET\r\n", 0), Ok(Scan::Partial(5)));
    assert_eq!(scan(b"GET\r\n\r", 5), Ok(Scan::Partial(5)));
    assert_eq!(scan(b"GET\r\n\r\nmore", 5), Ok(Scan::Complete(7)));
    assert_eq!(scan(b"\r\n", 0), Ok(Scan::Complete(2)));
    assert!(scan(b"\n", 0).is_err());
    assert!(scan(b"GET\r\nA\n", 5).is_err());
}

/// Pieces that matter to a parser, so that random heads are near the border of what is valid.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let tokens = [
        "GET ",
        "POST ",
        "/",
        "/a?b",
        "*",
        "http://b/",
        " HTTP/1.1",
        " HTTP/1.0",
        "\r\n",
        "\r\n",
        "\r\n",
        "\n",
        "\r",
        " ",
        "\t",
        ":",
        "Host: a\r\n",
        "Host: a\r\n",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close, x\r\n",
        "X: y\r\n",
        "Expect: 100-continue\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 ",
        "\r\n\r\n",
    ];
    prop_oneof![
        8 => prop::sample::select(tokens.to_vec()).prop_map(|token| token.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..3),
    ]
}

fn near_heads() -> impl Strategy<Value = Vec<u8>> {
    let start = prop::sample::select(vec![
        "",
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "HTTP/1.1 200 OK\r\n",
    ]);
    (start, prop::collection::vec(piece(), 0..12), any::<bool>()).prop_map(
        |(start, pieces, end)| {
            let mut out = start.as_bytes().to_vec();
            out.extend(pieces.concat());
            if end {
                out.extend_from_slice(b"\r\n\r\n");
            }
            out
        },
    )
}

/// What must hold of whatever was accepted, by the plainest means.
fn assert_unambiguous(bytes: &[u8], fields: &[Field]) {
    for (index, byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' => assert_eq!(bytes[index - 1], b'\r', "bare LF"),
            b'\r' => assert_eq!(bytes[index + 1], b'\n', "bare CR"),
            _ => {}
        }
    }
    let lower = String::from_utf8_lossy(bytes).to_lowercase();
    let lines = |name: &str| {
        lower
            .split("\r\n")
            .filter(|line| line.starts_with(name))
            .count()
    };
    assert!(
        lower.starts_with("http/") || lines("host:") <= 1,
        "{lower:?}"
    );
    let framings = lines("content-length:") + lines("transfer-encoding:");
    assert!(framings <= 1, "{lower:?}");
    // All lines but the first and the empty ones are fields.
    assert_eq!(fields.len(), lower.split("\r\n").count() - 3, "{lower:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_scan_in_steps_finds_what_one_scan_finds(
        bytes in near_heads(),
        splits in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let whole = scan(&bytes, 0);
        let mut ends: Vec<_> = splits.iter().map(|split| split.index(bytes.len() + 1)).collect();
        ends.sort_unstable();
        ends.push(bytes.len());
        let mut from = 0;
        let mut stepwise = Ok(Scan::Partial(0));
        for end in ends {
            stepwise = scan(&bytes[..end], from);
            match stepwise {
                Ok(Scan::Partial(at)) => from = at,
                _ => break,
            }
        }
        let bare = bytes.windows(2).any(|two| two[0] == b'\r' && two[1] != b'\n');
        if bare && stepwise.is_err() {
            // A whole head with a bare carriage return is left for the parser to refuse.
            if let Ok(Scan::Complete(len)) = whole {
                prop_assert!(RequestHead::default().parse(&bytes[..len], 100, 8192).is_err());
            }
        } else {
            prop_assert_eq!(stepwise, whole);
        }
    }

    #[test]
    fn no_bytes_make_the_parsers_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        max_fields in 0..300_usize,
    ) {
        let _ = scan(&bytes, 0);
        let _ = RequestHead::default().parse(&bytes, max_fields, 100);
        let _ = ResponseHead::default().parse(&bytes, false);
    }

    #[test]
    fn what_is_accepted_can_be_read_in_one_way_only(bytes in near_heads()) {
        if let Ok(Scan::Complete(len)) = scan(&bytes, 0) {
            let bytes = &bytes[..len];
            let mut request = RequestHead::default();
            if request.parse(bytes, 100, 100).is_ok() {
                assert_unambiguous(bytes, &request.fields);
                prop_assert!(request.version_10 || !request.host.is_empty());
                let target = request.target.get(bytes);
                prop_assert!(target.iter().all(u8::is_ascii_graphic));
                prop_assert!(matches!(target.first(), None | Some(b'/' | b'*')));
            }
            let mut response = ResponseHead::default();
            if response.parse(bytes, false).is_ok() {
                assert_unambiguous(bytes, &response.fields);
            }
        }
    }

    #[test]
    fn parsing_without_scanning_first_does_not_panic(bytes in near_heads()) {
        let _ = RequestHead::default().parse(&bytes, 100, 100);
        let _ = ResponseHead::default().parse(&bytes, true);
    }

    #[test]
    fn any_choice_of_lines_is_copied_byte_for_byte(
        values in prop::collection::vec(("[ \t]{0,2}[!-~]{0,6}[ \t]{0,2}", any::<bool>()), 0..12),
    ) {
        let lines: Vec<_> = values
            .iter()
            .enumerate()
            .map(|(index, (value, _))| format!("X-{index}:{value}\r\n"))
            .collect();
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", lines.concat()).into_bytes();
        let head = parsed(&bytes);
        let keep: Vec<bool> = std::iter::once(false)
            .chain(values.iter().map(|(_, keep)| *keep))
            .collect();
        let mut index = 0;
        let mut out = Vec::new();
        head.copy_fields(&bytes, &mut out, |_| {
            index += 1;
            keep[index - 1]
        });
        let expected: String = lines
            .iter()
            .zip(&values)
            .filter(|(_, (_, keep))| *keep)
            .map(|(line, _)| line.as_str())
            .collect();
        prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
