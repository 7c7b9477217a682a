//! Requests that wait for a place at an endpoint get it in order of arrival.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::net::{Balancer, GET, Origin, wait_for};
use crate::support::{endpoint, plan, pool};
use serde_json::{Value, json};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// An origin that takes so long for each request, and the targets it was asked for, in order.
fn slow(each: Duration) -> (Origin, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let origin = Origin::serving(move |wire, _| {
        while let Some(request) = wire.request() {
            let target = request.head.split(' ').nth(1).unwrap().to_owned();
            log.lock().unwrap().push(target);
            std::thread::sleep(each);
            wire.send(OK);
        }
    });
    (origin, asked)
}

/// One request at a time at each origin, and a queue.
fn queueing(origins: &[&Origin], timeout_ms: u64) -> Value {
    let endpoints: Vec<Value> = (0..)
        .zip(origins)
        .map(|(index, origin)| {
            let mut endpoint = endpoint(&format!("e{index}"), &origin.address.to_string());
            endpoint["max_connections"] = json!(1);
            endpoint
        })
        .collect();
    let mut plan = plan(&[pool("p", &endpoints)]);
    plan["pools"][0]["queue"] = json!({"max": 1000, "timeout_ms": timeout_ms});
    plan
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn waiting(balancer: &Balancer) -> u64 {
    balancer.snapshot()["pools"][0]["queue_length"]
        .as_u64()
        .unwrap()
}

#[test]
fn a_pipelining_client_waits_in_turn_with_the_others() {
    let (origin, asked) = slow(Duration::from_millis(20));
    let balancer = Balancer::start(2, &queueing(&[&origin], 1500));
    let mut many = balancer.client();
    for number in 0..150 {
        many.send(get(&format!("/many/{number}")));
    }
    wait_for("the first request", || !asked.lock().unwrap().is_empty());
    let mut others: Vec<_> = (0..5).map(|_| balancer.client()).collect();
    for (number, other) in others.iter_mut().enumerate() {
        other.send(get(&format!("/other/{number}")));
    }
    for other in &mut others {
        assert_eq!(other.answer().status(), 200);
    }
    let before = asked.lock().unwrap().len();
    assert!(before < 30, "{before} requests before the others' last");
}

#[test]
fn places_go_in_order_of_arrival_over_all_workers() {
    let (origin, asked) = slow(Duration::from_millis(40));
    let balancer = Balancer::start(2, &queueing(&[&origin], 10_000));
    let mut clients: Vec<_> = (0..24).map(|_| balancer.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(get(&format!("/{number}")));
        wait_for("the request to be queued", || {
            waiting(&balancer) as usize + asked.lock().unwrap().len() > number
        });
    }
    for client in &mut clients {
        assert_eq!(client.answer().status(), 200);
    }
    let expected: Vec<_> = (0..24).map(|number| format!("/{number}")).collect();
    assert_eq!(*asked.lock().unwrap(), expected);
}

#[test]
fn nobody_waits_behind_one_that_has_no_use_for_what_is_free() {
    let failing = Origin::answering("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n");
    let (held, asked) = slow(Duration::from_millis(1500));
    let mut plan = queueing(&[&failing, &held], 10_000);
    plan["routes"][0]["retries"]["max"] = json!(1);
    plan["routes"][0]["retries"]["statuses"] = json!([500]);
    plan["routes"][0]["retries"]["delay_ms"] = json!(200);
    let balancer = Balancer::start(2, &plan);
    // The first fails at the first origin; before its retry the second request takes the second.
    let mut first = balancer.client();
    first.send(get("/first"));
    wait_for("a failure", || failing.requests().len() == 1);
    let mut second = balancer.client();
    second.send(get("/second"));
    wait_for("a retry in the queue", || waiting(&balancer) == 1);
    // The first origin is free, and of no use to the retry.
    assert_eq!(balancer.client().send(get("/third")).answer().status(), 500);
    assert_eq!(waiting(&balancer), 1);
    assert_eq!(second.answer().status(), 200);
    assert_eq!(first.answer().status(), 200);
    assert_eq!(*asked.lock().unwrap(), ["/second", "/first"]);
}

#[test]
fn a_client_that_leaves_while_it_waits_is_never_sent() {
    let (origin, asked) = slow(Duration::from_millis(300));
    let balancer = Balancer::start(2, &queueing(&[&origin], 10_000));
    let mut first = balancer.client();
    first.send(get("/first"));
    wait_for("the first request", || !asked.lock().unwrap().is_empty());
    let mut gone: Vec<_> = (0..4).map(|_| balancer.client()).collect();
    for client in &mut gone {
        client.send(get("/gone"));
    }
    wait_for("four to wait", || waiting(&balancer) == 4);
    let mut last = balancer.client();
    last.send(get("/last"));
    wait_for("five to wait", || waiting(&balancer) == 5);
    let left = std::time::Instant::now();
    drop(gone);
    wait_for("those who left to leave the queue", || {
        waiting(&balancer) == 1
    });
    assert!(left.elapsed() < Duration::from_millis(100));
    assert_eq!(first.answer().status(), 200);
    assert_eq!(last.answer().status(), 200);
    assert_eq!(*asked.lock().unwrap(), ["/first", "/last"]);
}

#[test]
fn those_who_wait_are_served_when_more_room_is_made_and_refused_when_none_can_serve() {
    let (origin, asked) = slow(Duration::from_millis(500));
    let balancer = Balancer::start(2, &queueing(&[&origin], 10_000));
    let mut clients: Vec<_> = (0..4).map(|_| balancer.client()).collect();
    for client in &mut clients {
        client.send(GET);
    }
    wait_for("three to wait", || waiting(&balancer) == 3);
    let update = json!({"pool": "p", "id": "e0", "up": null, "drain": null, "weight": null,
        "max_connections": 3, "addresses": null});
    balancer
        .engine
        .set_endpoint(update.to_string().as_bytes())
        .unwrap();
    wait_for("three at the origin", || asked.lock().unwrap().len() == 3);
    assert_eq!(waiting(&balancer), 1);
    let update = json!({"pool": "p", "id": "e0", "up": false, "drain": null, "weight": null,
        "max_connections": null, "addresses": null});
    balancer
        .engine
        .set_endpoint(update.to_string().as_bytes())
        .unwrap();
    let mut statuses: Vec<_> = clients.iter_mut().map(|c| c.answer().status()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 503]);
}

#[test]
fn a_place_that_many_contend_for_is_never_lost() {
    let origins: Vec<_> = (0..3).map(|_| Origin::saying("ok")).collect();
    let origins: Vec<_> = origins.iter().collect();
    let balancer = Balancer::start(2, &queueing(&origins, 10_000));
    std::thread::scope(|scope| {
        for client in 0..12 {
            let balancer = &balancer;
            scope.spawn(move || {
                let mut wire = balancer.client();
                for number in 0..200 {
                    if (client + number) % 7 == 0 {
                        // One that leaves at once, wherever its request is by then.
                        balancer.client().send(GET);
                    }
                    assert_eq!(wire.send(GET).answer().status(), 200);
                }
            });
        }
    });
    wait_for("everything to be given back", || {
        let snapshot = balancer.snapshot();
        let endpoints = snapshot["endpoints"].as_array().unwrap();
        waiting(&balancer) == 0 && endpoints.iter().all(|one| one["in_flight"] == 0)
    });
}
