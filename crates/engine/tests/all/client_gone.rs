//! Clients that leave while their request waits for something: the wait ends, and nothing further
//! is sent to an endpoint.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use crate::support::net::{Balancer, GET, Origin, Wire, wait_for};
use crate::support::{endpoint, plan, pool};
use serde_json::{Value, json};

/// How soon a client's leaving must end what it waited for; room for a busy machine on top.
const SOON: Duration = Duration::from_millis(100);
const BUSY_MACHINE: Duration = Duration::from_millis(200);

/// An origin that answers nothing until its connection ends.
fn silent() -> Origin {
    Origin::serving(|wire, _| {
        wire.head();
        wire.rest();
    })
}

fn plan_for(origin: &Origin) -> Value {
    plan(&[pool("p", &[endpoint("e", &origin.address.to_string())])])
}

/// How many requests ended because their client had left.
fn gone(balancer: &Balancer) -> u64 {
    let snapshot = balancer.snapshot();
    let errors = snapshot["errors"].as_array().unwrap();
    let entry = errors.iter().find(|entry| entry["reason"] == "client_gone");
    entry.map_or(0, |entry| entry["count"].as_u64().unwrap())
}

/// Waits until so many clients have been counted as gone; it must not take long.
fn counted_soon(balancer: &Balancer, count: u64) {
    let began = Instant::now();
    wait_for("the client to be counted as gone", || {
        gone(balancer) == count
    });
    let took = began.elapsed();
    assert!(took < SOON + BUSY_MACHINE, "noticed after {took:?}");
}

fn half_close(client: &mut Wire) {
    client.stream.shutdown(Shutdown::Write).unwrap();
}

#[test]
fn a_client_that_ends_its_side_ends_its_request() {
    let origin = silent();
    let balancer = Balancer::start(1, &plan_for(&origin));
    let mut client = balancer.client();
    client.send(GET);
    wait_for("the request at its origin", || origin.open() == 1);
    half_close(&mut client);
    counted_soon(&balancer, 1);
    wait_for("the request's end at its origin", || origin.open() == 0);
    assert_eq!(client.maybe_answer().map(|answer| answer.head), None);
}

#[test]
fn a_pipelined_request_does_not_look_like_a_client_that_left() {
    let origin = Origin::serving(|wire, _| {
        let mut number = 0;
        while wire.request().is_some() {
            std::thread::sleep(Duration::from_millis(5));
            wire.send(format!(
                "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{number:03}"
            ));
            number += 1;
        }
    });
    let balancer = Balancer::start(1, &plan_for(&origin));
    let mut client = balancer.client();
    // The first bytes of the second request come while the first waits.
    client.send(GET);
    wait_for("the request at its origin", || origin.open() == 1);
    client.send(&GET[..10]);
    assert_eq!(client.answer().text(), "000");
    client.send(&GET[10..]);
    assert_eq!(client.answer().text(), "001");
    // Many at once, more than a buffer holds, and a body's end between two of them.
    let post = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    client.send(post);
    std::thread::sleep(Duration::from_millis(5));
    let long = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(400)
    );
    client.send("0\r\n\r\n").send(long.repeat(100));
    for number in 2..103 {
        assert_eq!(client.answer().text(), format!("{number:03}"));
    }
    assert_eq!(gone(&balancer), 0);
}

#[test]
fn a_client_that_leaves_the_queue_is_not_sent_later() {
    let origin = silent();
    let mut plan = plan_for(&origin);
    plan["pools"][0]["endpoints"][0]["max_connections"] = json!(1);
    plan["pools"][0]["queue"] = json!({"max": 10, "timeout_ms": 10000});
    let balancer = Balancer::start(1, &plan);
    let mut first = balancer.client();
    first.send(GET);
    wait_for("the first request at its origin", || origin.open() == 1);
    let mut second = balancer.client();
    second.send(GET);
    wait_for("the queue", || {
        balancer.snapshot()["pools"][0]["queue_length"] == 1
    });
    drop(second);
    counted_soon(&balancer, 1);
    drop(first);
    counted_soon(&balancer, 2);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_client_that_leaves_in_the_retry_delay_is_not_sent_later() {
    let origin = Origin::serving(|wire, _| {
        wire.head();
    });
    let mut plan = plan_for(&origin);
    plan["routes"][0]["retries"]["max"] = json!(3);
    plan["routes"][0]["retries"]["delay_ms"] = json!(1000);
    let balancer = Balancer::start(1, &plan);
    let mut client = balancer.client();
    client.send(GET);
    wait_for("the first attempt", || {
        balancer.snapshot()["pools"][0]["retries"]["reset"] == 1
    });
    drop(client);
    counted_soon(&balancer, 1);
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_client_that_leaves_while_its_request_connects_is_not_sent_later() {
    // Nobody accepts, and the queue of the socket is full: further connections hang.
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let _filling: Vec<_> = (0..4)
        .map(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100)))
        .collect();
    let plan = plan(&[pool("p", &[endpoint("e", &address.to_string())])]);
    let balancer = Balancer::start(1, &plan);
    let mut client = balancer.client();
    client.send(GET);
    wait_for("the request", || balancer.endpoint("e")["in_flight"] == 1);
    half_close(&mut client);
    counted_soon(&balancer, 1);
    assert_eq!(balancer.endpoint("e")["in_flight"], 0);
}

#[test]
fn a_client_that_leaves_in_an_injected_delay_is_not_sent_later() {
    let origin = silent();
    let mut plan = plan_for(&origin);
    plan["routes"][0]["fault"] = json!({
        "delay_ms": 1000, "delay_share": 1.0, "abort_status": 0, "abort_share": 0.0,
    });
    let balancer = Balancer::start(1, &plan);
    let mut client = balancer.client();
    client.send(GET);
    wait_for("the delay", || {
        !balancer.snapshot()["routes"].to_string().is_empty()
    });
    std::thread::sleep(Duration::from_millis(50));
    drop(client);
    counted_soon(&balancer, 1);
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_client_that_leaves_an_upload_ends_it() {
    let origin = silent();
    let balancer = Balancer::start(1, &plan_for(&origin));
    let mut client = balancer.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nbegun");
    wait_for("the request at its origin", || origin.open() == 1);
    drop(client);
    counted_soon(&balancer, 1);
    wait_for("the request's end at its origin", || origin.open() == 0);
}

#[test]
fn a_route_may_let_requests_of_gone_clients_finish() {
    let (begun, ended) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
    let (tell_begun, tell_ended) = (begun.0, ended.0);
    let origin = Origin::serving(move |wire, _| {
        while wire.request().is_some() {
            tell_begun.send(()).unwrap();
            std::thread::sleep(Duration::from_millis(300));
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 3000000\r\n\r\n");
            wire.send("x".repeat(3_000_000));
            tell_ended.send(()).unwrap();
        }
    });
    let mut plan = plan_for(&origin);
    plan["routes"][0]["on_client_close"] = json!("finish");
    let balancer = Balancer::start(1, &plan);

    // One that only ends its side gets its answer.
    let mut client = balancer.client();
    client.send(GET);
    half_close(&mut client);
    assert_eq!(client.answer().body.len(), 3_000_000);
    ended.1.recv().unwrap();
    begun.1.recv().unwrap();

    // One that is gone is counted, when all of the answer was read.
    let mut client = balancer.client();
    client.send(GET);
    begun.1.recv().unwrap();
    let socket = socket2::SockRef::from(&client.stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    ended.1.recv_timeout(Duration::from_secs(5)).unwrap();
    wait_for("the client to be counted as gone", || gone(&balancer) == 1);
    assert_eq!(origin.connections(), 1, "the connection is kept");
}
