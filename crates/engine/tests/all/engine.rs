//! From one plan to the next while the engine runs: sockets, connections to endpoints, ejections.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::net::{Balancer, GET, Origin, Wire, wait_for};
use crate::support::{endpoint, listener, plan, pool};
use evenflow_engine::engine::Engine;
use serde_json::{Value, json};

/// A plan whose only pool has these origins, called `e0`, `e1`, …
fn plan_for(origins: &[&Origin]) -> Value {
    let endpoints: Vec<Value> = (0..)
        .zip(origins)
        .map(|(index, origin)| endpoint(&format!("e{index}"), &origin.address.to_string()))
        .collect();
    plan(&[pool("p", &endpoints)])
}

/// An address of loopback that nobody else uses: no port that the system may give away meanwhile.
fn free_address() -> SocketAddr {
    let [a, b, c] = std::array::from_fn(|_| fastrand::u8(1..255));
    SocketAddr::from(([127, a, b, c], 8080))
}

fn update(balancer: &Balancer, id: &str, change: (&str, Value)) {
    let mut update = json!({"pool": "p", "id": id, "up": null, "drain": null, "weight": null,
        "max_connections": null, "addresses": null});
    update[change.0] = change.1;
    let update = update.to_string();
    balancer.engine.set_endpoint(update.as_bytes()).unwrap();
}

// Ejections.

/// `e0` and `e1` fail, `e2` does not; half of the pool may be ejected, and one failure ejects.
fn half_may_be_ejected(failing: &Origin, well: &Origin) -> Value {
    let mut plan = plan_for(&[failing, failing, well]);
    plan["pools"][0]["outlier"] = json!({"consecutive_errors": 1, "base_ejection_ms": 60000,
        "max_ejection_ms": 600_000, "max_ejected": 0.5});
    plan
}

fn ejected(balancer: &Balancer, id: &str) -> f64 {
    balancer.endpoint(id)["ejected_for_s"].as_f64().unwrap()
}

#[test]
fn an_ejected_endpoint_that_is_removed_makes_room_for_another_ejection() {
    let failing = Origin::answering("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n");
    let well = Origin::saying("well");
    let mut plan = half_may_be_ejected(&failing, &well);
    let mut balancer = Balancer::start(1, &plan);
    wait_for("the first ejection", || {
        balancer.get();
        ejected(&balancer, "e0") + ejected(&balancer, "e1") > 0.0
    });
    let (out, other) = if ejected(&balancer, "e0") > 0.0 {
        (0, "e1")
    } else {
        (1, "e0")
    };
    let endpoints = plan["pools"][0]["endpoints"].as_array_mut().unwrap();
    endpoints.remove(out);
    plan["pools"][0]["picker"] = json!({"cycle": {"table": [0, 1]}});
    balancer.apply(&plan);
    wait_for("the other's ejection", || {
        balancer.get();
        ejected(&balancer, other) > 0.0
    });
}

#[test]
fn an_endpoint_taken_back_early_is_ejected_for_longer_the_next_time() {
    let failing = Origin::answering("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n");
    let well = Origin::saying("well");
    let mut plan = half_may_be_ejected(&failing, &well);
    plan["pools"][0]["picker"] = json!({"cycle": {"table": [0]}});
    let balancer = Balancer::start(1, &plan);
    assert_eq!(balancer.get().status(), 500);
    assert!((0.0..=60.0).contains(&ejected(&balancer, "e0")));
    balancer.engine.clear_ejection("p", "e0").unwrap();
    wait_for("the endpoint", || balancer.endpoint("e0")["usable"] == true);
    assert_eq!(balancer.get().status(), 500);
    assert!((61.0..=120.0).contains(&ejected(&balancer, "e0")));
}

// Connections to endpoints.

#[test]
fn connections_to_an_address_that_an_endpoint_has_left_are_not_used_again() {
    let (old, new) = (Origin::saying("old"), Origin::saying("new"));
    let plan = plan_for(&[&old]);
    let balancer = Balancer::start(2, &plan);
    // Both workers keep a connection, and one more is in use while the address changes.
    wait_for("two idle connections", || {
        balancer.get();
        balancer.endpoint("e0")["idle_connections"].as_u64() >= Some(2)
    });
    let changed = ("addresses", json!([new.address.to_string()]));
    update(&balancer, "e0", changed);
    for _ in 0..50 {
        assert_eq!(balancer.get().text(), "new");
    }
    wait_for("the old connections to close", || old.open() == 0);
}

#[test]
fn a_connection_in_use_while_its_endpoint_moves_is_not_kept() {
    let open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let old = Origin::serving(move |wire, _| {
        while wire.request().is_some() {
            wait_for("the gate", || gate.load(Ordering::Acquire));
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nold");
        }
    });
    let new = Origin::saying("new");
    let balancer = Balancer::start(1, &plan_for(&[&old]));
    let mut client = balancer.client();
    client.send(GET);
    wait_for("the request at its origin", || old.connections() == 1);
    let changed = ("addresses", json!([new.address.to_string()]));
    update(&balancer, "e0", changed);
    open.store(true, Ordering::Release);
    assert_eq!(client.answer().text(), "old");
    wait_for("the old connection to close", || old.open() == 0);
    assert_eq!(client.send(GET).answer().text(), "new");
}

#[test]
fn an_endpoint_that_takes_no_requests_has_no_idle_connections() {
    for change in [("up", json!(false)), ("drain", json!(true))] {
        let (first, other) = (Origin::saying("first"), Origin::saying("other"));
        let balancer = Balancer::start(1, &plan_for(&[&first, &other]));
        balancer.get();
        balancer.get();
        assert_eq!((first.open(), other.open()), (1, 1));
        update(&balancer, "e0", change);
        wait_for("the connection to close", || first.open() == 0);
        assert_eq!(other.open(), 1);
    }
}

#[test]
fn an_address_that_is_only_added_costs_no_connection() {
    let (first, other) = (Origin::saying("first"), Origin::saying("other"));
    let balancer = Balancer::start(1, &plan_for(&[&first]));
    balancer.get();
    let addresses = [other.address.to_string(), first.address.to_string()];
    update(&balancer, "e0", ("addresses", json!(addresses)));
    assert_eq!(balancer.get().text(), "first");
    assert_eq!((first.connections(), other.connections()), (1, 0));
}

// Sockets.

#[test]
fn two_listeners_may_both_take_a_free_port() {
    let origin = Origin::saying("hello");
    let mut plan = plan_for(&[&origin]);
    plan["listeners"] = json!([
        listener("web", "127.0.0.1:0"),
        listener("too", "127.0.0.1:0")
    ]);
    let mut balancer = Balancer::start(2, &plan);
    let both = (balancer.address("web"), balancer.address("too"));
    assert_ne!(both.0, both.1);
    for address in [both.0, both.1] {
        assert_eq!(Wire::connect(address).send(GET).answer().text(), "hello");
    }
    // They keep them.
    plan["revision"] = json!(2);
    balancer.apply(&plan);
    assert_eq!(both, (balancer.address("web"), balancer.address("too")));
}

#[test]
fn one_address_is_not_for_two_listeners() {
    let origin = Origin::saying("hello");
    let balancer = Balancer::start(1, &plan_for(&[&origin]));
    let address = free_address().to_string();
    let mut plan = plan_for(&[&origin]);
    plan["listeners"] = json!([listener("web", &address), listener("too", &address)]);
    let refusal = balancer.refusal(&plan);
    assert_eq!(refusal, "listeners[1].addresses[0]: used twice");
    plan["listeners"] = json!([listener("web", "127.0.0.1:0")]);
    plan["listeners"][0]["addresses"] = json!(["127.0.0.1:0", "127.0.0.1:0"]);
    let refusal = balancer.refusal(&plan);
    assert_eq!(refusal, "listeners[0].addresses[1]: used twice");
    assert_eq!(balancer.get().text(), "hello");
}

/// Tells the clients to stop, also when the test has failed.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Connects and asks until told to stop; how often that went well.
fn hammer(address: SocketAddr, stop: &AtomicBool, answered: &AtomicUsize) {
    while !stop.load(Ordering::Acquire) {
        // Before there is a socket, nobody accepts; that is not what this is about.
        let Ok(stream) = TcpStream::connect(address) else {
            continue;
        };
        let answer = Wire::new(stream).send(GET).maybe_answer();
        let answer = answer.expect("accepted and closed without an answer");
        assert_eq!(answer.text(), "hello");
        answered.fetch_add(1, Ordering::AcqRel);
    }
}

#[test]
fn a_connection_made_while_the_engine_starts_is_served() {
    let origin = Origin::saying("hello");
    for _ in 0..30 {
        let address = free_address();
        let mut plan = plan_for(&[&origin]);
        plan["listeners"] = json!([listener("web", &address.to_string())]);
        let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
        // It outlasts the clients.
        let mut balancer = None;
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| hammer(address, &stop, &answered));
            }
            let _stopping = Stopping(&stop);
            balancer = Some(Balancer::start(2, &plan));
            wait_for("answers", || answered.load(Ordering::Acquire) > 10);
        });
    }
}

#[test]
fn an_address_moves_to_another_listener_without_a_lost_connection() {
    let origin = Origin::saying("hello");
    let address = free_address();
    let mut plan = plan_for(&[&origin]);
    plan["listeners"] = json!([listener("web", &address.to_string())]);
    let mut balancer = Balancer::start(2, &plan);
    let mut kept = balancer.client();
    assert_eq!(kept.send(GET).answer().text(), "hello");
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| hammer(address, &stop, &answered));
        }
        let _stopping = Stopping(&stop);
        for turn in 0..40 {
            let name = ["too", "web"][turn % 2];
            plan["listeners"] = json!([listener(name, &address.to_string())]);
            balancer.apply(&plan);
            assert_eq!(balancer.address(name), address);
            let before = answered.load(Ordering::Acquire);
            wait_for("answers", || answered.load(Ordering::Acquire) > before + 2);
        }
    });
    // A connection from before has moved along.
    assert_eq!(kept.send(GET).answer().text(), "hello");
}

#[test]
fn an_address_moves_between_listeners_that_both_stay() {
    let origin = Origin::saying("hello");
    let (one, two) = (free_address().to_string(), free_address().to_string());
    let mut plan = plan_for(&[&origin]);
    plan["listeners"] = json!([listener("web", &one), listener("too", "127.0.0.1:0")]);
    plan["listeners"][0]["addresses"] = json!([one, two]);
    let mut balancer = Balancer::start(1, &plan);
    plan["listeners"][0]["addresses"] = json!([one]);
    plan["listeners"][1]["addresses"] = json!([two]);
    let mut client = Wire::connect(two.parse().unwrap());
    balancer.apply(&plan);
    assert_eq!(balancer.address("too").to_string(), two);
    assert_eq!(client.send(GET).answer().text(), "hello");
    assert_eq!(balancer.get().text(), "hello");
}

// Refused plans.

#[test]
fn a_refused_plan_leaves_nothing_behind() {
    let origin = Origin::saying("hello");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut balancer = Balancer::start(1, &plan_for(&[&origin]));
    let free = free_address().to_string();

    // The pool is well and new to the engine, the second listener's address is not free.
    let more = plan_for(&[&origin, &origin, &origin]);
    let mut refused = more.clone();
    refused["listeners"] = json!([
        listener("web", "127.0.0.1:0"),
        listener("good", &free),
        listener("bad", &taken.local_addr().unwrap().to_string()),
    ]);
    let refusal = balancer.refusal(&refused);
    assert!(
        refusal.starts_with("listeners[2].addresses[0]: "),
        "{refusal}"
    );
    assert!(TcpStream::connect(&free).is_err());

    let report = balancer.apply(&more);
    assert_eq!(
        (&report["endpoints_added"], &report["endpoints_removed"]),
        (&json!(2), &json!(0))
    );
    let report = balancer.apply(&plan_for(&[&origin]));
    assert_eq!(
        (&report["endpoints_added"], &report["endpoints_removed"]),
        (&json!(0), &json!(2))
    );
}

#[test]
fn text_behind_a_document_is_refused() {
    let engine = Engine::new(1).unwrap();
    let plan = plan(&[pool("p", &[])]).to_string();
    engine.apply(format!("{plan} \n").as_bytes()).unwrap();
    let refusal = engine.apply(format!("{plan} {{}}").as_bytes()).unwrap_err();
    assert!(
        refusal.to_string().contains("trailing characters"),
        "{refusal}"
    );
}

// What grows with the pool.

#[test]
fn numbers_of_endpoints_go_on_over_snapshots() {
    let origin = Origin::saying("hello");
    let balancer = Balancer::start(2, &plan_for(&[&origin]));
    let requests = |balancer: &Balancer| balancer.endpoint("e0")["requests"].clone();
    let alone = |balancer: &Balancer| {
        let numbers = balancer.engine.endpoint("p", "e0").unwrap();
        serde_json::from_slice::<Value>(&numbers).unwrap()["requests"].clone()
    };
    for round in 1..4 {
        for _ in 0..4 {
            assert_eq!(balancer.get().status(), 200);
        }
        wait_for("all to be counted", || alone(&balancer) == 4 * round);
        assert_eq!(requests(&balancer), 4 * round);
        assert_eq!(requests(&balancer), 4 * round, "a second snapshot");
        assert_eq!(alone(&balancer), 4 * round);
    }
    let served = balancer.snapshot()["requests"].clone();
    assert_eq!(served[0]["count"], 12, "{served}");
}

#[test]
fn what_is_counted_of_a_removed_endpoint_is_forgotten_once_nothing_is_in_flight() {
    let held = Origin::serving(|wire, _| {
        while wire.request().is_some() {
            std::thread::sleep(std::time::Duration::from_millis(300));
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let mut balancer = Balancer::start(1, &plan_for(&[&held, &held]));
    let mut clients = [balancer.client(), balancer.client()];
    for client in &mut clients {
        client.send(GET);
    }
    wait_for("both", || held.open() == 2);
    let mut plan = plan_for(&[&held]);
    plan["revision"] = json!(2);
    balancer.apply(&plan);
    for client in &mut clients {
        assert_eq!(client.answer().status(), 200);
    }
    // The connection to the removed one is not kept.
    wait_for("one connection", || held.open() == 1);
    let snapshot = balancer.snapshot();
    assert_eq!(snapshot["endpoints"].as_array().unwrap().len(), 1);
    assert_eq!(balancer.endpoint("e0")["requests"], 1);
}

// Kept connections.

#[test]
fn as_many_connections_are_kept_as_were_in_use_at_once() {
    let origin = Origin::serving(|wire, _| {
        while wire.request().is_some() {
            std::thread::sleep(std::time::Duration::from_millis(100));
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let mut plan = plan_for(&[&origin]);
    plan["pools"][0]["connections"]["idle_ms"] = json!(1500);
    let balancer = Balancer::start(1, &plan);
    let mut clients: Vec<Wire> = (0..200).map(|_| balancer.client()).collect();
    let mut round = || {
        for client in &mut clients {
            client.send(GET);
        }
        for client in &mut clients {
            assert_eq!(client.answer().status(), 200);
        }
    };
    round();
    let connected = origin.connections();
    assert!(connected > 130, "{connected} at once");
    for _ in 0..3 {
        round();
    }
    let more = origin.connections() - connected;
    assert!(more <= 200 - connected, "{more} more, {connected} before");
    // What is not needed any more closes.
    wait_for("the unused ones to close", || {
        balancer.get();
        origin.open() <= 2
    });
}
