//! How often a request reaches endpoints that fail it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::net::{Balancer, GET, Origin, wait_for};
use crate::support::{endpoint, plan, pool};
use serde_json::{Value, json};

/// Endpoints that answer everything but `/kill`, at which they close the connection; how many
/// copies of that they got.
fn killers(count: usize) -> (Vec<Origin>, Arc<AtomicUsize>) {
    let copies = Arc::new(AtomicUsize::new(0));
    let origins = (0..count).map(|_| {
        let copies = Arc::clone(&copies);
        Origin::serving(move |wire, _| {
            while let Some(request) = wire.request() {
                if request.head.contains(" /kill ") {
                    copies.fetch_add(1, Ordering::AcqRel);
                    break;
                }
                wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            }
        })
    });
    (origins.collect(), copies)
}

fn plan_for(origins: &[Origin], retries: u32) -> Value {
    let endpoints: Vec<Value> = (0..)
        .zip(origins)
        .map(|(index, origin)| endpoint(&format!("e{index}"), &origin.address.to_string()))
        .collect();
    let mut plan = plan(&[pool("p", &endpoints)]);
    plan["routes"][0]["retries"]["max"] = json!(retries);
    plan
}

/// Sends one request that kills what it meets, after every endpoint has a kept connection; the
/// status and the copies.
fn kill(retries: u32, method: &str) -> (u16, usize) {
    let (origins, copies) = killers(10);
    let balancer = Balancer::start(1, &plan_for(&origins, retries));
    let mut client = balancer.client();
    for _ in 0..10 {
        assert_eq!(client.send(GET).answer().status(), 200);
    }
    client.send(format!(
        "{method} /kill HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    ));
    let status = client.answer().status();
    (status, copies.load(Ordering::Acquire))
}

#[test]
fn a_request_at_which_kept_connections_die_is_not_carried_from_endpoint_to_endpoint() {
    assert_eq!(kill(0, "GET"), (502, 2));
    assert_eq!(kill(3, "GET"), (502, 4));
    assert_eq!(kill(0, "POST"), (502, 1));
    assert_eq!(kill(3, "POST"), (502, 1));
}

#[test]
fn what_a_kept_connection_died_of_is_held_against_the_endpoint() {
    let (origins, _) = killers(1);
    let balancer = Balancer::start(1, &plan_for(&origins, 0));
    let mut client = balancer.client();
    assert_eq!(client.send(GET).answer().status(), 200);
    client.send("POST /kill HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.answer().status(), 502);
    assert_eq!(balancer.endpoint("e0")["errors"]["reset"], 1);
}

#[test]
fn a_connection_that_the_endpoint_had_closed_costs_nothing() {
    let origin = Origin::serving(|wire, _| {
        if wire.request().is_some() {
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let mut plan = plan_for(&[], 0);
    plan["pools"] = json!([pool("p", &[endpoint("e0", &origin.address.to_string())])]);
    plan["pools"][0]["retry_floor"] = json!(0);
    let balancer = Balancer::start(1, &plan);
    let mut client = balancer.client();
    for number in 0..20 {
        wait_for("the endpoint to close", || origin.open() == 0);
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
        assert_eq!(client.answer().status(), 200, "request {number}");
    }
    assert_eq!(balancer.endpoint("e0")["errors"]["reset"], 0);
}
