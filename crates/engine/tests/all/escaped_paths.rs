//! A path that backends may read in several ways reaches nothing beyond its route.

use evenflow_rules::compile::{Registry, compile};
use evenflow_rules::explain::{ExplainRequest, explain};
use evenflow_rules::plan::{EscapedSlashes, Match, PathMatch};
use evenflow_rules::reason::Reason;
use evenflow_rules::route::{RouteQuery, Router, decode_in_place, normal_path};
use evenflow_wire::http1::head::RequestHead;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::net::{Balancer, Origin};
use crate::support::{endpoint, plan, pool, route};

fn router(policy: EscapedSlashes, paths: &[PathMatch]) -> Router {
    let mut router = Router::new(policy);
    for (index, path) in paths.iter().enumerate() {
        let matcher = Match {
            path: Some(path.clone()),
            ..Match::default()
        };
        router.add(&matcher, index, false).unwrap();
    }
    router.finish().unwrap();
    router
}

fn prefix(path: &str) -> PathMatch {
    PathMatch::Prefix(path.into())
}

/// The route that takes a path, or that the path is refused.
fn judged(router: &Router, path: &str) -> Result<Option<usize>, Reason> {
    let asked = RouteQuery {
        host: b"a",
        path: path.as_bytes(),
        head: &RequestHead::default(),
        base: b"",
        client: None,
    };
    router.check_path(&asked).map(|()| router.find(&asked))
}

const REFUSED: Result<Option<usize>, Reason> = Err(Reason::EscapedPath);

/// Ways from `/public` to `/admin` that some backend takes.
const ESCAPES: [&str; 20] = [
    "/public/..%2fadmin",
    "/public/..%2Fadmin",
    "/public/%2e%2e%2fadmin",
    "/public/..%5cadmin",
    "/public/%2e%2e%5Cadmin",
    "/public/..\\admin",
    "/public\\..\\admin",
    "/public/..;/admin",
    "/public/..;x=y/admin",
    "/public/..%3b/admin",
    "/public/%252e%252e%252fadmin",
    "/public/..%252fadmin",
    "/public/..%255cadmin",
    "/public/%252e%252e/admin",
    "/public/%2e%252e/admin",
    "/public/.;%2e/.%2e;/%2e./admin",
    "/public/x/..%2f..%2fadmin",
    "/public/x%2f..%2f..%2fadmin",
    "/public/%%32%65%%32%65/admin",
    "/public/a%2f../..;/admin",
];

/// Paths with escapes that stay in `/public` however they are read.
const CONTAINED: [&str; 16] = [
    "/public/a%2fb",
    "/public/a%2F",
    "/public/a%5cb",
    "/public/a\\b",
    "/public/a;v=1",
    "/public/a;v=1/b",
    "/public/;v=1",
    "/public/100%25",
    "/public/a%252fb",
    "/public/a%2f..%2fb",
    "/public/a%20b/%c3%a4",
    "/public/a/../b;c",
    "/public/...%2f",
    "/public/..a%2fb",
    "/public/%00",
    "/public/x%2f..",
];

#[test]
fn a_path_that_leaves_its_prefix_when_decoded_is_refused_and_others_are_kept() {
    let routes = [prefix("/public"), PathMatch::Exact("/a%2Fb".into())];
    let router = router(EscapedSlashes::Auto, &routes);
    for path in ESCAPES {
        if judged(&router, path) == Ok(None) {
            assert!(path.starts_with("/public\\"), "{path}: no route takes it");
            continue;
        }
        assert_eq!(judged(&router, path), REFUSED, "{path}");
    }
    for path in CONTAINED {
        assert_eq!(judged(&router, path), Ok(Some(0)), "{path}");
    }
    // What the route itself says is what its author wants.
    assert_eq!(judged(&router, "/a%2Fb"), Ok(Some(1)));
    assert_eq!(judged(&router, "/a%2fb"), REFUSED);
}

#[test]
fn a_path_that_is_a_more_specific_routes_when_decoded_is_refused() {
    let router = router(
        EscapedSlashes::Auto,
        &[
            prefix("/"),
            prefix("/admin"),
            PathMatch::Exact("/login".into()),
            PathMatch::Template(vec![Some("users".into()), None]),
            PathMatch::Regex("/img/[0-9;]{3}".into()),
        ],
    );
    for path in ESCAPES.into_iter().chain([
        "/admin;x",
        "/admin%2fx",
        "/%5cadmin",
        "/\\admin",
        "/x\\..\\admin",
        "//x%2f../..%2fadmin",
        "/%2561dmin",
        "/admin//../x",
        "/users/7/..;/..;/admin",
        "/users/..%2fadmin",
        "/login;jsession=1",
        "/img/1;2",
        "/x/.;/../admin%2f",
    ]) {
        assert_eq!(judged(&router, path), REFUSED, "{path}");
    }
    for path in [
        "/a%2Fb",
        "/a;v=1",
        "/a\\b",
        "/administrator;x",
        "/x%2fadmin",
    ] {
        assert_eq!(judged(&router, path), Ok(Some(0)), "{path}");
    }
    // A parameter may have a slash in it: the wider route is no way around this one.
    assert_eq!(judged(&router, "/users/a%2fb"), Ok(Some(3)));
    assert_eq!(judged(&router, "/admin/a%2fb"), Ok(Some(1)));
    assert_eq!(judged(&router, "/img/123"), Ok(Some(4)));
}

#[test]
fn empty_segments_and_dots_lead_nowhere_else() {
    let router = router(EscapedSlashes::Auto, &[prefix("/public"), prefix("/x")]);
    // A server that counts empty segments takes these for /admin/public/y and /public/x.
    for path in [
        "/admin//../public/y",
        "/public//../x",
        "/admin/%2e%2e/../public/y",
    ] {
        assert_eq!(judged(&router, path), REFUSED, "{path}");
    }
    for path in ["/x/../public/y", "/x//y", "/public/./y", "/public/%2e/y"] {
        assert!(judged(&router, path).is_ok(), "{path}");
    }
}

#[test]
fn a_path_with_more_readings_than_can_be_looked_at_is_refused() {
    let router = router(EscapedSlashes::Auto, &[prefix("/public")]);
    let long = format!("/public/{}", "%255c;x//".repeat(2000));
    assert_eq!(judged(&router, &long), REFUSED);
    let plain = format!("/public/{}", "a%20b/".repeat(1300));
    assert_eq!(judged(&router, &plain), Ok(Some(0)));
    let one = format!("/public/a%2fb{}", "a%20b/".repeat(1300));
    assert_eq!(judged(&router, &one), Ok(Some(0)));
}

#[test]
fn the_policy_decides() {
    let strict = router(EscapedSlashes::Reject, &[prefix("/public")]);
    for path in [
        "/public/a%2fb",
        "/public/a%5Cb",
        "/public/a\\b",
        "/public/a%252fb",
        "/public/..;/x",
    ] {
        assert_eq!(judged(&strict, path), REFUSED, "{path}");
    }
    for path in ["/public/a%20b", "/public/a;v=1", "/public/100%25"] {
        assert_eq!(judged(&strict, path), Ok(Some(0)), "{path}");
    }
    let open = router(EscapedSlashes::Keep, &[prefix("/public")]);
    for path in ESCAPES.iter().filter(|path| path.starts_with("/public/")) {
        assert_eq!(judged(&open, path), Ok(Some(0)), "{path}");
    }
    for (path, decoded) in [
        ("/public/..%2fadmin", "/admin"),
        ("/public\\a%5cb", "/public/a/b"),
        ("/a%2F..", "/"),
        ("/..%2f..\\x", "/x"),
        ("/..%2f...", "/..."),
        ("/a//b%2f%2e%2e", "/a//b/%2e%2e"),
        ("/a/../b", "/a/../b"),
        ("/a%252fb%20c", "/a%252fb%20c"),
        ("*", "*"),
    ] {
        let mut text = path.as_bytes().to_vec();
        let len = decode_in_place(&mut text);
        assert_eq!(std::str::from_utf8(&text[..len]), Ok(decoded), "{path}");
    }
}

/// A pool of its own for `/public` and one for `/admin`, with this policy.
fn two_routes(origin: &Origin, policy: &str) -> Value {
    let address = origin.address.to_string();
    let mut plan = plan(&[pool("p", &[endpoint("e0", &address)])]);
    plan["listeners"][0]["escaped_slashes"] = json!(policy);
    plan["routes"] = ["public", "admin"]
        .map(|name| {
            let mut route = route(name, "p");
            route["match"]["path"] = json!({"prefix": format!("/{name}")});
            route
        })
        .into();
    plan
}

#[test]
fn a_client_gets_400_and_the_backend_nothing() {
    let origin = Origin::saying("secret");
    let balancer = Balancer::start(1, &two_routes(&origin, "auto"));
    let mut client = balancer.client();
    for path in ESCAPES {
        let answer = client
            .send(format!("GET {path}?q=%2f HTTP/1.1\r\nHost: a\r\n\r\n"))
            .answer();
        let expected = if path.starts_with("/public\\") {
            404
        } else {
            400
        };
        assert_eq!(answer.status(), expected, "{path}: {}", answer.text());
    }
    assert_eq!(origin.requests().len(), 0);
    client.send("GET /public/a%2fb?c=..%2fd HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().text(), "secret");
    let [request] = &origin.requests()[..] else {
        panic!("{:?}", origin.requests());
    };
    assert!(
        request
            .head
            .starts_with("GET /public/a%2fb?c=..%2fd HTTP/1.1")
    );
    let snapshot = balancer.snapshot();
    let counted = json!({"reason": "escaped_path", "count": ESCAPES.len() - 1});
    assert!(snapshot["errors"].as_array().unwrap().contains(&counted));
}

#[test]
fn the_policy_decode_forwards_what_it_has_routed() {
    let origin = Origin::saying("ok");
    let balancer = Balancer::start(1, &two_routes(&origin, "decode"));
    let mut client = balancer.client();
    for (path, forwarded) in [
        ("/public/a%2fb%5c%20c?x=%2f", "/public/a/b/%20c?x=%2f"),
        ("/public/..%2fadmin?", "/admin?"),
        ("http://a/public\\d", "/public/d"),
    ] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.answer().status(), 200, "{path}");
        let head = origin.requests().pop().unwrap().head;
        let expected = format!("GET {forwarded} HTTP/1.1\n");
        assert!(head.starts_with(&expected), "{path}: {head}");
    }
    client.send("GET /public/..;/admin HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().status(), 400);
}

#[test]
fn explain_says_that_a_path_is_refused() {
    let origin = Origin::saying("ok");
    let plan = serde_json::from_value(two_routes(&origin, "auto")).unwrap();
    let table = compile(&plan, &mut Registry::default(), None)
        .unwrap()
        .table;
    for path in ESCAPES.iter().filter(|path| path.starts_with("/public/")) {
        let request: ExplainRequest = serde_json::from_value(json!({
            "listener": null, "method": "GET", "target": path, "headers": [], "client": null,
        }))
        .unwrap();
        let told = serde_json::to_value(explain(&table, &request, 0).unwrap()).unwrap();
        assert_eq!(told["route"], "public", "{path}");
        assert_eq!(told["backend"], Value::Null, "{path}");
        let reason = told["reason"].as_str().unwrap();
        assert!(reason.contains("400 (escaped_path)"), "{path}: {reason}");
    }
}

/// What a backend may do to a path before it looks a file or handler up.
fn read(path: &str, step: u8) -> String {
    match step {
        0 => percent_decoded(path),
        1 => path.replace('\\', "/"),
        2 => path
            .split('/')
            .map(|segment| segment.split(';').next().unwrap())
            .collect::<Vec<_>>()
            .join("/"),
        _ => dots_removed(path),
    }
}

fn percent_decoded(path: &str) -> String {
    let mut out = String::new();
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        let code = rest.get(1..3).filter(|_| first == '%');
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) if byte < 128 => {
                out.push(byte as char);
                rest = &rest[3..];
            }
            _ => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    out
}

/// RFC 3986 §5.2.4, on segments.
fn dots_removed(path: &str) -> String {
    let mut stack = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    for (at, segment) in segments.iter().enumerate() {
        let last = at + 1 == segments.len();
        match *segment {
            "." => {}
            ".." => {
                stack.pop();
            }
            other => {
                stack.push(other);
                continue;
            }
        }
        if last {
            stack.push("");
        }
    }
    format!("/{}", stack.join("/"))
}

fn hostile_paths() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "/", "/", "..", "..", ".", "%2e", "%2E", "%252e", "%2f", "%2F", "%252f", "\\", "%5c",
        "%255C", ";", ";x", "%3b", "%253B", "a", "public", "admin", "%25", "%", "%32", "%66", "//",
    ]);
    prop::collection::vec(piece, 0..9).prop_map(|pieces| format!("/public/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6000))]

    #[test]
    fn no_accepted_path_leaves_the_prefix_of_its_route(
        path in hostile_paths(),
        steps in prop::collection::vec(0..4_u8, 0..7),
    ) {
        let router = router(EscapedSlashes::Auto, &[prefix("/public"), prefix("/")]);
        let taken = judged(&router, &path);
        prop_assume!(taken == Ok(Some(0)));
        let mut decodings = 0;
        let mut reading = path.clone();
        for step in steps {
            decodings += u8::from(step == 0);
            if step != 0 || decodings <= 2 {
                reading = read(&reading, step);
            }
        }
        // Routes fold empty segments, and a path with nothing else about it may have them.
        let mut end = dots_removed(&reading);
        while end.contains("//") {
            end = end.replace("//", "/");
        }
        prop_assert!(
            end == "/public" || end.starts_with("/public/"),
            "{path} was accepted and is read as {reading}, which is {end}"
        );
    }

    #[test]
    fn what_is_decoded_in_place_has_no_escaped_slash_left(path in hostile_paths()) {
        let mut text = path.clone().into_bytes();
        let len = decode_in_place(&mut text);
        let decoded = String::from_utf8(text[..len].to_vec()).unwrap();
        prop_assert!(decoded.starts_with('/'), "{path} became {decoded}");
        let lower = decoded.to_ascii_lowercase();
        let hidden = ["\\", "%2f", "%5c"].iter().any(|hidden| lower.contains(hidden));
        // What was no escape may become one; it is checked like any other.
        prop_assert!(!hidden || path.contains("%%") || path.contains("%2") , "{path} became {decoded}");
        prop_assert!(!normal_path(decoded.as_bytes()).is_empty());
    }
}
