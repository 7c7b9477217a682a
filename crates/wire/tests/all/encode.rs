//! What is written reads back the same: one framing, one host, nothing of this connection only, and
//! no word on the client but the balancer's.

use std::net::IpAddr;

use evenflow_wire::edit::Edit;
use evenflow_wire::field::Known;
use evenflow_wire::http1::encode::{
    Origin, UpstreamTarget, push_ip, push_number, request_head, request_id,
};
use evenflow_wire::http1::head::RequestHead;
use proptest::prelude::*;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));

fn origin() -> Origin<'static> {
    Origin {
        peer: Some(PEER),
        client: Some(PEER),
        trusted: false,
        scheme: "http",
        secure: false,
        identity: None,
        forwarded: false,
        internal: false,
        upgrade: false,
        request_id: b"made-here",
        server_name: "evenflow",
    }
}

fn trusted() -> Origin<'static> {
    Origin {
        trusted: true,
        client: Some(CLIENT),
        ..origin()
    }
}

fn internal() -> Origin<'static> {
    Origin {
        internal: true,
        ..origin()
    }
}

fn request(lines: &[&str]) -> (RequestHead, Vec<u8>) {
    let bytes = format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes();
    let mut head = RequestHead::default();
    head.parse(&bytes, 100, 8192).unwrap();
    (head, bytes)
}

/// The lines sent to an endpoint, without the empty one at the end.
fn sent(lines: &[&str], origin: &Origin<'_>, edit: &Edit) -> Vec<String> {
    let (head, bytes) = request(lines);
    let mut out = Vec::new();
    request_head(&mut out, &head, &bytes, origin, &aim("b.example:80"), edit);
    let text = String::from_utf8(out).unwrap();
    let text = text.strip_suffix("\r\n\r\n").unwrap();
    text.split("\r\n").map(str::to_owned).collect()
}

fn plain(lines: &[&str], origin: &Origin<'_>) -> Vec<String> {
    sent(lines, origin, &Edit::default())
}

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

fn setting(name: &str, value: &str) -> Edit {
    let mut edit = Edit::default();
    edit.set(name, value).unwrap();
    edit
}

fn removing(name: &str) -> Edit {
    let mut edit = Edit::default();
    edit.remove(name).unwrap();
    edit
}

#[test]
fn a_plain_request_gets_the_forwarding_headers() {
    let lines = plain(
        &["GET /a?b HTTP/1.1", "Host: site:81", "Accept: */*"],
        &origin(),
    );
    assert_eq!(
        lines,
        [
            "GET /a?b HTTP/1.1",
            "host: site:81",
            "Accept: */*",
            "x-forwarded-for: 192.0.2.7",
            "x-real-ip: 192.0.2.7",
            "x-forwarded-proto: http",
            "x-forwarded-host: site:81",
            "x-request-id: made-here",
            "via: 1.1 evenflow",
        ]
    );
}

#[test]
fn the_target_is_written_in_origin_form() {
    let cases = [
        (
            "GET http://other/x?y HTTP/1.1",
            "GET /x?y HTTP/1.1",
            "other",
        ),
        (
            "GET http://other:8080 HTTP/1.1",
            "GET / HTTP/1.1",
            "other:8080",
        ),
        (
            "OPTIONS http://other HTTP/1.1",
            "OPTIONS * HTTP/1.1",
            "other",
        ),
        (
            "OPTIONS http://other/ HTTP/1.1",
            "OPTIONS / HTTP/1.1",
            "other",
        ),
        ("OPTIONS * HTTP/1.1", "OPTIONS * HTTP/1.1", "site"),
        ("GET //a/../%41 HTTP/1.1", "GET //a/../%41 HTTP/1.1", "site"),
        ("GET /x HTTP/1.0", "GET /x HTTP/1.1", "site"),
    ];
    for (line, written, host) in cases {
        let lines = plain(&[line, "Host: site"], &origin());
        assert_eq!(lines[0], written);
        assert_eq!(values(&lines, "host"), [host], "{line}");
    }
}

#[test]
fn what_concerns_the_clients_connection_stays_behind() {
    let lines = plain(
        &[
            "GET / HTTP/1.1",
            "Host: a",
            "Connection: keep-alive, X-Hop, Upgrade, TE",
            "X-Hop: 1",
            "Keep-Alive: timeout=5",
            "Proxy-Connection: keep-alive",
            "TE: trailers",
            "Upgrade: websocket",
            "X-Stays: 1",
        ],
        &origin(),
    );
    for name in [
        "connection",
        "x-hop",
        "keep-alive",
        "proxy-connection",
        "te",
        "upgrade",
    ] {
        assert_eq!(values(&lines, name), [""; 0], "{name}");
    }
    assert_eq!(values(&lines, "x-stays"), ["1"]);
}

const CLAIMS: [&str; 11] = [
    "GET / HTTP/1.1",
    "Host: a",
    "X-Forwarded-For: 203.0.113.9, 198.51.100.1",
    "X-Forwarded-For: 198.51.100.2",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: front",
    "X-Real-IP: 203.0.113.9",
    "X-Request-ID: theirs",
    "Forwarded: for=203.0.113.9",
    "Via: 1.1 front",
    "Evenflow-Client: 127.0.0.1",
];

#[test]
fn an_unknown_peers_claims_are_replaced() {
    let lines = plain(&CLAIMS, &origin());
    assert_eq!(values(&lines, "x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(values(&lines, "x-forwarded-proto"), ["http"]);
    assert_eq!(values(&lines, "x-forwarded-host"), ["a"]);
    assert_eq!(values(&lines, "x-real-ip"), ["192.0.2.7"]);
    assert_eq!(values(&lines, "x-request-id"), ["made-here"]);
    assert_eq!(values(&lines, "forwarded"), [""; 0]);
    assert_eq!(values(&lines, "via"), ["1.1 front", "1.1 evenflow"]);
    assert_eq!(values(&lines, "evenflow-client"), [""; 0]);
}

#[test]
fn a_trusted_proxys_claims_are_kept_and_the_proxy_is_added() {
    let lines = plain(&CLAIMS, &trusted());
    assert_eq!(
        values(&lines, "x-forwarded-for"),
        ["203.0.113.9, 198.51.100.1, 198.51.100.2, 192.0.2.7"]
    );
    assert_eq!(values(&lines, "x-forwarded-proto"), ["https"]);
    assert_eq!(values(&lines, "x-forwarded-host"), ["front"]);
    assert_eq!(values(&lines, "x-real-ip"), ["203.0.113.9"]);
    assert_eq!(values(&lines, "x-request-id"), ["theirs"]);
    assert_eq!(values(&lines, "forwarded"), ["for=203.0.113.9"]);
    assert_eq!(values(&lines, "evenflow-client"), [""; 0]);
}

#[test]
fn a_trusted_proxy_that_says_nothing_is_told_of() {
    let lines = plain(&["GET / HTTP/1.0", "Host: a"], &trusted());
    assert_eq!(values(&lines, "x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(values(&lines, "x-real-ip"), ["203.0.113.9"]);
    assert_eq!(values(&lines, "x-request-id"), ["made-here"]);
    assert_eq!(values(&lines, "via"), ["1.0 evenflow"]);
}

#[test]
fn the_control_plane_sees_what_the_client_sent_and_who_it_is() {
    let lines = plain(&CLAIMS, &internal());
    assert_eq!(
        values(&lines, "x-forwarded-for"),
        ["203.0.113.9, 198.51.100.1", "198.51.100.2"]
    );
    assert_eq!(values(&lines, "x-forwarded-host"), ["front"]);
    assert_eq!(values(&lines, "forwarded"), ["for=203.0.113.9"]);
    assert_eq!(values(&lines, "via"), ["1.1 front"]);
    assert_eq!(values(&lines, "x-request-id"), ["theirs"]);
    assert_eq!(values(&lines, "evenflow-client"), ["192.0.2.7"]);
    assert_eq!(values(&lines, "evenflow-scheme"), ["http"]);
    let unix = Origin {
        peer: None,
        ..internal()
    };
    let lines = plain(&CLAIMS, &unix);
    assert_eq!(values(&lines, "evenflow-client"), ["unix"]);
}

#[test]
fn forwarded_is_written_where_wanted() {
    let wanted = Origin {
        forwarded: true,
        ..origin()
    };
    let lines = ["GET / HTTP/1.1", "Host: a:1", "Forwarded: for=claimed"];
    assert_eq!(
        values(&plain(&lines, &wanted), "forwarded"),
        ["for=192.0.2.7;host=\"a:1\";proto=http"]
    );
    let v6 = Origin {
        peer: Some("2001:db8::1".parse().unwrap()),
        trusted: true,
        ..wanted
    };
    assert_eq!(
        values(&plain(&lines, &v6), "forwarded"),
        [
            "for=claimed",
            "for=\"[2001:db8::1]\";host=\"a:1\";proto=http"
        ]
    );
    let unix = Origin {
        peer: None,
        client: None,
        ..wanted
    };
    let lines = plain(&lines, &unix);
    assert_eq!(
        values(&lines, "forwarded"),
        ["for=unknown;host=\"a:1\";proto=http"]
    );
    assert_eq!(values(&lines, "x-forwarded-for"), [""; 0]);
}

#[test]
fn an_expectation_is_passed_on_where_it_counts() {
    let head = |version| ["POST / HTTP/", version].concat();
    for (version, expected) in [("1.1", 1), ("1.0", 0)] {
        let line = head(version);
        let lines = [
            &line,
            "Host: a",
            "Expect: 100-continue",
            "Content-Length: 1",
        ];
        assert_eq!(values(&plain(&lines, &origin()), "expect").len(), expected);
    }
}

#[test]
fn a_body_keeps_its_framing() {
    let known = plain(
        &["POST / HTTP/1.1", "Host: a", "Content-Length: 5"],
        &origin(),
    );
    assert_eq!(values(&known, "content-length"), ["5"]);
    let chunked = plain(
        &["POST / HTTP/1.1", "Host: a", "Transfer-Encoding: Chunked"],
        &origin(),
    );
    assert_eq!(values(&chunked, "transfer-encoding"), ["chunked"]);
    assert_eq!(values(&chunked, "content-length"), [""; 0]);
}

#[test]
fn a_length_is_written_anew() {
    for (line, wanted) in [
        ("Content-Length: 0003", "3"),
        ("Content-Length:\t3\t", "3"),
        ("Content-Length: 000", "0"),
    ] {
        let lines = plain(&["POST / HTTP/1.1", "Host: a", line], &origin());
        assert_eq!(values(&lines, "content-length"), [wanted], "{line}");
    }
    let lines = plain(&["GET / HTTP/1.1", "Host: a"], &origin());
    assert!(values(&lines, "content-length").is_empty());
}

#[test]
fn lookalikes_of_known_and_edited_names_stay_behind() {
    let mut edit = removing("x-internal-token");
    edit.set("X-User", "7").unwrap();
    let lines = sent(
        &[
            "GET / HTTP/1.1",
            "Host: a",
            "X_Forwarded_For: 203.0.113.9",
            "Transfer_Encoding: chunked",
            "X_User: 1",
            "x_internal-Token: t",
            "x_other: 2",
        ],
        &origin(),
        &edit,
    );
    for name in [
        "x_forwarded_for",
        "transfer_encoding",
        "x_user",
        "x_internal-token",
    ] {
        assert!(values(&lines, name).is_empty(), "{name}: {lines:?}");
    }
    assert_eq!(values(&lines, "x-user"), ["7"]);
    assert_eq!(values(&lines, "x_other"), ["2"]);
}

#[test]
fn an_edit_has_the_last_word_on_the_balancers_own_fields() {
    let names = [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Real-IP",
        "X-Request-ID",
        "Via",
        "Forwarded",
    ];
    let origins = [origin(), trusted()].map(|origin| Origin {
        forwarded: true,
        ..origin
    });
    for origin in origins {
        for name in names {
            let lines = sent(&CLAIMS, &origin, &setting(name, "edited"));
            assert_eq!(values(&lines, name), ["edited"], "set {name}");
            let lines = sent(&CLAIMS, &origin, &removing(name));
            assert_eq!(values(&lines, name), [""; 0], "remove {name}");
        }
    }
}

#[test]
fn a_default_gives_way_to_what_the_balancer_adds() {
    let mut edit = Edit::default();
    for name in ["X-Request-ID", "Via", "X-New", "accept"] {
        edit.default_to(name, "d").unwrap();
    }
    let lines = sent(
        &["GET / HTTP/1.1", "Host: a", "Accept: b"],
        &origin(),
        &edit,
    );
    assert_eq!(values(&lines, "x-request-id"), ["made-here"]);
    assert_eq!(values(&lines, "via"), ["1.1 evenflow"]);
    assert_eq!(values(&lines, "x-new"), ["d"]);
    assert_eq!(values(&lines, "accept"), ["b"]);
}

#[test]
fn the_host_can_be_set_and_stays_one() {
    let lines = sent(
        &["GET / HTTP/1.1", "Host: outer"],
        &origin(),
        &setting("Host", "inner"),
    );
    assert_eq!(values(&lines, "host"), ["inner"]);
    assert_eq!(values(&lines, "x-forwarded-host"), ["outer"]);
}

#[test]
fn a_requests_identifier_is_a_trusted_proxys_or_made_here() {
    let cases: [(&[&str], Origin<'_>, &str); 4] = [
        (&["X-Request-ID: theirs"], origin(), "made-here"),
        (&["X-Request-ID: theirs"], trusted(), "theirs"),
        (
            &["X-Request-ID:", "X-Request-ID: second"],
            trusted(),
            "second",
        ),
        (&[], trusted(), "made-here"),
    ];
    for (lines, origin, id) in cases {
        let lines = [&["GET / HTTP/1.1", "Host: a"], lines].concat();
        let (head, bytes) = request(&lines);
        assert_eq!(request_id(&head, &bytes, &origin), id.as_bytes());
        assert_eq!(values(&plain(&lines, &origin), "x-request-id"), [id]);
    }
}

/// Heads that the parser takes, with a bit of everything.
fn heads() -> impl Strategy<Value = Vec<String>> {
    let line = prop::sample::select(vec![
        "GET / HTTP/1.1",
        "POST /a?b HTTP/1.1",
        "GET http://other/x HTTP/1.1",
        "GET /y HTTP/1.0",
        "OPTIONS * HTTP/1.1",
        "OPTIONS http://other HTTP/1.1",
    ]);
    let framing = prop::sample::select(vec![
        "X-None: 1",
        "Content-Length: 0",
        "Content-Length: 17",
        "Transfer-Encoding: chunked",
    ]);
    let field = prop::sample::select(vec![
        "Connection: close",
        "Connection: keep-alive, x-hop, host, via",
        "X-Hop: 1",
        "TE: trailers",
        "Upgrade: x",
        "Keep-Alive: 1",
        "Via: 1.1 x",
        "Evenflow-Client: 127.0.0.1",
        "evenflow-scheme: https",
        "X-Forwarded-For: 10.0.0.1",
        "X-Forwarded-For:",
        "X-Real-IP: 1",
        "X-Request-ID: a b",
        "X-Request-ID:",
        "Forwarded: for=x",
        "Expect: 100-continue",
        "Cookie: a=b",
        "Date: x",
        "Proxy-Connection: y",
        "X-Any: \t1 ",
    ]);
    (
        line,
        framing,
        prop::collection::vec(field, 0..8),
        0..8_usize,
    )
        .prop_map(|(line, framing, fields, at)| {
            let mut lines: Vec<String> = [line, "Host: site:8"].map(Into::into).to_vec();
            lines.extend(fields.into_iter().map(Into::into));
            if !(line.ends_with("1.0") && framing.starts_with("Transfer")) {
                lines.insert(1 + at.min(lines.len() - 1), framing.into());
            }
            lines
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_is_sent_reads_back_with_the_same_meaning(
        lines in heads(),
        is_trusted: bool,
        is_internal: bool,
        forwarded: bool,
    ) {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (head, bytes) = request(&lines);
        let origin = Origin { trusted: is_trusted, internal: is_internal, forwarded, ..origin() };
        let mut out = Vec::new();
        request_head(&mut out, &head, &bytes, &origin, &aim("b.example"), &Edit::default());
        let mut again = RequestHead::default();
        prop_assert_eq!(again.parse(&out, 100, 8192), Ok(()));
        prop_assert_eq!(again.length, head.length);
        prop_assert_eq!(again.host.get(&out), head.host.get(&bytes));
        prop_assert_eq!(again.path(&out), match again.target.get(&out) {
            b"*" => b"*",
            _ => head.path(&bytes),
        });
        prop_assert_eq!(again.method.get(&out), head.method.get(&bytes));
        prop_assert!(!again.version_10 && again.keep_alive);
        prop_assert_eq!(again.expects_continue, head.expects_continue);
        let count = |known| again.fields.iter().filter(|f| f.known == known).count();
        prop_assert_eq!(count(Known::HopByHop) + count(Known::Connection), 0);
        prop_assert_eq!(count(Known::Own), if is_internal { 2 } else { 0 });
        prop_assert!(count(Known::ContentLength) + count(Known::TransferEncoding) <= 1);
        if !is_internal {
            prop_assert_eq!(count(Known::XForwardedFor), 1);
            prop_assert_eq!(count(Known::XRequestId), 1);
            prop_assert!(count(Known::XForwardedProto) == 1 && count(Known::XForwardedHost) == 1);
            prop_assert!(count(Known::XRealIp) >= 1);
        }
    }

    #[test]
    fn addresses_and_numbers_are_written_as_everybody_does(ip: IpAddr, number: u64) {
        let mut out = Vec::new();
        push_ip(&mut out, ip);
        out.push(b' ');
        push_number(&mut out, number);
        prop_assert_eq!(String::from_utf8(out).unwrap(), format!("{ip} {number}"));
    }
}

fn aim(authority: &str) -> UpstreamTarget<'_> {
    UpstreamTarget {
        authority,
        target: None,
        host: None,
        http2: false,
    }
}

#[test]
fn a_rewritten_target_and_host_stand_for_the_clients() {
    let bytes = b"GET /users/7?x=1 HTTP/1.1\r\nHost: a.example\r\n\r\n";
    let mut head = RequestHead::default();
    head.parse(bytes, 100, 8192).unwrap();
    let aim = UpstreamTarget {
        target: Some(b"/7?x=1"),
        host: Some(b"inner"),
        ..aim("b.example:80")
    };
    let mut out = Vec::new();
    request_head(&mut out, &head, bytes, &origin(), &aim, &Edit::default());
    let text = String::from_utf8(out).unwrap();
    assert!(
        text.starts_with("GET /7?x=1 HTTP/1.1\r\nhost: inner\r\n"),
        "{text}"
    );
    assert!(
        text.contains("\r\nx-forwarded-host: a.example\r\n"),
        "{text}"
    );
}

fn hiding(names: &[&str]) -> Edit {
    let mut edit = Edit::default();
    for name in names {
        edit.hide_cookie(name);
    }
    edit
}

fn cookies_sent(fields: &[&str], edit: &Edit) -> Vec<String> {
    let mut lines = vec!["GET / HTTP/1.1", "Host: a"];
    lines.extend(fields);
    sent(&lines, &origin(), edit)
        .into_iter()
        .filter(|line| line.to_lowercase().starts_with("cookie:"))
        .collect()
}

#[test]
fn a_hidden_cookie_is_taken_out_and_the_others_stay_as_they_came() {
    let edit = hiding(&["session"]);
    for (given, expected) in [
        ("Cookie: session=x", None),
        ("Cookie: session=x;", None),
        ("Cookie: session=x; a=1", Some("Cookie: a=1")),
        ("Cookie: a=1;session=x;b=2", Some("Cookie: a=1;b=2")),
        (
            "cookie: a=\"1\";  b=2; session=x",
            Some("cookie: a=\"1\";  b=2"),
        ),
        ("Cookie: a=1; session =x", Some("Cookie: a=1")),
        (
            "Cookie: Session=x; session2=y; xsession=z; session",
            Some("Cookie: Session=x; session2=y; xsession=z; session"),
        ),
        ("Cookie: a=session=x", Some("Cookie: a=session=x")),
    ] {
        let expected: Vec<String> = expected.into_iter().map(Into::into).collect();
        assert_eq!(cookies_sent(&[given], &edit), expected, "{given}");
    }
    let several = [
        "Cookie: session=x",
        "X: session=x",
        "Cookie: a=1; session=y; b=2",
    ];
    assert_eq!(cookies_sent(&several, &edit), ["Cookie: a=1; b=2"]);
    assert_eq!(cookies_sent(&several, &Edit::default()).len(), 2);
}

#[test]
fn a_rule_that_sets_the_cookies_goes_before_one_that_hides_some() {
    let mut edit = hiding(&["session"]);
    edit.set("Cookie", "own=1").unwrap();
    assert_eq!(
        cookies_sent(&["Cookie: session=x; a=1"], &edit),
        ["Cookie: own=1"]
    );
}

proptest! {
    #[test]
    fn hiding_cookies_leaves_exactly_the_others_in_their_order(
        fields in prop::collection::vec(
            prop::collection::vec((" {0,2}", "[ab]{0,2}", " ?", "=?", "[ab=\" ]{0,3}"), 0..5),
            0..3,
        ),
    ) {
        let lines: Vec<String> = fields
            .iter()
            .map(|pairs| {
                let pairs: Vec<String> =
                    pairs.iter().map(|(a, b, c, d, e)| format!("{a}{b}{c}{d}{e}")).collect();
                format!("Cookie: {}", pairs.join(";"))
            })
            .collect();
        let pairs = |lines: &[String]| -> Vec<String> {
            lines
                .iter()
                .flat_map(|line| line["Cookie:".len()..].split(';'))
                .map(|pair| pair.trim().to_owned())
                .filter(|pair| !pair.is_empty())
                .collect()
        };
        let borrowed: Vec<&str> = lines.iter().map(String::as_str).collect();
        let actual = pairs(&cookies_sent(&borrowed, &hiding(&["a", "bb"])));
        let expected: Vec<String> = pairs(&lines)
            .into_iter()
            .filter(|pair| {
                let name = pair.split_once('=').map(|(name, _)| name.trim());
                !matches!(name, Some("a" | "bb"))
            })
            .collect();
        prop_assert_eq!(actual, expected);
    }
}
