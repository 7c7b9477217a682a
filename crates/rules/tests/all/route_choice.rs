//! Templates, wildcards, expressions and conditions; and the compiled router against one that looks
//! at every route.

use evenflow_rules::plan::{Match, PathMatch, ValueMatch};
use evenflow_rules::route::{RouteError, RouteQuery, Router};
use evenflow_wire::http1::head::RequestHead;
use proptest::prelude::*;

/// `/a/{x}/b`, `/a/{x}/*`, `/a/*`, `~regex`, `/a`; empty is any.
fn path(text: &str) -> Option<PathMatch> {
    if text.is_empty() {
        return None;
    }
    if let Some(pattern) = text.strip_prefix('~') {
        return Some(PathMatch::Regex(pattern.into()));
    }
    let (bare, open) = match text.strip_suffix("/*") {
        Some(bare) => (bare, true),
        None => (text, false),
    };
    if !text.contains('{') {
        return Some(if open {
            PathMatch::Prefix(bare.into())
        } else {
            PathMatch::Exact(text.into())
        });
    }
    let segments = bare[1..]
        .split('/')
        .map(|segment| (!segment.starts_with('{')).then(|| segment.to_owned()))
        .collect();
    Some(if open {
        PathMatch::TemplatePrefix(segments)
    } else {
        PathMatch::Template(segments)
    })
}

fn on(host: &str, text: &str) -> Match {
    Match {
        host: (!host.is_empty()).then(|| host.into()),
        path: path(text),
        ..Match::default()
    }
}

fn router(routes: &[Match]) -> Router {
    let mut router = Router::default();
    for (index, matcher) in routes.iter().enumerate() {
        router.add(matcher, index, false).unwrap();
    }
    router.finish().unwrap();
    router
}

/// What takes a request of this method, host, target and header fields.
fn taken(router: &Router, line: &str, fields: &str, client: &str) -> Option<usize> {
    let mut words = line.split(' ');
    let (method, host, target) = (
        words.next().unwrap(),
        words.next().unwrap(),
        words.next().unwrap(),
    );
    let text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
    let mut head = RequestHead::default();
    head.parse(text.as_bytes(), 100, 8192).unwrap();
    router.find(&RouteQuery {
        host: head.host.get(text.as_bytes()),
        path: head.path(text.as_bytes()),
        head: &head,
        base: text.as_bytes(),
        client: client.parse().ok(),
    })
}

#[track_caller]
fn check(routes: &[Match], cases: &[(&str, &str, Option<usize>)]) {
    let router = router(routes);
    for (host, target, expected) in cases {
        let line = format!("GET {host} {target}");
        assert_eq!(taken(&router, &line, "", ""), *expected, "{line}");
    }
}

#[test]
fn a_wildcard_takes_all_hosts_below_and_the_longest_wins() {
    check(
        &[
            on("*.example.org", ""),
            on("*.api.example.org", ""),
            on("v1.api.example.org", ""),
            on("*.org", "/only/this"),
        ],
        &[
            ("a.example.org", "/", Some(0)),
            ("A.B.Example.ORG.:80", "/", Some(0)),
            ("example.org", "/", None),
            ("api.example.org", "/", Some(0)),
            ("v2.api.example.org", "/", Some(1)),
            ("v1.api.example.org", "/", Some(2)),
            ("anexample.org", "/", None),
            ("anexample.org", "/only/this", Some(3)),
            // A host does not hide the routes of a wider one.
            ("example.org", "/only/this", Some(3)),
        ],
    );
}

#[test]
fn a_template_stands_between_an_exact_path_and_a_prefix() {
    check(
        &[
            on("", "/users/{id}/orders"),
            on("", "/users/7/orders"),
            on("", "/users/*"),
            on("", "/{kind}/7/orders"),
            on("", "/{a}/{b}/{c}"),
        ],
        &[
            ("h", "/users/8/orders", Some(0)),
            ("h", "/users/7/orders", Some(1)),
            ("h", "/users/8/orders/", Some(2)),
            ("h", "/users//orders", Some(2)),
            ("h", "/shops/7/orders", Some(3)),
            ("h", "/shops/8/orders", Some(4)),
            ("h", "/users/8/items", Some(4)),
            ("h", "/shops/8/", None),
            ("h", "/us%65rs/x/../8/orders", Some(0)),
        ],
    );
}

#[test]
fn the_longest_prefix_wins_also_among_those_with_parameters() {
    check(
        &[
            on("", "/users/*"),
            on("", "/users/{id}/*"),
            on("", "/users/me/*"),
            on("", "/{any}/me/x/*"),
        ],
        &[
            ("h", "/users", Some(0)),
            ("h", "/users/", Some(0)),
            ("h", "/users/8", Some(1)),
            ("h", "/users/8/a/b", Some(1)),
            ("h", "/users/me", Some(2)),
            ("h", "/users/me/x/y", Some(3)),
            ("h", "/others/me/x", Some(3)),
        ],
    );
}

#[test]
fn an_expression_takes_the_whole_path_and_the_longer_one_wins() {
    check(
        &[
            on("", "~/files/[0-9]+"),
            on("", "~/files/[0-9]+|/x"),
            on("", ""),
            on("", "/files/7/*"),
            on("", "~/(?i)IMG/.*[.](png|jpg)"),
        ],
        &[
            ("h", "/files/12", Some(1)),
            ("h", "/files/12/", Some(2)),
            ("h", "/a/files/12", Some(2)),
            ("h", "/xy", Some(2)),
            ("h", "/files/7", Some(3)),
            ("h", "/img/a/B.PNG", Some(4)),
        ],
    );
}

#[test]
fn more_conditions_go_first_and_what_they_refuse_goes_on() {
    let header = |name: &str, value: ValueMatch| Match {
        headers: vec![(name.into(), value)],
        ..on("", "/a/*")
    };
    let routes = [
        on("", "/a/*"),
        header("x-beta", ValueMatch::Exact("1".into())),
        Match {
            methods: vec!["POST".into(), "PUT".into()],
            ..header("X-Beta", ValueMatch::Present(true))
        },
        Match {
            query: vec![("q r".into(), ValueMatch::Exact("a b".into()))],
            cookies: vec![("who".into(), ValueMatch::Regex("[a-z]+".into()))],
            client: vec!["192.0.2.0/24".parse().unwrap()],
            ..on("", "/a/*")
        },
        Match {
            priority: 1,
            ..header("x-first", ValueMatch::Present(true))
        },
        header("x-first", ValueMatch::Present(false)),
    ];
    let router = router(&[&routes[..5], &[]].concat());
    let cases = [
        ("GET h /a", "", "", Some(0)),
        ("GET h /a", "X-BETA: 1\r\n", "", Some(1)),
        ("GET h /a", "X-Beta: 2\r\nX-Beta: 1\r\n", "", Some(0)),
        ("PUT h /a", "X-Beta: 2\r\n", "", Some(2)),
        ("PUT h /a", "X-Beta: 1\r\n", "", Some(2)),
        (
            "GET h /a?q+r=a%20b",
            "Cookie: x=1; who=me\r\n",
            "192.0.2.9",
            Some(3),
        ),
        (
            "GET h /a?q+r=a%20b",
            "Cookie: x=1; who=ME\r\n",
            "192.0.2.9",
            Some(0),
        ),
        (
            "GET h /a?q+r=a%20b",
            "Cookie: who=me\r\n",
            "192.0.3.9",
            Some(0),
        ),
        ("GET h /a?q+r=a%20b", "Cookie: who=me\r\n", "", Some(0)),
        (
            "GET h /a?qr=a%20b",
            "Cookie: who=me\r\n",
            "192.0.2.9",
            Some(0),
        ),
        ("PUT h /a", "X-Beta: 1\r\nX-First:\r\n", "", Some(4)),
        ("PUT h /b", "X-Beta: 1\r\nX-First:\r\n", "", None),
    ];
    for (line, fields, client, expected) in cases {
        assert_eq!(
            taken(&router, line, fields, client),
            expected,
            "{line} {fields}"
        );
    }
    let absent = self::router(&routes[5..]);
    assert_eq!(taken(&absent, "GET h /a", "", ""), Some(0));
    assert_eq!(taken(&absent, "GET h /a", "X-First: 1\r\n", ""), None);
}

#[test]
fn what_is_claimed_goes_before_any_host() {
    let mut router = Router::default();
    router.add(&on("h", ""), 0, false).unwrap();
    router.add(&on("", "/health"), 1, true).unwrap();
    router.add(&on("h", "/health"), 2, false).unwrap();
    router.finish().unwrap();
    assert_eq!(taken(&router, "GET h /health", "", ""), Some(1));
    assert_eq!(taken(&router, "GET h /x", "", ""), Some(0));
}

#[test]
fn wrong_and_doubled_routes_are_refused() {
    let mut router = Router::default();
    let many = |priority| Match {
        priority,
        ..on("", "/many")
    };
    for priority in 0..128 {
        router
            .add(&many(priority), priority as usize, false)
            .unwrap();
    }
    for (matcher, word) in [
        (many(128), "more than 128"),
        (on("", "~("), "not a regular expression"),
        (on("", "~a)(b"), "not a regular expression"),
        (on("", "~(a{1000}){1000}"), "too large"),
        (
            Match {
                path: Some(PathMatch::Template(vec![Some("a".into())])),
                ..Match::default()
            },
            "a parameter",
        ),
    ] {
        match router.add(&matcher, 1000, false) {
            Err(RouteError::Wrong(_, text)) => assert!(text.contains(word), "{text}"),
            other => panic!("{matcher:?}: {other:?}"),
        }
    }
    let both = |names: [&str; 2]| Match {
        methods: vec!["GET".into()],
        headers: names
            .map(|name| (name.into(), ValueMatch::Present(true)))
            .into(),
        ..on("*.h", "/{a}")
    };
    router.add(&both(["x", "y"]), 7, false).unwrap();
    assert_eq!(
        router.add(&both(["y", "x"]), 8, false),
        Err(RouteError::Taken(7))
    );
}

/// How well a route fits, better fits being greater; `None` where it does not.
type Fit = (
    usize,
    u8,
    usize,
    Vec<bool>,
    i32,
    usize,
    std::cmp::Reverse<String>,
    i32,
    usize,
);

fn reference_fit(matcher: &Match, host: &str, path: &str, method: &str, beta: bool) -> Option<Fit> {
    let host_rank = match matcher.host.as_deref() {
        None => 0,
        Some(wanted) => match wanted.strip_prefix("*.") {
            Some(domain) => host
                .strip_suffix(domain)
                .filter(|rest| rest.len() > 1 && rest.ends_with('.'))
                .map(|_| domain.len())?,
            None => (wanted == host).then_some(1000)?,
        },
    };
    let segments: Vec<&str> = path[1..].split('/').collect();
    let fits = |pattern: &[Option<String>]| {
        pattern.len() <= segments.len()
            && pattern
                .iter()
                .zip(&segments)
                .all(|(wanted, got)| match wanted {
                    None => !got.is_empty(),
                    Some(text) => text == got,
                })
    };
    let literals = |pattern: &[Option<String>]| pattern.iter().map(Option::is_some).collect();
    let pieces = |text: &String| -> Vec<Option<String>> {
        text[1..]
            .split('/')
            .map(|part| Some(part.to_owned()))
            .collect()
    };
    let none = Vec::<bool>::new();
    let text = |text: &str| std::cmp::Reverse(text.to_owned());
    let (kind, depth, flags, first, length, pattern) = match &matcher.path {
        None => (0, 0, none, 0, 0, text("")),
        Some(PathMatch::Regex(pattern)) => {
            let regex = regex::Regex::new(&format!("^(?:{pattern})$")).unwrap();
            regex.is_match(path).then_some(())?;
            (1, 0, none, matcher.priority, pattern.len(), text(pattern))
        }
        Some(PathMatch::Prefix(prefix)) => {
            let pattern = pieces(prefix);
            fits(&pattern).then_some(())?;
            (2, pattern.len(), literals(&pattern), 0, 0, text(""))
        }
        Some(PathMatch::TemplatePrefix(pattern)) => {
            fits(pattern).then_some(())?;
            (2, pattern.len(), literals(pattern), 0, 0, text(""))
        }
        Some(PathMatch::Template(pattern)) => {
            (fits(pattern) && pattern.len() == segments.len()).then_some(())?;
            (3, 0, literals(pattern), 0, 0, text(""))
        }
        Some(PathMatch::Exact(wanted)) => {
            (wanted == path).then_some(())?;
            (4, 0, none, 0, 0, text(""))
        }
    };
    let mut conditions = 0;
    if !matcher.methods.is_empty() {
        matcher
            .methods
            .iter()
            .any(|one| one == method)
            .then_some(())?;
        conditions += 1;
    }
    for (_, value) in &matcher.headers {
        conditions += 1;
        (*value == ValueMatch::Present(beta)).then_some(())?;
    }
    Some((
        host_rank,
        kind,
        depth,
        flags,
        first,
        length,
        pattern,
        matcher.priority,
        conditions,
    ))
}

fn segment() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "ab", "{x}"])
}

fn any_matcher() -> impl Strategy<Value = Match> {
    let hosts = vec!["", "", "h.t", "*.t", "*.h.t", "x.h.t"];
    let parts = || prop::collection::vec(segment(), 1..4);
    let text = prop_oneof![
        1 => Just(String::new()),
        4 => parts().prop_map(|parts| format!("/{}/*", parts.join("/"))),
        4 => parts().prop_map(|parts| format!("/{}", parts.join("/"))),
        2 => prop::sample::select(vec!["~/a.*", "~/[ab]+", "~.*b", "~/a/.*|/b"])
            .prop_map(str::to_owned),
    ];
    let methods = prop::sample::select(vec![
        vec![],
        Vec::<&str>::new(),
        vec!["GET"],
        vec!["PUT", "GET"],
    ]);
    let beta = prop::sample::select(vec![None, None, Some(true), Some(false)]);
    (prop::sample::select(hosts), text, methods, beta, 0..2).prop_map(
        |(host, text, methods, beta, priority)| Match {
            priority,
            methods: methods.into_iter().map(str::to_owned).collect(),
            headers: beta
                .map(|beta| ("x-beta".to_owned(), ValueMatch::Present(beta)))
                .into_iter()
                .collect(),
            ..on(host, &text)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn routes_are_found_as_by_looking_at_each(
        matchers in prop::collection::vec(any_matcher(), 0..14),
        requests in prop::collection::vec(
            (
                prop::sample::select(vec!["h.t", "i.t", "x.h.t", "y.x.h.t", "z"]),
                prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", "c"]), 1..5),
                any::<bool>(),
                any::<bool>(),
                any::<bool>(),
            ),
            1..12,
        ),
    ) {
        let mut router = Router::default();
        let mut kept = Vec::new();
        for (index, matcher) in matchers.iter().enumerate() {
            if router.add(matcher, index, false).is_ok() {
                kept.push((index, matcher));
            }
        }
        router.finish().unwrap();
        for (host, segments, slash, put, beta) in &requests {
            let path = format!("/{}{}", segments.join("/"), if *slash { "/" } else { "" });
            let method = if *put { "PUT" } else { "GET" };
            let fields = if *beta { "x-beta: 1\r\n" } else { "" };
            let fits: Vec<_> = kept
                .iter()
                .filter_map(|(index, matcher)| {
                    Some((reference_fit(matcher, host, &path, method, *beta)?, *index))
                })
                .collect();
            let best = fits.iter().map(|(fit, _)| fit).max();
            let found = taken(&router, &format!("{method} {host} {path}"), fields, "");
            // Two that fit equally well are refused by the check of configurations.
            let equal: Vec<_> = fits.iter().filter(|(fit, _)| Some(fit) == best).collect();
            match found {
                None => prop_assert!(best.is_none(), "{} {} {:?}", host, path, kept),
                Some(found) => prop_assert!(
                    equal.iter().any(|(_, index)| *index == found),
                    "{} {} {}: {} and not {:?} among {:?}", method, host, path, found, equal, kept
                ),
            }
        }
    }
}
