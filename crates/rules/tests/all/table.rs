//! A plan is compiled whole or refused with the place that is wrong, and what an endpoint has lived
//! through is joined to the next plan by its identity.

use std::sync::Arc;

use evenflow_rules::compile::check;
use evenflow_rules::compile::{Compiled, Registry, change_members, compile};
use evenflow_rules::plan::{MembersChange, Plan};
use evenflow_rules::route::{RouteQuery, Router};
use evenflow_rules::table::Table;
use evenflow_wire::http1::head::RequestHead;

use crate::picker::endpoints;
use crate::support::{endpoint, listener, plan, pool, route};
use serde_json::{Value, json};

/// Two pools of two endpoints, two routes and one chain of every filter.
fn full_plan() -> Value {
    let mut plan = plan(&[pool("p", &endpoints(2)), pool("q", &endpoints(2))]);
    let mut users = route("users", "q");
    users["match"]["host"] = json!("a.example");
    users["match"]["path"] = json!({"prefix": "/users"});
    users["filters"] = json!(["all"]);
    plan["routes"].as_array_mut().unwrap().push(users);
    plan["filters"] = json!([{"name": "all", "steps": [
        {"ip_set": {"allow": ["10.0.0.0/8"], "deny": ["10.1.0.0/16"]}},
        {"limit": {"name": "l", "key": "client_ip", "requests_per_second": 5.0, "burst": 5,
            "max_keys": 1000, "dry_run": false, "ipv6_prefix": 64, "headers": false}},
        {"request_headers": {"remove": ["x-a"], "set": [["x-b", "1"]], "add": [], "default": []}},
        {"response_headers": {"remove": [], "set": [], "add": [["x-c", "1"]], "default": []}},
        {"body_limit": {"bytes": 1000}},
        {"cors": {"allow_origins": ["*"], "allow_methods": ["GET"], "allow_headers": [],
            "expose_headers": [], "allow_credentials": false, "max_age_s": 1}},
    ]}]);
    plan
}

/// The place a JSON pointer means, to be changed.
fn at<'a>(plan: &'a mut Value, pointer: &str) -> &'a mut Value {
    plan.pointer_mut(pointer)
        .unwrap_or_else(|| panic!("no {pointer}"))
}

#[test]
fn a_whole_plan_is_compiled() {
    let compiled = check(full_plan().to_string().as_bytes()).unwrap();
    let table = &compiled.table;
    assert_eq!(compiled.added, 4);
    assert_eq!(
        (table.listeners.len(), table.routes.len(), table.pools.len()),
        (1, 2, 2)
    );
    let router = &table.listeners[0].router;
    assert_eq!(found(router, b"a.example:80", b"/users/7"), Some(1));
    assert_eq!(found(router, b"b.example", b"/users/7"), Some(0));
    assert_eq!(table.listeners[0].chains[1].body_limit, Some(1000));
    let [plain, edited] = [0, 1].map(|route| &table.listeners[0].chains[route].edits);
    assert!(edited.cors.is_some());
    assert!(plain.request.is_empty() && plain.response.is_empty() && plain.cors.is_none());
    assert!(!edited.request.is_empty() && !edited.response.is_empty());
}

#[test]
fn an_endpoint_takes_requests_only_once_its_table_is_published() {
    let compiled = check(full_plan().to_string().as_bytes()).unwrap();
    let endpoint = &compiled.table.pools[0].members[0].endpoint;
    assert!(endpoint.usable(true).is_err());
    compiled.configure_endpoints();
    assert!(endpoint.usable(false).is_ok());
}

#[test]
#[allow(clippy::too_many_lines)] // One table of what is refused.
fn what_is_wrong_is_refused_with_its_place() {
    let limit = "/filters/0/steps/1/limit";
    let cases: Vec<(&str, Value, &str)> = vec![
        ("/version", json!(2), "version"),
        ("/version", json!("1"), "version"),
        ("/revision", json!(-1), "revision"),
        ("/server_name", json!(""), "server_name"),
        ("/server_name", json!("a\r\nb"), "server_name"),
        (
            "/access_log",
            json!({"format": "json", "output": "stdout", "sample": 1.5}),
            "access_log.sample",
        ),
        (
            "/access_log",
            json!({"format": "xml", "output": "stdout", "sample": 1.0}),
            "access_log.format",
        ),
        (
            "/listeners/0/addresses",
            json!([]),
            "listeners[0].addresses",
        ),
        ("/listeners/0/pool", json!("p"), "listeners[0].pool"),
        ("/listeners/0/protocol", json!("tcp"), "listeners[0].pool"),
        (
            "/listeners/0/protocol",
            json!("sctp"),
            "listeners[0].protocol",
        ),
        (
            "/listeners/0/filters",
            json!(["nope"]),
            "listeners[0].filters[0]",
        ),
        (
            "/listeners/0/limits/headers",
            json!(0),
            "listeners[0].limits.headers",
        ),
        (
            "/listeners/0/limits/headers",
            json!(257),
            "listeners[0].limits.headers",
        ),
        (
            "/listeners/0/limits/head_bytes",
            json!(1023),
            "listeners[0].limits.head_bytes",
        ),
        (
            "/listeners/0/limits/head_bytes",
            json!(1 << 21),
            "listeners[0].limits.head_bytes",
        ),
        (
            "/listeners/0/trusted_proxies",
            json!(["10.0.0.0/33"]),
            "listeners[0].trusted_proxies[0]",
        ),
        (
            "/routes/0/action",
            json!({"pool": "nope"}),
            "routes[0].action.pool",
        ),
        ("/routes/0/fallback", json!("nope"), "routes[0].fallback"),
        ("/routes/1/name", json!("default"), "routes[1].name"),
        (
            "/routes/1/filters",
            json!(["all", "nope"]),
            "routes[1].filters[1]",
        ),
        (
            "/routes/1/listeners",
            json!(["nope"]),
            "routes[1].listeners",
        ),
        (
            "/routes/1/match",
            route("any", "p")["match"].clone(),
            "routes[1].match",
        ),
        (
            "/routes/1/match/path",
            json!({"prefix": "users"}),
            "routes[1].match.path",
        ),
        (
            "/routes/1/match/path",
            json!({"exact": ""}),
            "routes[1].match.path",
        ),
        (
            "/routes/1/match/path",
            json!({"prefix": "/a".repeat(33)}),
            "routes[1].match.path",
        ),
        (
            "/routes/1/match/path",
            json!({"regex": "("}),
            "routes[1].match.path",
        ),
        (
            "/routes/1/match/headers",
            json!([["x", {"regex": "("}]]),
            "routes[1].match.headers.x",
        ),
        (
            "/routes/1/match/path",
            json!({"suffix": "/a"}),
            "routes[1].match.path",
        ),
        (
            "/routes/1/retries/statuses",
            json!([70_000]),
            "routes[1].retries.statuses[0]",
        ),
        (
            "/filters/0/steps/0/ip_set/allow",
            json!(["10.0.0.0/8", "x"]),
            "filters[0].steps[0].ip_set.allow[1]",
        ),
        (
            "/filters/0/steps/1/limit/requests_per_second",
            json!(0.0),
            "filters[0].steps[1].limit.requests_per_second",
        ),
        (
            "/filters/0/steps/1/limit/burst",
            json!(0),
            "filters[0].steps[1].limit.burst",
        ),
        (
            "/filters/0/steps/1/limit/max_keys",
            json!(0),
            "filters[0].steps[1].limit.max_keys",
        ),
        (limit, json!({"name": "l"}), "filters[0].steps[1].limit"),
        (
            "/filters/0/steps/2/request_headers/remove",
            json!(["x-a", "Content-Length"]),
            "filters[0].steps[2].request_headers.remove[1]",
        ),
        (
            "/filters/0/steps/2/request_headers/set/0",
            json!(["x-b", "a\r\nb: c"]),
            "filters[0].steps[2].request_headers.set[0][1]",
        ),
        (
            "/filters/0/steps/3/response_headers/add/0",
            json!(["bad name", "1"]),
            "filters[0].steps[3].response_headers.add[0][0]",
        ),
        (
            "/filters/0/steps/5/cors/allow_credentials",
            json!(true),
            "filters[0].steps[5].cors.allow_credentials",
        ),
        ("/pools/1/name", json!("p"), "pools[1].name"),
        (
            "/pools/0/endpoints/1/id",
            json!("e0"),
            "pools[0].endpoints[1].id",
        ),
        (
            "/pools/0/endpoints/1/weight",
            json!(0),
            "pools[0].endpoints[1].weight",
        ),
        (
            "/pools/0/endpoints/1/weight",
            json!(65_536),
            "pools[0].endpoints[1].weight",
        ),
        (
            "/pools/0/endpoints/1/addresses",
            json!(["127.0.0.1:1", "localhost:1"]),
            "pools[0].endpoints[1].addresses[1]",
        ),
        (
            "/pools/0/picker",
            json!({"cycle": {"table": [0, 2]}}),
            "pools[0].picker.table[1]",
        ),
        (
            "/pools/0/picker",
            json!({"cycle": {"table": []}}),
            "pools[0].picker.table",
        ),
        (
            "/pools/0/picker",
            json!({"hash": {"key": "path", "table": [2], "load_bound": null}}),
            "pools[0].picker.table[0]",
        ),
        (
            "/pools/0/picker",
            json!({"hash": {"key": "path", "table": [0], "load_bound": 0.5}}),
            "pools[0].picker.load_bound",
        ),
        (
            "/pools/0/picker",
            json!({"hash": {"key": "mood", "table": [0], "load_bound": null}}),
            "pools[0].picker.hash.key",
        ),
        (
            "/pools/0/outlier",
            json!({"consecutive_errors": 0, "base_ejection_ms": 1,
            "max_ejection_ms": 1, "max_ejected": 0.5}),
            "pools[0].outlier",
        ),
        (
            "/pools/0/outlier",
            json!({"consecutive_errors": 1, "base_ejection_ms": 1,
            "max_ejection_ms": 1, "max_ejected": 1.5}),
            "pools[0].outlier",
        ),
    ];
    for (pointer, value, path) in cases {
        let mut plan = full_plan();
        *at(&mut plan, pointer) = value.clone();
        match check(plan.to_string().as_bytes()) {
            Ok(_) => panic!("{pointer} = {value} was taken"),
            Err(error) => {
                assert!(error.path.starts_with(path), "{pointer} = {value}: {error}");
                assert!(!error.message.is_empty());
            }
        }
    }
}

/// Every object of a document, as pointers.
fn objects(value: &Value, pointer: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            out.push(pointer.to_owned());
            for (name, member) in members {
                objects(member, &format!("{pointer}/{name}"), out);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                objects(item, &format!("{pointer}/{index}"), out);
            }
        }
        _ => {}
    }
}

#[test]
fn an_unknown_field_is_refused_everywhere() {
    let whole = full_plan();
    let mut places = Vec::new();
    objects(&whole, "", &mut places);
    assert!(places.len() > 20, "{places:?}");
    for place in places {
        let mut plan = full_plan();
        at(&mut plan, &place)["no_such_field"] = json!(1);
        assert!(check(plan.to_string().as_bytes()).is_err(), "{place}");
    }
}

#[test]
fn a_missing_field_is_refused_everywhere() {
    let whole = full_plan();
    let mut places = Vec::new();
    objects(&whole, "", &mut places);
    // What is null may be left out; an enum's only key is its name.
    for place in places {
        let members = whole.pointer(&place).unwrap().as_object().unwrap();
        for name in members.keys().filter(|name| !members[*name].is_null()) {
            let mut plan = full_plan();
            at(&mut plan, &place).as_object_mut().unwrap().remove(name);
            if name == "host" || name == "path" {
                continue;
            }
            let taken = check(plan.to_string().as_bytes()).is_ok();
            assert!(!taken, "{place} without {name} was taken");
        }
    }
}

#[test]
fn what_is_no_json_is_refused() {
    for document in [&b""[..], b"null", b"[]", b"{", b"\xff", b"{} "] {
        assert!(
            check(document).is_err(),
            "{:?}",
            String::from_utf8_lossy(document)
        );
    }
}

fn compiled(registry: &mut Registry, plan: &Value, previous: Option<&Table>) -> Compiled {
    let plan: Plan = serde_json::from_value(plan.clone()).unwrap();
    compile(&plan, registry, previous).unwrap()
}

#[test]
fn an_endpoint_is_the_same_for_as_long_as_pool_id_and_target_are() {
    let members = |list: &[Value]| plan(&[pool("p", list)]);
    let mut registry = Registry::default();
    let (a, b) = (endpoint("a", "127.0.0.1:1"), endpoint("b", "127.0.0.1:2"));
    let first = compiled(&mut registry, &members(&[a.clone(), b.clone()]), None);
    assert_eq!(first.added, 2);
    first.table.pools[0].members[0].endpoint.enter();
    // Another order, other numbers, another address of the same target.
    let mut changed = a.clone();
    changed["weight"] = json!(7);
    changed["addresses"] = json!(["127.0.0.1:9"]);
    let second = compiled(
        &mut registry,
        &members(&[b.clone(), changed]),
        Some(&first.table),
    );
    assert_eq!(second.added, 0);
    let (before, after) = (&first.table.pools[0], &second.table.pools[0]);
    assert!(Arc::ptr_eq(
        &before.members[0].endpoint,
        &after.members[1].endpoint
    ));
    assert!(Arc::ptr_eq(
        &before.members[1].endpoint,
        &after.members[0].endpoint
    ));
    assert!(Arc::ptr_eq(&before.state, &after.state));
    assert_eq!(after.members[1].endpoint.in_flight(), 1);
    assert_eq!(registry.prune(&second.table).endpoints.len(), 0);
    // Another target is another server.
    let mut moved = a.clone();
    moved["target"] = json!("127.0.0.1:3");
    let third = compiled(
        &mut registry,
        &members(&[moved, b.clone()]),
        Some(&second.table),
    );
    assert_eq!(third.added, 1);
    assert_eq!(third.table.pools[0].members[0].endpoint.in_flight(), 0);
    assert_eq!(registry.prune(&third.table).endpoints.len(), 1);
    // What is gone and comes back begins anew.
    let fourth = compiled(&mut registry, &members(&[a, b]), Some(&third.table));
    assert_eq!(fourth.added, 1);
    assert_eq!(fourth.table.pools[0].members[0].endpoint.in_flight(), 0);
}

#[test]
fn pools_with_the_same_endpoints_keep_them_apart() {
    let mut registry = Registry::default();
    let plan = plan(&[pool("p", &endpoints(1)), pool("q", &endpoints(1))]);
    let table = compiled(&mut registry, &plan, None).table;
    let [p, q] = [0, 1].map(|index| &table.pools[index].members[0].endpoint);
    assert!(!Arc::ptr_eq(p, q));
    assert_eq!((p.pool.as_str(), q.pool.as_str()), ("p", "q"));
}

#[test]
fn listeners_and_routes_keep_their_numbers_by_name() {
    let mut registry = Registry::default();
    let first = compiled(&mut registry, &full_plan(), None).table;
    let mut plan = full_plan();
    plan["routes"].as_array_mut().unwrap().reverse();
    let extra = listener("extra", "127.0.0.1:0");
    plan["listeners"].as_array_mut().unwrap().insert(0, extra);
    let second = compiled(&mut registry, &plan, Some(&first)).table;
    assert_eq!(first.routes[0].uid, second.routes[1].uid);
    assert_eq!(first.routes[1].uid, second.routes[0].uid);
    assert!(Arc::ptr_eq(
        &first.listeners[0].state,
        &second.listeners[1].state
    ));
    assert_ne!(second.listeners[0].state.uid, second.listeners[1].state.uid);
}

#[test]
fn a_limit_keeps_its_count_until_its_numbers_change() {
    let mut registry = Registry::default();
    let first = compiled(&mut registry, &full_plan(), None).table;
    let mut plan = full_plan();
    *at(&mut plan, "/filters/0/steps/1/limit/dry_run") = json!(true);
    let second = compiled(&mut registry, &plan, Some(&first)).table;
    assert!(Arc::ptr_eq(
        &first.filter_state.limiters[0].limiter,
        &second.filter_state.limiters[0].limiter
    ));
    *at(&mut plan, "/filters/0/steps/1/limit/burst") = json!(6);
    let third = compiled(&mut registry, &plan, Some(&second)).table;
    assert_eq!(third.filter_state.limiters.len(), 1);
    assert!(!Arc::ptr_eq(
        &second.filter_state.limiters[0].limiter,
        &third.filter_state.limiters[0].limiter
    ));
}

#[test]
fn routes_stand_on_the_listeners_they_name() {
    let mut plan = full_plan();
    let other = listener("other", "127.0.0.1:0");
    plan["listeners"].as_array_mut().unwrap().push(other);
    plan["routes"][1]["listeners"] = json!(["other"]);
    plan["routes"][1]["match"]["host"] = json!(null);
    let table = check(plan.to_string().as_bytes()).unwrap().table;
    assert_eq!(found(&table.listeners[0].router, b"a", b"/users"), Some(0));
    assert_eq!(found(&table.listeners[1].router, b"a", b"/users"), Some(1));
}

#[test]
fn the_smallest_body_limit_holds_and_later_edits_win() {
    let mut plan = full_plan();
    plan["filters"] = json!([
        {"name": "x", "steps": [{"body_limit": {"bytes": 10}},
            {"response_headers": {"remove": [], "set": [["X-A", "x"]], "add": [], "default": []}}]},
        {"name": "y", "steps": [{"body_limit": {"bytes": 20}},
            {"response_headers": {"remove": [], "set": [["x-a", "y"]], "add": [], "default": []}}]},
    ]);
    plan["listeners"][0]["filters"] = json!(["x"]);
    plan["routes"][1]["filters"] = json!(["y", "x"]);
    plan["routes"][0]["filters"] = json!(["y"]);
    let table = check(plan.to_string().as_bytes()).unwrap().table;
    assert_eq!(table.listeners[0].chains[1].body_limit, Some(10));
    let written = |index: usize| {
        let mut out = Vec::new();
        table.listeners[0].chains[index]
            .edits
            .response
            .append(&mut out, |_| false);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(written(0), "x-a: y\r\n");
    assert_eq!(written(1), "X-A: x\r\n");
}

fn found(router: &Router, host: &[u8], path: &[u8]) -> Option<usize> {
    router.find(&RouteQuery {
        host,
        path,
        head: &RequestHead::default(),
        base: b"",
        client: None,
    })
}

/// What requests meet in a pool: its members by number, and the picker.
fn members(table: &Table) -> (Vec<u32>, String) {
    let pool = &table.pools[0];
    let uids = pool.members.iter().map(|member| member.endpoint.uid);
    (uids.collect(), format!("{:?}", pool.picker))
}

#[test]
fn a_change_of_members_gives_the_table_of_the_whole_plan() {
    let whole = |endpoints: &[Value]| -> Plan {
        let mut pool = pool("p", endpoints);
        let table: Vec<usize> = (0..endpoints.len()).collect();
        pool["picker"] = json!({"cycle": {"table": table}});
        serde_json::from_value(plan(&[pool])).unwrap()
    };
    let old = endpoints(4);
    let mut registry = Registry::default();
    let first = compile(&whole(&old), &mut registry, None).unwrap().table;
    let mut heavy = old[1].clone();
    heavy["weight"] = json!(7);
    let change: MembersChange = serde_json::from_value(json!({
        "revision": 2, "pool": "p", "members": 4, "at": 1, "remove": 2,
        "insert": [heavy, endpoint("new", "127.0.0.1:9")],
        "picker": {"cycle": {"table": [0, 1, 2, 3]}}, "use_all": false, "panic": null,
    }))
    .unwrap();
    let changed = change_members(&change, &mut registry, &first).unwrap();
    assert_eq!((changed.added, changed.table.revision), (1, 2));
    changed.configure_endpoints();
    let new = [
        old[0].clone(),
        heavy,
        endpoint("new", "127.0.0.1:9"),
        old[3].clone(),
    ];
    let again = compile(&whole(&new), &mut registry, Some(&first)).unwrap();
    assert_eq!(members(&changed.table), members(&again.table));
    assert_eq!(changed.table.pools[0].members[1].endpoint.weight(), 7);
    let removed = registry.prune(&changed.table);
    assert_eq!(removed.endpoints.len(), 1, "one of the old is gone");
}

#[test]
fn a_change_of_members_that_does_not_fit_names_its_mistake() {
    let mut registry = Registry::default();
    let plan: Plan = serde_json::from_value(plan(&[pool("p", &endpoints(2))])).unwrap();
    let first = compile(&plan, &mut registry, None).unwrap().table;
    let fitting = json!({
        "revision": 2, "pool": "p", "members": 2, "at": 2, "remove": 0,
        "insert": [endpoint("new", "127.0.0.1:9")],
        "picker": {"cycle": {"table": [0, 1, 2]}}, "use_all": false, "panic": null,
    });
    let mut twice = endpoint("new", "127.0.0.1:9");
    twice["id"] = endpoints(2)[0]["id"].clone();
    for (key, value, path) in [
        ("pool", json!("q"), "pool"),
        ("members", json!(3), "members"),
        ("at", json!(3), "remove"),
        ("remove", json!(1), "remove"),
        ("insert", json!([twice]), "insert[0].id"),
        (
            "picker",
            json!({"cycle": {"table": [3]}}),
            "picker.table[0]",
        ),
    ] {
        let mut wrong = fitting.clone();
        wrong[key] = value;
        let change: MembersChange = serde_json::from_value(wrong).unwrap();
        let refused = change_members(&change, &mut registry, &first).unwrap_err();
        assert_eq!(refused.path, path);
    }
}
