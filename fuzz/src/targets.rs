//! What is fuzzed, from which seeds, and which rules must hold for any input.

use std::sync::LazyLock;

use evenflow_engine::engine;
use evenflow_engine::filters::headers::Edit;
use evenflow_engine::http1::body::Decoder;
use evenflow_engine::http1::encode::{Origin, request_head};
use evenflow_engine::http1::head::{Length, RequestHead, ResponseHead, Scan, scan};
use evenflow_engine::plan::{Match, PathMatch, ValueMatch};
use evenflow_engine::route::{Asked, Router, normal_path};

/// One entry point.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Well-formed input to begin from.
    pub seeds: &'static [&'static [u8]],
    /// Runs an input; the rule it breaks, if it breaks one.
    pub check: fn(&[u8]) -> Result<(), String>,
}

/// All entry points.
pub const TARGETS: [Target; 6] = [
    Target {
        name: "request_head",
        seeds: &[
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST /a?b=c HTTP/1.1\r\nHost: a.test:80\r\nContent-Length: 3\r\n\r\n",
            b"PUT /x HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n",
            b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, x-a\r\nX-A: 1\r\n\r\n",
            b"GET http://b.test/path HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
            b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        ],
        check: check_request,
    },
    Target {
        name: "response_head",
        seeds: &[
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
            b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
            b"HTTP/1.0 404 Not Found\r\nContent-Type: text/plain\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n",
        ],
        check: check_response,
    },
    Target {
        name: "chunked_body",
        seeds: &[
            b"3\r\nabc\r\n0\r\n\r\n",
            b"a;name=value\r\n0123456789\r\n1\r\nx\r\n0\r\nTrailer: 1\r\n\r\n",
            b"0\r\n\r\nGET / HTTP/1.1\r\n",
        ],
        check: check_chunked,
    },
    Target {
        name: "path",
        seeds: &[b"/", b"/a/b/c", b"/a/../b", b"/%61/%2e%2e/b", b"//a/./b/"],
        check: check_path,
    },
    Target {
        name: "router",
        seeds: &[
            b"GET /a/b HTTP/1.1\r\nHost: h.test\r\n\r\n",
            b"PUT /a/7/b/c?x=1&y HTTP/1.1\r\nHost: x.h.test:80\r\nX-Beta: 1\r\n\r\n",
            b"GET /img/../%61/8/ HTTP/1.1\r\nHost: h.test.\r\nCookie: a=b; who=me\r\n\r\n",
        ],
        check: check_router,
    },
    Target {
        name: "plan",
        seeds: &[PLAN],
        check: check_plan,
    },
];

const PLAN: &[u8] = br#"{"version":1,"revision":1,"access_log":null,"server_name":"evenflow","listeners":[],"filters":[{"name":"f","steps":[{"body_limit":{"bytes":1}},{"request_headers":{"remove":["a"],"set":[["b","c"]],"add":[],"default":[]}}]}],"routes":[{"name":"r","listeners":[],"match":{"host":"a","path":{"prefix":"/a"},"priority":0,"methods":["GET"],"headers":[["x",{"exact":"1"}]],"query":[["q",{"regex":"[a-z]+"}]],"cookies":[["c",{"present":true}]],"client":["10.0.0.0/8"]},"filters":["f"],"pool":"p","internal":false,"timeout_ms":0,"retries":{"max":3,"delay_ms":0,"per_try_timeout_ms":0,"statuses":[502],"on_timeout":false}}],"pools":[{"name":"p","picker":{"cycle":{"table":[0]}},"endpoints":[{"id":"e","target":"a:1","addresses":["127.0.0.1:1"],"weight":1,"max_connections":0,"up":true,"drain":false,"connect_timeout_ms":1,"first_byte_timeout_ms":1,"idle_timeout_ms":1}],"use_all":false,"queue":{"max":1,"timeout_ms":1},"outlier":null,"connections":{"max_idle":1,"idle_ms":1},"retry_budget":0.2,"retry_floor":10}]}"#;

fn rule(holds: bool, text: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(text.to_owned()) }
}

/// The head at the beginning of some bytes, if there is a whole one.
fn whole(input: &[u8]) -> Option<&[u8]> {
    match scan(input, 0) {
        Ok(Scan::Complete(len)) => Some(&input[..len]),
        _ => None,
    }
}

fn has_bare_line_end(bytes: &[u8]) -> bool {
    let feed = (0..bytes.len()).any(|i| bytes[i] == b'\n' && (i == 0 || bytes[i - 1] != b'\r'));
    let carriage = (0..bytes.len()).any(|i| bytes[i] == b'\r' && bytes.get(i + 1) != Some(&b'\n'));
    feed || carriage
}

fn check_request(input: &[u8]) -> Result<(), String> {
    let Some(bytes) = whole(input) else {
        return Ok(());
    };
    let mut head = RequestHead::default();
    if head.parse(bytes, 100, 8192).is_err() {
        return Ok(());
    }
    rule(!has_bare_line_end(bytes), "a bare CR or LF was accepted")?;
    let origin = Origin {
        peer: Some([192, 0, 2, 1].into()),
        client: Some([192, 0, 2, 1].into()),
        trusted: false,
        scheme: "http",
        identity: None,
        forwarded: true,
        internal: false,
        request_id: b"0123456789abcdef",
        server_name: "evenflow",
    };
    let mut out = Vec::new();
    request_head(
        &mut out,
        &head,
        bytes,
        &origin,
        "b.example",
        &Edit::default(),
    );
    let lower = out.to_ascii_lowercase();
    let count = |name: &[u8]| {
        lower
            .windows(name.len())
            .filter(|part| *part == name)
            .count()
    };
    // A request of HTTP/1.0 may have no host; what is sent is HTTP/1.1 and then has an empty one.
    rule(
        count(b"\r\nhost:") == 1,
        "what is forwarded has not exactly one Host",
    )?;
    let lengths = count(b"\r\ncontent-length:");
    let codings = count(b"\r\ntransfer-encoding:");
    rule(lengths + codings <= 1, "what is forwarded has two framings")?;
    rule(count(b"\r\nupgrade:") == 0, "Upgrade was forwarded")?;
    rule(count(b"\r\nconnection:") == 0, "Connection was forwarded")?;
    if head.host.is_empty() {
        return Ok(());
    }
    let mut again = RequestHead::default();
    again
        .parse(&out, 200, 16_384)
        .map_err(|reason| format!("what is forwarded is refused: {reason:?}"))?;
    rule(again.length == head.length, "the body's length changed")?;
    rule(
        again.host.get(&out) == head.host.get(bytes),
        "the host changed",
    )
}

fn check_response(input: &[u8]) -> Result<(), String> {
    let Some(bytes) = whole(input) else {
        return Ok(());
    };
    let mut head = ResponseHead::default();
    if head.parse(bytes, false).is_err() {
        return Ok(());
    }
    rule(!has_bare_line_end(bytes), "a bare CR or LF was accepted")?;
    rule(
        head.length != Length::UntilClose || !head.keep_alive,
        "a connection is kept whose body ends by its close",
    )
}

/// Decodes input that arrives in pieces of so many bytes: the data, whether the body ended, and
/// what is left over.
fn decoded(input: &[u8], piece: usize) -> Result<(Vec<u8>, bool, Vec<u8>), &'static str> {
    let mut decoder = Decoder::new(Length::Chunked);
    let mut pending = Vec::new();
    let mut data = Vec::new();
    for part in input.chunks(piece.max(1)) {
        pending.extend_from_slice(part);
        if decoder.is_done() {
            continue;
        }
        let found = decoder.decode(&mut pending)?;
        data.extend_from_slice(&pending[found.data]);
        pending.drain(..found.used);
    }
    Ok((data, decoder.is_done(), pending))
}

fn check_chunked(input: &[u8]) -> Result<(), String> {
    let at_once = decoded(input, input.len());
    for piece in [1, 2, 3, 7] {
        let piecewise = decoded(input, piece);
        let same = match (&at_once, &piecewise) {
            (Ok(at_once), Ok(piecewise)) => at_once == piecewise,
            (Err(_), Err(_)) => true,
            _ => false,
        };
        rule(same, "the same body in other pieces is read otherwise")?;
    }
    Ok(())
}

fn check_path(input: &[u8]) -> Result<(), String> {
    if input.first() != Some(&b'/') {
        return Ok(());
    }
    let once = normal_path(input);
    rule(once.first() == Some(&b'/'), "a path became relative")?;
    let segments = || once.split(|&byte| byte == b'/');
    rule(
        !segments().any(|segment| segment == b".."),
        "a dot segment is left",
    )
}

/// A router with a route of every kind.
static ROUTER: LazyLock<Router> = LazyLock::new(|| {
    let mut router = Router::default();
    let segment = |text: &str| Some(text.to_owned());
    let paths = [
        None,
        Some(PathMatch::Exact("/a/b".into())),
        Some(PathMatch::Prefix("/a".into())),
        Some(PathMatch::Template(vec![segment("a"), None, segment("b")])),
        Some(PathMatch::TemplatePrefix(vec![None, segment("b")])),
        Some(PathMatch::Regex("/[a-z]+/[0-9]+.*".into())),
    ];
    let hosts = [None, Some("h.test".to_owned()), Some("*.h.test".to_owned())];
    let rules = [
        Vec::new(),
        vec![("x-beta".to_owned(), ValueMatch::Present(true))],
    ];
    let mut number = 0;
    for host in &hosts {
        for path in &paths {
            for headers in &rules {
                let matcher = Match {
                    host: host.clone(),
                    path: path.clone(),
                    headers: headers.clone(),
                    ..Match::default()
                };
                // The fixed set is valid; a fault shows as no route being found.
                let _ = router.add(&matcher, number, false);
                number += 1;
            }
        }
    }
    let _ = router.finish();
    router
});

fn check_router(input: &[u8]) -> Result<(), String> {
    let Some(bytes) = whole(input) else {
        return Ok(());
    };
    let mut head = RequestHead::default();
    if head.parse(bytes, 100, 8192).is_err() {
        return Ok(());
    }
    let path = head.path(bytes);
    let asked = |path| Asked {
        host: head.host.get(bytes),
        path,
        head: &head,
        base: bytes,
        client: None,
    };
    let found = ROUTER.find(&asked(path));
    rule(found.is_some(), "no route, although one takes any request")?;
    if path.first() != Some(&b'/') {
        return Ok(());
    }
    let normal = normal_path(path);
    rule(
        ROUTER.find(&asked(&normal)) == found,
        "another spelling of a path takes another route",
    )
}

fn check_plan(input: &[u8]) -> Result<(), String> {
    match engine::check(input) {
        Ok(_) => Ok(()),
        Err(error) => rule(
            !error.message.is_empty(),
            "a plan is refused without a word",
        ),
    }
}
