//! Heads of HTTP/2 written down as HTTP/1.1, and back.

use bytes::Bytes;
use evenflow_wire::http1::head::{Length, RequestHead, ResponseHead, Scan, scan};
use evenflow_wire::http2::translate::{
    request, request_lines, response, response_lines, trailer_lines, trailers,
};
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};

fn written(request: Request<()>, ended: bool) -> Result<String, &'static str> {
    let mut out = Vec::new();
    request_lines(&request.into_parts().0, ended, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn answered(answer: Response<()>, ended: bool, head_request: bool) -> (String, Length) {
    let mut out = Vec::new();
    response_lines(&answer.into_parts().0, ended, head_request, &mut out).unwrap();
    assert_eq!(scan(&out, 0), Ok(Scan::Complete(out.len())));
    let mut head = ResponseHead::default();
    head.parse(&out, head_request).unwrap();
    (String::from_utf8(out).unwrap(), head.length)
}

#[test]
fn a_request_is_written_with_its_host_its_cookies_in_one_and_its_framing() {
    let asked = || {
        Request::post("http://a.test:80/x?y=1")
            .header("host", "A.test:80")
            .header("cookie", "a=1")
            .header("x-a", "2")
            .header("cookie", "b=2")
    };
    assert_eq!(
        written(asked().body(()).unwrap(), false).unwrap(),
        "POST /x?y=1 HTTP/1.1\r\nhost: a.test:80\r\nx-a: 2\r\ncookie: a=1; b=2\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
    let known = asked().header("content-length", "5").body(()).unwrap();
    assert!(
        written(known, false)
            .unwrap()
            .contains("content-length: 5\r\n")
    );
    let none = written(asked().body(()).unwrap(), true).unwrap();
    assert!(!none.contains("transfer-encoding"), "{none}");
}

#[test]
fn another_host_than_the_authority_is_left_for_the_parser_to_refuse() {
    let asked = Request::get("http://a.test/").header("host", "b.test");
    let text = written(asked.body(()).unwrap(), true).unwrap();
    let mut head = RequestHead::default();
    assert!(head.parse(text.as_bytes(), 100, 8192).is_err());
}

#[test]
fn what_only_connections_of_http1_say_is_malformed() {
    for (name, value) in [
        ("connection", "close"),
        ("keep-alive", "5"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
    ] {
        let asked = Request::get("http://a.test/").header(name, value);
        assert!(written(asked.body(()).unwrap(), true).is_err(), "{name}");
    }
    let without_path = Request::builder().uri("a.test").body(()).unwrap();
    assert!(written(without_path, true).is_err());
}

#[test]
fn an_answer_is_framed_by_what_it_is() {
    let answer = |status: u16| Response::builder().status(status);
    let cases = [
        (answer(200), false, false, Length::Chunked),
        (answer(200), true, false, Length::None),
        (
            answer(200).header("content-length", "7"),
            false,
            false,
            Length::Known(7),
        ),
        (
            answer(200).header("content-length", "7"),
            true,
            true,
            Length::None,
        ),
        (answer(204), true, false, Length::None),
        (
            answer(304).header("content-length", "7"),
            true,
            false,
            Length::None,
        ),
        (answer(103), false, false, Length::None),
    ];
    for (answer, ended, head_request, length) in cases {
        let (text, found) = answered(answer.body(()).unwrap(), ended, head_request);
        assert_eq!(found, length, "{text}");
    }
    let switched = answer(101).body(()).unwrap().into_parts().0;
    assert!(response_lines(&switched, false, false, &mut Vec::new()).is_err());
}

#[test]
fn what_is_for_the_connection_is_not_sent_on() {
    let text = "HTTP/1.1 200 OK\r\nConnection: close, x-hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\
                Transfer-Encoding: chunked\r\nX-Kept: 2\r\n\r\n";
    let (answer, length) = response(&Bytes::from(text), false).unwrap();
    assert_eq!((answer.status(), length), (StatusCode::OK, Length::Chunked));
    let names: Vec<_> = answer.headers().keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["x-kept"]);

    let text = "POST /a?b HTTP/1.1\r\nhost: a.test\r\nte: trailers\r\ncontent-length: 3\r\n\r\n";
    let (asked, length) = request(&Bytes::from(text), &Scheme::HTTPS).unwrap();
    assert_eq!(asked.uri(), "https://a.test/a?b");
    assert_eq!(length, Length::Known(3));
    let names: Vec<_> = asked.headers().keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["te", "content-length"]);
}

#[test]
fn a_target_that_http2_cannot_say_is_refused() {
    let text = "GET /a`b HTTP/1.1\r\nhost: a.test\r\n\r\n";
    assert!(request(&Bytes::from(text), &Scheme::HTTP).is_err());
}

#[test]
fn trailers_come_back_as_they_were() {
    let mut map = HeaderMap::new();
    map.append("grpc-status", "0".parse().unwrap());
    map.append("x", "a: b".parse().unwrap());
    map.append("x", "".parse().unwrap());
    let mut lines = Vec::new();
    trailer_lines(&map, &mut lines).unwrap();
    assert_eq!(lines, b"grpc-status: 0\r\nx: a: b\r\nx: \r\n");
    assert_eq!(trailers(&lines).unwrap(), map);
}
