//! Requests through a running engine, over real sockets: what endpoints and clients get, and what
//! is counted.

use std::time::Duration;

use crate::support::net::{Balancer, GET, Origin, wait_for};
use crate::support::{endpoint, plan, pool};
use serde_json::{Value, json};

/// A plan whose only pool has these origins, called `e0`, `e1`, …
fn plan_for(origins: &[&Origin]) -> Value {
    let endpoints: Vec<Value> = (0..)
        .zip(origins)
        .map(|(index, origin)| endpoint(&format!("e{index}"), &origin.address.to_string()))
        .collect();
    plan(&[pool("p", &endpoints)])
}

#[test]
fn a_streamed_body_that_has_reached_its_limit_may_not_grow_by_one_byte() {
    let origin = Origin::saying("taken");
    let mut plan = plan_for(&[&origin]);
    plan["listeners"][0]["limits"]["body_bytes"] = json!(10);
    let balancer = Balancer::start(1, &plan);
    let begin =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n";

    let mut exact = balancer.client();
    exact.send(begin);
    wait_for("the request's beginning at the origin", || {
        origin.open() == 1
    });
    assert_eq!(exact.send("0\r\n\r\n").answer().status(), 200);

    let mut over = balancer.client();
    over.send(begin);
    wait_for("the second request", || {
        balancer.endpoint("e0")["in_flight"] == 1
    });
    assert_eq!(over.send("1\r\nx\r\n0\r\n\r\n").answer().status(), 413);
}

#[test]
fn a_request_without_a_host_goes_out_with_the_endpoints_own() {
    let origin = Origin::saying("hello");
    let balancer = Balancer::start(1, &plan_for(&[&origin]));
    for request in ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\r\nHost:\r\n\r\n"] {
        assert_eq!(balancer.client().send(request).answer().status(), 200);
    }
    let address = origin.address.to_string();
    for request in origin.requests() {
        assert_eq!(request.field("host"), Some(address.as_str()));
        assert_eq!(request.field("x-forwarded-host"), None);
    }
}

#[test]
fn an_endpoint_is_free_again_once_its_client_has_the_whole_answer() {
    let answers = [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        // An answer of the balancer's own.
        "HTTP/9.9 nonsense\r\n\r\n",
    ];
    for answer in answers {
        let origin = Origin::answering(answer);
        let mut plan = plan_for(&[&origin]);
        plan["pools"][0]["endpoints"][0]["max_connections"] = json!(1);
        let balancer = Balancer::start(2, &plan);
        for number in 0..1000 {
            // On a connection of its own each, so that either worker may get it.
            let status = balancer.get().status();
            assert_ne!(status, 503, "request {number}, {answer:?}");
        }
    }
}

#[test]
fn what_is_uploaded_is_counted_whole() {
    let origin = Origin::saying("taken");
    let balancer = Balancer::start(1, &plan_for(&[&origin]));
    let mut sent = 0;
    for (method, size) in [("POST", 300_000), ("PUT", 60_000), ("PUT", 10)] {
        let mut client = balancer.client();
        client.send(format!(
            "{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"
        ));
        client.send("x".repeat(size));
        assert_eq!(client.answer().status(), 200);
        sent += size as u64;
    }
    wait_for("the last request to be counted", || {
        balancer.endpoint("e0")["requests"] == 3
    });
    let counted = balancer.endpoint("e0")["bytes_sent"].as_u64().unwrap();
    // The heads are counted, too.
    assert!(
        (sent..sent + 3000).contains(&counted),
        "{counted} for {sent}"
    );
}

#[test]
fn an_answer_that_breaks_before_the_client_has_any_of_it_is_asked_for_again() {
    let origin = Origin::serving(|wire, number| {
        while wire.request().is_some() {
            wire.send(if number % 2 == 0 {
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n"
            } else {
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
            });
        }
    });
    let mut plan = plan_for(&[&origin]);
    plan["routes"][0]["retries"]["max"] = json!(1);
    let balancer = Balancer::start(1, &plan);
    assert_eq!(balancer.get().text(), "hello");

    // Connection 1 is kept and would answer well: do without it.
    plan["pools"][0]["connections"]["max_idle"] = json!(0);
    let balancer = Balancer::start(1, &plan);
    let mut client = balancer.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!(client.answer().status(), 502);
    // The connection to the client is in order: it may go on.
    assert_eq!(client.send(GET).answer().text(), "hello");
}

#[test]
fn a_client_that_goes_away_is_not_held_against_the_endpoint() {
    let origin = Origin::serving(|wire, _| {
        wire.head();
        wire.rest();
    });
    let mut plan = plan_for(&[&origin, &origin]);
    plan["pools"][0]["outlier"] = json!({"consecutive_errors": 1, "base_ejection_ms": 60000,
        "max_ejection_ms": 60000, "max_ejected": 1.0});
    let balancer = Balancer::start(1, &plan);
    for number in 0..4 {
        let mut client = balancer.client();
        client.send(GET);
        wait_for("the request at its origin", || {
            origin.connections() == number + 1
        });
        let socket = socket2::SockRef::from(&client.stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        wait_for("the request's end", || origin.open() == 0);
    }
    for id in ["e0", "e1"] {
        let endpoint = balancer.endpoint(id);
        assert_eq!(
            (&endpoint["usable"], &endpoint["errors"]["reset"]),
            (&json!(true), &json!(0))
        );
    }
}

#[test]
fn trace_is_for_listeners_that_allow_it() {
    let origin = Origin::saying("traced");
    let mut plan = plan_for(&[&origin]);
    let mut balancer = Balancer::start(1, &plan);
    let request = "TRACE /x HTTP/1.1\r\nHost: a\r\nCookie: secret\r\nMax-Forwards: 1\r\n\r\n";
    let mut client = balancer.client();
    let refused = client.send(request).answer();
    assert_eq!(refused.status(), 405);
    assert!(
        refused
            .field("allow")
            .is_some_and(|allow| !allow.contains("TRACE"))
    );
    assert_eq!(origin.requests().len(), 0);

    plan["listeners"][0]["trace"] = json!(true);
    balancer.apply(&plan);
    assert_eq!(client.send(request).answer().text(), "traced");
    assert_eq!(origin.requests()[0].field("max-forwards"), Some("0"));

    let last = client
        .send(request.replace("Forwards: 1", "Forwards: 0"))
        .answer();
    assert_eq!(last.field("content-type"), Some("message/http"));
    assert_eq!(
        last.text(),
        "TRACE /x HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n"
    );
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_head_of_bare_carriage_returns_is_answered_at_once() {
    let origin = Origin::saying("never");
    let balancer = Balancer::start(1, &plan_for(&[&origin]));
    let begun = std::time::Instant::now();
    let answer = balancer
        .client()
        .send("GET / HTTP/1.1\rHost: a\r\r")
        .answer();
    assert_eq!(answer.status(), 400);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "the head's timeout is 10 s"
    );
}
