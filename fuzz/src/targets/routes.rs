//! Paths and routes: no spelling of a path leads around the route that its plain spelling takes.

use std::sync::LazyLock;

use evenflow_rules::plan::{Match, PathMatch, ValueMatch};
use evenflow_rules::route::{RouteQuery, Router, normal_path};
use evenflow_wire::http1::head::RequestHead;

use super::heads::whole;
use super::{Target, rule};

const WORDS: &[&[u8]] = &[
    b"/",
    b"//",
    b"/.",
    b"/..",
    b"/./",
    b"/../",
    b"%2e",
    b"%2E%2e",
    b"%2f",
    b"%61",
    b"%",
    b"%0",
    b"%zz",
    b"%00",
    b";",
    b"\\",
    b"/a/b",
    b"/A",
    b"/7/",
    b"H.Test.:80",
    b"x.y.h.test",
    b"X-Beta: 1\r\n",
];

/// The form of a path that routes see.
pub const PATH: Target = Target {
    name: "path",
    seeds: &[b"/", b"/a/b/c", b"/a/../b", b"/%61/%2e%2e/b", b"//a/./b/"],
    words: WORDS,
    check: check_path,
};

/// The router itself, asked by whole requests.
pub const ROUTE: Target = Target {
    name: "router",
    seeds: &[
        b"GET /a/b HTTP/1.1\r\nHost: h.test\r\n\r\n",
        b"PUT /a/7/b/c?x=1&y HTTP/1.1\r\nHost: x.h.test:80\r\nX-Beta: 1\r\n\r\n",
        b"GET /img/../%61/8/ HTTP/1.1\r\nHost: h.test.\r\nCookie: a=b; who=me\r\n\r\n",
    ],
    words: WORDS,
    check: check_router,
};

fn check_path(input: &[u8]) -> Result<(), String> {
    if input.first() != Some(&b'/') {
        return Ok(());
    }
    let once = normal_path(input);
    rule(once.first() == Some(&b'/'), "a path became relative")?;
    let mut segments = once.split(|&byte| byte == b'/');
    rule(
        !segments.any(|segment| segment == b".."),
        "a dot segment is left",
    )?;
    // Decoding may bring out a further escape, which stays: it is undone once, as servers do.
    if !once.contains(&b'%') {
        rule(
            *normal_path(&once) == *once,
            "the normal form has another normal form",
        )?;
    }
    Ok(())
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
    let asked = |path| RouteQuery {
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
