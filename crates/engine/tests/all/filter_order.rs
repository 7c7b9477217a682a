//! Filters run in the order in which they are written: those of the listener, then those of the
//! route.

use crate::support::net::{Balancer, Message, Origin};
use crate::support::{endpoint, plan, pool};
use evenflow_rules::password::hash_password;
use serde_json::{Value, json};

/// SHA-256 of `alice-token` and `bob-token`.
fn tokens() -> Value {
    let hashed = |token: &str| {
        let digest = evenflow_rules::password::sha256(&[token.as_bytes()]);
        let hex: Vec<String> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{}", hex.concat())
    };
    json!([
        ["alice", hashed("alice-token")],
        ["bob", hashed("bob-token")]
    ])
}

/// Bearer authentication that sets `X-User`.
fn auth() -> Value {
    json!({"bearer": {
        "realm": "r", "tokens": tokens(), "user_header": "X-User", "forward": true,
    }})
}

/// A rate limit of `burst` requests that practically never refills.
fn limit(name: &str, key: &Value, burst: u32) -> Value {
    json!({"limit": {
        "name": name, "key": key, "requests_per_second": 0.001, "burst": burst, "max_keys": 1000,
        "dry_run": false, "ipv6_prefix": 64, "headers": false, "fleet_seed": null,
    }})
}

fn edit(members: &Value) -> Value {
    let mut edit = json!({"remove": [], "set": [], "add": [], "default": []});
    for (name, list) in members.as_object().unwrap() {
        edit[name] = list.clone();
    }
    edit
}

fn request_headers(members: &Value) -> Value {
    json!({"request_headers": edit(members)})
}

fn response_headers(members: &Value) -> Value {
    json!({"response_headers": edit(members)})
}

fn cors(max_age_s: u32) -> Value {
    json!({"cors": {
        "allow_origins": ["https://a.example"], "allow_methods": ["PUT"], "allow_headers": [],
        "expose_headers": [], "allow_credentials": false, "max_age_s": max_age_s,
    }})
}

fn body_limit(bytes: u64) -> Value {
    json!({"body_limit": {"bytes": bytes}})
}

fn concurrency(max: u32) -> Value {
    json!({"concurrency": {
        "name": "c", "key": "all", "max": max, "ipv6_prefix": 64, "dry_run": false,
    }})
}

/// A balancer whose listener and route have these filters, each of one step.
fn balancer(origin: &Origin, listener: &[Value], route: &[Value]) -> Balancer {
    Balancer::start(1, &document(origin, listener, route))
}

fn document(origin: &Origin, listener: &[Value], route: &[Value]) -> Value {
    let mut plan = plan(&[pool("p", &[endpoint("e", &origin.address.to_string())])]);
    let all = listener.iter().chain(route).enumerate();
    let named = all.map(|(index, step)| json!({"name": format!("f{index}"), "steps": [step]}));
    plan["filters"] = named.collect();
    let names = |from: usize, count: usize| -> Value {
        (from..from + count)
            .map(|index| format!("f{index}"))
            .collect()
    };
    plan["listeners"][0]["filters"] = names(0, listener.len());
    plan["routes"][0]["filters"] = names(listener.len(), route.len());
    plan
}

fn ask(balancer: &Balancer, method: &str, fields: &[(&str, &str)]) -> Message {
    let line = |(name, value): &(&str, &str)| format!("{name}: {value}\r\n");
    let lines = fields.iter().map(line).collect::<Vec<_>>().concat();
    let mut client = balancer.client();
    client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
    client.answer()
}

fn status(balancer: &Balancer, fields: &[(&str, &str)]) -> u16 {
    ask(balancer, "GET", fields).status()
}

const ALICE: (&str, &str) = ("Authorization", "Bearer alice-token");
const BOB: (&str, &str) = ("Authorization", "Bearer bob-token");

#[test]
fn a_limit_after_authentication_counts_authenticated_requests_only() {
    let origin = Origin::saying("hello");
    let steps = [auth(), limit("l", &json!("all"), 2)];
    let splits: [(&[Value], &[Value]); 3] =
        [(&steps, &[]), (&[], &steps), (&steps[..1], &steps[1..])];
    for (listener, route) in splits {
        let balancer = balancer(&origin, listener, route);
        let strangers: Vec<u16> = (0..4).map(|_| status(&balancer, &[])).collect();
        assert_eq!(strangers, [401; 4]);
        let known: Vec<u16> = (0..3).map(|_| status(&balancer, &[ALICE])).collect();
        assert_eq!(known, [200, 200, 429]);
    }
}

#[test]
fn a_limit_before_authentication_counts_every_request() {
    let origin = Origin::saying("hello");
    let steps = [limit("l", &json!("all"), 2), auth()];
    let splits: [(&[Value], &[Value]); 3] =
        [(&steps, &[]), (&[], &steps), (&steps[..1], &steps[1..])];
    for (listener, route) in splits {
        let balancer = balancer(&origin, listener, route);
        let strangers: Vec<u16> = (0..4).map(|_| status(&balancer, &[])).collect();
        assert_eq!(strangers, [401, 401, 429, 429]);
        assert_eq!(status(&balancer, &[ALICE]), 429);
    }
}

#[test]
fn a_limit_counts_by_what_authentication_set_and_never_by_what_a_client_sent_of_it() {
    let origin = Origin::saying("hello");
    let by_user = limit("l", &json!({"header": "x-user"}), 1);
    let after = balancer(&origin, &[auth(), by_user.clone()], &[]);
    assert_eq!(status(&after, &[ALICE]), 200);
    assert_eq!(status(&after, &[ALICE, ("X-User", "carol")]), 429);
    assert_eq!(status(&after, &[ALICE, ("x_user", "carol")]), 429);
    assert_eq!(status(&after, &[BOB]), 200);
    // Before authentication the field is not set yet, and what a client sends of it is not used.
    let before = balancer(&origin, &[by_user], &[auth()]);
    assert_eq!(status(&before, &[ALICE, ("X-User", "one")]), 200);
    assert_eq!(status(&before, &[ALICE, ("X-User", "two")]), 429);
}

#[test]
fn the_chain_goes_on_behind_a_step_that_waited() {
    let origin = Origin::saying("hello");
    let hash = hash_password(b"secret").unwrap();
    let basic = json!({"basic": {
        "realm": "r", "users": [["bob", hash]], "user_header": "X-User", "forward": false,
    }});
    let by_user = limit("l", &json!({"header": "X-User"}), 1);
    let edit = request_headers(&json!({"set": [["x-user", "checked"]]}));
    let balancer = balancer(&origin, &[basic], &[by_user, edit]);
    let bob = ("Authorization", "Basic Ym9iOnNlY3JldA==");
    assert_eq!(
        status(&balancer, &[("Authorization", "Basic Ym9iOndyb25n")]),
        401
    );
    assert_eq!(status(&balancer, &[bob]), 200);
    assert_eq!(status(&balancer, &[bob]), 429);
    let requests = origin.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].field("x-user"), Some("checked"));
    assert_eq!(requests[0].field("authorization"), None);
}

#[test]
fn a_limit_sees_the_header_edits_before_it_and_not_those_after_it() {
    let origin = Origin::saying("hello");
    let by_tenant = limit("l", &json!({"header": "X-Tenant"}), 1);
    let counted = |steps: &[Value]| -> Vec<u16> {
        let balancer = balancer(&origin, steps, &[]);
        let fields = [&[("X-Tenant", "a")][..], &[("X-Tenant", "b")], &[], &[]];
        fields.map(|fields| status(&balancer, fields)).into()
    };
    let set = request_headers(&json!({"set": [["x-tenant", "same"]]}));
    assert_eq!(
        counted(&[set.clone(), by_tenant.clone()]),
        [200, 429, 429, 429]
    );
    assert_eq!(counted(&[by_tenant.clone(), set]), [200, 200, 200, 429]);
    let default = request_headers(&json!({"default": [["x-tenant", "a"]]}));
    assert_eq!(counted(&[default, by_tenant.clone()]), [200, 200, 429, 429]);
    let remove = request_headers(&json!({"remove": ["x-tenant"]}));
    assert_eq!(counted(&[remove, by_tenant]), [200, 429, 429, 429]);
}

#[test]
fn edits_of_fields_that_authentication_sets_run_in_order_and_never_let_the_clients_through() {
    let origin = Origin::saying("hello");
    let sent = |steps: &[Value]| -> Vec<String> {
        let balancer = balancer(&origin, steps, &[]);
        let spoofed = [ALICE, ("X-User", "root"), ("x_user", "root")];
        assert_eq!(status(&balancer, &spoofed), 200);
        let requests = origin.requests();
        let head = &requests.last().unwrap().head;
        let lines = head.lines().map(str::to_ascii_lowercase);
        let named = lines.filter(|line| line.starts_with("x-user") || line.starts_with("x_user"));
        named
            .map(|line| line.split_once(": ").unwrap().1.to_owned())
            .collect()
    };
    let set = || request_headers(&json!({"set": [["X-User", "set"]]}));
    let add = || request_headers(&json!({"add": [["X-User", "added"]]}));
    let remove = || request_headers(&json!({"remove": ["X-User"]}));
    let default = || request_headers(&json!({"default": [["X-User", "default"]]}));
    assert_eq!(sent(&[auth()]), ["alice"]);
    assert_eq!(sent(&[auth(), auth()]), ["alice"]);
    assert_eq!(sent(&[set(), auth()]), ["alice"]);
    assert_eq!(sent(&[add(), auth()]), ["alice"]);
    assert_eq!(sent(&[default(), auth()]), ["alice"]);
    assert_eq!(sent(&[auth(), set()]), ["set"]);
    assert_eq!(sent(&[auth(), add()]), ["alice", "added"]);
    assert_eq!(sent(&[auth(), remove()]), Vec::<String>::new());
    assert_eq!(sent(&[auth(), default()]), ["alice"]);
    assert_eq!(sent(&[auth(), remove(), default()]), ["default"]);
}

fn preflight(balancer: &Balancer) -> Message {
    let fields = [
        ("Origin", "https://a.example"),
        ("Access-Control-Request-Method", "PUT"),
    ];
    ask(balancer, "OPTIONS", &fields)
}

#[test]
fn a_preflight_is_answered_at_the_place_of_its_rules() {
    let origin = Origin::saying("hello");
    let before = balancer(&origin, &[cors(60), auth()], &[]);
    assert_eq!(preflight(&before).status(), 204);
    let after = balancer(&origin, &[auth(), cors(60)], &[]);
    assert_eq!(preflight(&after).status(), 401);
    // The route's rules hold, and the first place answers.
    let both = balancer(&origin, &[cors(60), auth()], &[cors(5)]);
    let answer = preflight(&both);
    assert_eq!(answer.status(), 204);
    assert_eq!(answer.field("access-control-max-age"), Some("5"));
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_large_body_is_refused_at_the_place_of_its_bound() {
    let origin = Origin::saying("hello");
    let large = [("Content-Length", "11")];
    let before = balancer(&origin, &[body_limit(10), auth()], &[]);
    assert_eq!(ask(&before, "POST", &large).status(), 413);
    let after = balancer(&origin, &[auth(), body_limit(10)], &[]);
    assert_eq!(ask(&after, "POST", &large).status(), 401);
    assert_eq!(ask(&after, "POST", &[large[0], ALICE]).status(), 413);
}

#[test]
fn a_refusal_gives_back_what_earlier_steps_took() {
    let origin = Origin::saying("hello");
    let balancer = balancer(&origin, &[concurrency(1)], &[auth()]);
    for _ in 0..3 {
        assert_eq!(status(&balancer, &[]), 401);
        assert_eq!(status(&balancer, &[ALICE]), 200);
    }
}

#[test]
fn the_last_edit_of_a_response_wins() {
    let origin = Origin::saying("hello");
    let set = |value: &str| response_headers(&json!({"set": [["X-Frame-Options", value]]}));
    let balancer = balancer(&origin, &[set("DENY"), auth()], &[set("SAMEORIGIN")]);
    for fields in [&[][..], &[ALICE]] {
        let answer = ask(&balancer, "GET", fields);
        assert_eq!(answer.field("x-frame-options"), Some("SAMEORIGIN"));
    }
}

#[test]
fn what_no_route_takes_runs_the_listeners_chain() {
    let origin = Origin::saying("hello");
    let mut plan = document(&origin, &[auth()], &[limit("l", &json!("all"), 1)]);
    plan["routes"][0]["match"]["path"] = json!({"prefix": "/only"});
    let balancer = Balancer::start(1, &plan);
    assert_eq!(status(&balancer, &[]), 401);
    assert_eq!(status(&balancer, &[ALICE]), 404);
    assert_eq!(status(&balancer, &[ALICE]), 404);
}

#[test]
fn explain_walks_the_chain_in_its_order_and_uses_nothing_up() {
    let origin = Origin::saying("hello");
    let steps = [
        limit("l", &json!({"header": "x-user"}), 1),
        auth(),
        concurrency(1),
    ];
    let balancer = balancer(&origin, &steps[..1], &steps[1..]);
    let request = json!({
        "listener": null, "method": "GET", "target": "/", "client": "192.0.2.1",
        "headers": [[ALICE.0, ALICE.1]],
    });
    for _ in 0..3 {
        let told = balancer
            .engine
            .explain(request.to_string().as_bytes())
            .unwrap();
        let told: Value = serde_json::from_slice(&told).unwrap();
        let checks: Vec<_> = told["filters"].as_array().unwrap().iter().collect();
        let named = |member: &str| -> Vec<&str> {
            checks
                .iter()
                .map(|step| step[member].as_str().unwrap())
                .collect()
        };
        assert_eq!(named("check"), ["rate_limit", "bearer", "concurrency"]);
        assert_eq!(named("verdict"), ["pass"; 3]);
        assert_eq!(checks[1]["user"], "alice");
    }
    assert_eq!(status(&balancer, &[ALICE]), 200);
}
