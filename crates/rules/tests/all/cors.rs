//! Browsers are told exactly what the rules allow.

use evenflow_rules::filters::cors::Cors;
use evenflow_rules::plan;
use proptest::prelude::*;

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|item| (*item).into()).collect()
}

fn rules(origins: &[&str]) -> plan::CorsPlan {
    plan::CorsPlan {
        allow_origins: strings(origins),
        allow_methods: strings(&["GET", "PUT"]),
        allow_headers: strings(&["X-A", "Content-Type"]),
        expose_headers: strings(&["X-B"]),
        allow_credentials: false,
        max_age_s: 600,
    }
}

fn preflight(rules: &plan::CorsPlan, origin: &str, method: &str, headers: &str) -> Option<String> {
    Cors::compile(rules)
        .unwrap()
        .preflight(origin.as_bytes(), method.as_bytes(), headers.as_bytes())
        .map(|lines| String::from_utf8(lines).unwrap())
}

fn response(rules: &plan::CorsPlan, origin: &str) -> String {
    let mut out = Vec::new();
    Cors::compile(rules)
        .unwrap()
        .response_lines(origin.as_bytes(), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_preflight_of_an_allowed_origin_gets_the_whole_answer() {
    assert_eq!(
        preflight(
            &rules(&["https://a.example"]),
            "https://a.example",
            "PUT",
            "x-a"
        )
        .unwrap(),
        "Access-Control-Allow-Origin: https://a.example\r\n\
         Vary: Origin\r\n\
         Access-Control-Allow-Methods: GET, PUT\r\n\
         Access-Control-Allow-Headers: X-A, Content-Type\r\n\
         Access-Control-Max-Age: 600\r\n"
    );
}

#[test]
fn an_origin_that_is_not_allowed_gets_none() {
    let rules = rules(&["https://a.example"]);
    for origin in [
        "https://b.example",
        "http://a.example",
        "https://a.example:8443",
        "null",
        "",
        "https://a.example.evil",
        "https://a.exampl",
        "https://a.example\r\nX: y",
    ] {
        assert_eq!(preflight(&rules, origin, "PUT", ""), None, "{origin}");
        assert_eq!(response(&rules, origin), "Vary: Origin\r\n", "{origin}");
    }
}

#[test]
fn a_response_names_the_origin_and_says_that_it_varies() {
    assert_eq!(
        response(
            &rules(&["https://a.example", "https://b.example"]),
            "https://b.example"
        ),
        "Access-Control-Allow-Origin: https://b.example\r\n\
         Vary: Origin\r\n\
         Access-Control-Expose-Headers: X-B\r\n"
    );
}

#[test]
fn any_origin_is_answered_the_same_for_all() {
    let expected = "Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: X-B\r\n";
    assert_eq!(response(&rules(&["*"]), "https://a.example"), expected);
    assert_eq!(
        response(&rules(&["*"]), ""),
        expected,
        "a cache may serve it to others"
    );
    let answer = preflight(&rules(&["*"]), "https://a.example", "GET", "").unwrap();
    assert!(answer.starts_with("Access-Control-Allow-Origin: *\r\n"));
    assert!(!answer.contains("Vary: Origin"));
}

#[test]
fn credentials_are_allowed_to_named_origins_only() {
    let named = plan::CorsPlan {
        allow_credentials: true,
        ..rules(&["https://a.example"])
    };
    let line = "Access-Control-Allow-Credentials: true\r\n";
    assert!(response(&named, "https://a.example").contains(line));
    assert!(
        preflight(&named, "https://a.example", "GET", "")
            .unwrap()
            .contains(line)
    );
    assert!(!response(&named, "https://b.example").contains(line));
    let any = plan::CorsPlan {
        allow_credentials: true,
        ..rules(&["*"])
    };
    assert_eq!(Cors::compile(&any).unwrap_err().0, "allow_credentials");
}

#[test]
fn no_list_of_headers_reflects_what_is_asked_for() {
    let rules = plan::CorsPlan {
        allow_headers: Vec::new(),
        ..rules(&["*"])
    };
    let answer = preflight(&rules, "https://a.example", "GET", "x-one,x-two, x-three").unwrap();
    assert!(
        answer.contains("Access-Control-Allow-Headers: x-one,x-two, x-three\r\n"),
        "{answer}"
    );
    assert!(
        answer.contains("Vary: Access-Control-Request-Headers\r\n"),
        "{answer}"
    );
    for wrong in ["", "x\r\nSet-Cookie: a", "x-a;b", "\t"] {
        let answer = preflight(&rules, "https://a.example", "GET", wrong).unwrap();
        assert!(!answer.contains("Allow-Headers"), "{wrong:?}: {answer}");
    }
}

#[test]
fn wildcards_with_credentials_repeat_what_is_asked_for() {
    let rules = plan::CorsPlan {
        allow_credentials: true,
        allow_methods: strings(&["*"]),
        allow_headers: strings(&["*"]),
        ..rules(&["https://a.example"])
    };
    let answer = preflight(&rules, "https://a.example", "PATCH", "x-a").unwrap();
    assert!(
        answer.contains("Access-Control-Allow-Methods: PATCH\r\n"),
        "{answer}"
    );
    assert!(
        answer.contains("Access-Control-Allow-Headers: x-a\r\n"),
        "{answer}"
    );
    let answer = preflight(&rules, "https://a.example", "A B\r\n", "").unwrap();
    assert!(!answer.contains("Allow-Methods"), "{answer}");
}

#[test]
fn origins_are_compared_as_browsers_write_them() {
    let rules = rules(&[
        "HTTPS://A.example:443",
        "http://b.example:80",
        "http://[::1]:3000",
        "null",
    ]);
    for origin in [
        "https://a.example",
        "http://b.example",
        "http://[::1]:3000",
        "null",
    ] {
        assert!(response(&rules, origin).contains(origin), "{origin}");
    }
}

#[test]
fn what_no_browser_would_understand_is_refused() {
    for origin in [
        "a.example",
        "https://",
        "https://a.example/",
        "https://*.example",
        "https://a b",
        "https://a:99999",
        "https://a\r\n",
        "",
        "http://[::1",
        "://a",
    ] {
        let (path, message) = Cors::compile(&rules(&["https://ok", origin])).unwrap_err();
        assert_eq!(path, "allow_origins[1]", "{origin}: {message}");
    }
    let refused = |rules: plan::CorsPlan| Cors::compile(&rules).unwrap_err().0;
    assert_eq!(refused(rules(&["*", "https://a"])), "allow_origins");
    let wrong = strings(&["ok", "not ok"]);
    let base = rules(&["*"]);
    assert_eq!(
        refused(plan::CorsPlan {
            allow_methods: wrong.clone(),
            ..base.clone()
        }),
        "allow_methods[1]"
    );
    assert_eq!(
        refused(plan::CorsPlan {
            allow_headers: wrong.clone(),
            ..base.clone()
        }),
        "allow_headers[1]"
    );
    assert_eq!(
        refused(plan::CorsPlan {
            expose_headers: wrong,
            ..base
        }),
        "expose_headers[1]"
    );
}

proptest! {
    #[test]
    fn whatever_is_sent_every_answer_is_whole_lines(
        origin: Vec<u8>,
        method: Vec<u8>,
        headers: Vec<u8>,
        any_origin: bool,
    ) {
        let rules = plan::CorsPlan {
            allow_origins: strings(if any_origin { &["*"] } else { &["https://a.example"] }),
            allow_credentials: !any_origin,
            allow_methods: strings(&["*"]),
            allow_headers: Vec::new(),
            ..rules(&[])
        };
        let cors = Cors::compile(&rules).unwrap();
        let mut out = Vec::new();
        cors.response_lines(&origin, &mut out);
        out.extend(cors.preflight(&origin, &method, &headers).unwrap_or_default());
        let text = String::from_utf8(out).unwrap();
        for line in text.split_terminator("\r\n") {
            let known = line.starts_with("Access-Control-") || line.starts_with("Vary: ");
            prop_assert!(known && !line.contains(['\r', '\n']), "{}", line);
        }
    }
}
