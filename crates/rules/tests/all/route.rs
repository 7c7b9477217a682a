//! The most specific route takes a request, however the request spells its path.

use std::borrow::Cow;

use evenflow_rules::plan::{Match, PathMatch};
use evenflow_rules::route::{RouteError, RouteQuery, Router, normal_path};
use evenflow_wire::http1::head::RequestHead;
use proptest::prelude::*;

fn exact(path: &str) -> Match {
    Match {
        path: Some(PathMatch::Exact(path.into())),
        ..Match::default()
    }
}

fn prefix(path: &str) -> Match {
    Match {
        path: Some(PathMatch::Prefix(path.into())),
        ..Match::default()
    }
}

fn everything() -> Match {
    Match::default()
}

fn on(host: &str, matcher: Match) -> Match {
    Match {
        host: Some(host.into()),
        ..matcher
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

fn found(router: &Router, host: &str, path: &str) -> Option<usize> {
    router.find(&asked(host, path, &RequestHead::default(), b""))
}

fn asked<'a>(
    host: &'a str,
    path: &'a str,
    head: &'a RequestHead,
    base: &'a [u8],
) -> RouteQuery<'a> {
    RouteQuery {
        host: host.as_bytes(),
        path: path.as_bytes(),
        head,
        base,
        client: None,
    }
}

#[test]
fn the_most_specific_path_wins() {
    let router = router(&[
        prefix("/"),
        prefix("/users"),
        prefix("/users/admin/"),
        exact("/users/7"),
    ]);
    let cases = [
        ("/", 0),
        ("/usersx", 0),
        ("/user", 0),
        ("/users", 1),
        ("/users/", 1),
        ("/users/8", 1),
        ("/users/7", 3),
        ("/users/7/", 1),
        ("/users/7/x", 1),
        ("/users/admin", 2),
        ("/users/admin/", 2),
        ("/users/admin/x/y", 2),
        ("/users/administrator", 1),
        ("*", 0),
    ];
    for (path, route) in cases {
        assert_eq!(found(&router, "a", path), Some(route), "{path}");
    }
}

#[test]
fn without_a_route_for_all_some_requests_have_none() {
    let router = router(&[prefix("/a"), exact("/b"), on("h", everything())]);
    assert_eq!(found(&router, "x", "/c"), None);
    assert_eq!(found(&router, "x", "/b/"), None);
    assert_eq!(found(&router, "x", "*"), None);
    assert_eq!(found(&router, "h", "*"), Some(2));
    assert_eq!(found(&Router::default(), "h", "/"), None);
}

#[test]
fn a_host_is_compared_without_case_port_and_final_dot() {
    let router = router(&[
        everything(),
        on("Example.COM", everything()),
        on("[::1]", everything()),
        on("dot.", everything()),
    ]);
    for host in [
        "example.com",
        "EXAMPLE.com:80",
        "example.com.",
        "example.com.:8080",
        "example.com:",
    ] {
        assert_eq!(found(&router, host, "/"), Some(1), "{host}");
    }
    for host in ["[::1]", "[::1]:80"] {
        assert_eq!(found(&router, host, "/"), Some(2), "{host}");
    }
    assert_eq!(found(&router, "dot:1", "/"), Some(3));
    for host in ["www.example.com", "example.org", "", "::1", "[::2]"] {
        assert_eq!(found(&router, host, "/"), Some(0), "{host}");
    }
}

#[test]
fn a_host_comes_before_a_path_but_does_not_hide_routes_of_any_host() {
    let router = router(&[
        exact("/a"),
        on("h", prefix("/")),
        exact("/b"),
        on("i", exact("/a")),
    ]);
    assert_eq!(found(&router, "h", "/a"), Some(1));
    assert_eq!(found(&router, "i", "/a"), Some(3));
    assert_eq!(found(&router, "i", "/b"), Some(2));
    assert_eq!(found(&router, "i", "/c"), None);
}

#[test]
fn routes_that_take_the_same_requests_are_refused() {
    let same = [
        (prefix("/a"), prefix("/a/")),
        (prefix("/"), everything()),
        (exact("/a%41"), exact("/aA")),
        (prefix("/x/../b"), prefix("/b")),
        (on("H", exact("/")), on("h", exact("/"))),
    ];
    for (first, second) in same {
        let mut router = Router::default();
        router.add(&first, 7, false).unwrap();
        let again = router.add(&second, 8, false);
        assert_eq!(again, Err(RouteError::Taken(7)), "{first:?} {second:?}");
    }
    router(&[
        exact("/a"),
        prefix("/a"),
        exact("/a/"),
        on("h", exact("/a")),
    ]);
}

#[test]
fn no_other_spelling_leads_around_a_route() {
    let router = router(&[
        prefix("/"),
        prefix("/admin"),
        exact("/caf%C3%A9"),
        exact("/a%2Fb"),
    ]);
    let spellings = [
        "/admin",
        "/admin/x",
        "//admin",
        "/./admin",
        "/x/../admin",
        "/x/%2e%2E/admin",
        "/%61dmin",
        "/%61%64%6D%69%6e/x",
        "/../../admin",
        "/admin/.",
        "/admin/x/..",
        "/x/.//../admin",
        "///x///..///admin",
    ];
    for path in spellings {
        assert_eq!(found(&router, "a", path), Some(1), "{path}");
    }
    for path in [
        "/admin/..",
        "/admin/../x",
        "/admin%2Fx",
        "/%2561dmin",
        "/ADMIN",
        "/admin.",
    ] {
        assert_eq!(found(&router, "a", path), Some(0), "{path}");
    }
    assert_eq!(found(&router, "a", "/caf%c3%a9"), Some(2));
    assert_eq!(found(&router, "a", "/a%2fb"), Some(3));
    assert_eq!(found(&router, "a", "/a/b"), Some(0));
}

#[test]
fn a_route_is_found_however_its_own_path_is_spelt() {
    let router = router(&[
        prefix("/x/../%61pi//v1/"),
        exact("/%7Euser/."),
        exact("/%c3%a9"),
    ]);
    assert_eq!(found(&router, "a", "/api/v1/x"), Some(0));
    assert_eq!(found(&router, "a", "/~user/"), Some(1));
    assert_eq!(found(&router, "a", "/%C3%A9"), Some(2));
}

#[test]
fn an_ordinary_path_is_not_copied() {
    for path in ["/", "/a/b.c/d~e", "/a/", "*"] {
        assert!(
            matches!(normal_path(path.as_bytes()), Cow::Borrowed(_)),
            "{path}"
        );
    }
}

#[test]
fn deep_paths_find_the_deepest_prefix() {
    let deep = |count: usize| "/a".repeat(count);
    let router = router(&[prefix(&deep(32)), prefix(&deep(31)), prefix(&deep(1))]);
    for (segments, route) in [(1, 2), (30, 2), (31, 1), (32, 0), (33, 0), (3000, 0)] {
        assert_eq!(
            found(&router, "h", &deep(segments)),
            Some(route),
            "{segments}"
        );
    }
}

/// The path as RFC 3986 §6.2.2 normalises it, `//` folded too, written for clarity only.
fn reference_path(path: &str) -> String {
    let mut decoded = String::new();
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        let code = rest.get(1..3).filter(|_| first == '%');
        let byte = code
            .filter(|code| code.chars().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|code| u8::from_str_radix(code, 16).ok());
        match byte {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                decoded.push(byte as char);
                rest = &rest[3..];
            }
            Some(_) => {
                decoded.push_str(&rest[..3].to_uppercase());
                rest = &rest[3..];
            }
            None if first == '%' => {
                decoded.push_str("%25");
                rest = &rest[1..];
            }
            None => {
                decoded.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    let mut stack: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                stack.pop();
            }
            segment => stack.push(segment),
        }
    }
    let last = decoded.rsplit('/').next().unwrap();
    let open = matches!(last, "" | "." | "..") && !stack.is_empty();
    format!("/{}{}", stack.join("/"), if open { "/" } else { "" })
}

fn paths() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec![
        "a", "a", "b", "b", "ab", "%61", "%2e", ".", "..", "%2E.", "", "%2f", "%2F", "%", "%4",
        "%%36%31", "%zz", "a%",
    ]);
    prop::collection::vec(segment, 1..5).prop_map(|segments| format!("/{}", segments.join("/")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn paths_are_normalised_as_by_the_book(path in paths()) {
        let normal = normal_path(path.as_bytes()).into_owned();
        prop_assert_eq!(normal_path(&normal), &normal[..], "it is final");
        prop_assert_eq!(String::from_utf8(normal).unwrap(), reference_path(&path));
    }

    #[test]
    fn any_bytes_have_a_normal_path(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let normal = normal_path(&bytes);
        prop_assert!(normal.len() <= 3 * bytes.len() + 1);
        if bytes.first() == Some(&b'/') {
            prop_assert_eq!(normal.first(), Some(&b'/'));
        }
    }
}
