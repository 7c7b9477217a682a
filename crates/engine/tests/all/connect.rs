//! One unreachable address of a name costs a quarter of a second, once.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use evenflow_engine::connect::{attempts, connect};
use evenflow_state::address::{Address, Preferred};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::support::net::{Balancer, GET, Origin, wait_for};
use crate::support::{endpoint, plan, pool};

/// An address on loopback that answers no attempt to connect: its queue is full, and the kernel
/// drops what comes on top.
struct BlackHole {
    address: SocketAddr,
    _listening: Socket,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    fn new(ip: &str) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = format!("{ip}:0").parse().unwrap();
        socket.bind(&any.into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            queued.push(stream);
            assert!(queued.len() < 16, "the queue of {address} does not fill");
        }
        Self {
            address,
            _listening: socket,
            _queued: queued,
        }
    }
}

fn parsed(addresses: &[&str]) -> Vec<Address> {
    let parse = |text: &&str| Address::try_from((*text).to_owned()).unwrap();
    addresses.iter().map(parse).collect()
}

#[test]
fn families_take_turns() {
    let none = Preferred::default();
    let addresses = parsed(&["[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1", "1.0.0.2:1"]);
    let order = attempts(&addresses, &none);
    let expected = parsed(&["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "[::3]:1"]);
    assert_eq!(order, expected.iter().collect::<Vec<_>>());
    let addresses = parsed(&["1.0.0.1:1", "1.0.0.2:1", "[::1]:1"]);
    let expected = parsed(&["1.0.0.1:1", "[::1]:1", "1.0.0.2:1"]);
    assert_eq!(
        attempts(&addresses, &none),
        expected.iter().collect::<Vec<_>>()
    );
    assert!(attempts(&[], &none).is_empty());
}

/// Runs to the end.
fn finish<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(future)
}

#[test]
fn an_attempt_that_fails_makes_room_for_the_next_at_once() {
    let origin = Origin::saying("here");
    let alive = origin.address.to_string();
    // Nobody listens on port 1.
    let addresses = parsed(&["127.0.0.2:1", "127.0.0.3:1", "127.0.0.4:1", &alive]);
    let preferred = Preferred::default();
    let begun = Instant::now();
    finish(connect(&addresses, &preferred)).unwrap();
    assert!(
        begun.elapsed() < Duration::from_millis(200),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(attempts(&addresses, &preferred)[0], &addresses[3]);
    let refused = finish(connect(&addresses[..3], &preferred)).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(finish(connect(&[], &preferred)).is_err());
}

#[test]
fn an_address_that_does_not_answer_costs_a_quarter_of_a_second_once() {
    let hole = BlackHole::new("127.0.0.2");
    let origin =
        Origin::answering("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello");
    let mut member = endpoint("e0", &hole.address.to_string());
    member["addresses"] = json!([hole.address.to_string(), origin.address.to_string()]);
    let balancer = Balancer::start(1, &plan(&[pool("p", &[member])]));
    let took = || {
        let begun = Instant::now();
        assert_eq!(balancer.client().send(GET).answer().text(), "hello");
        begun.elapsed()
    };
    let first = took();
    assert!(
        (Duration::from_millis(200)..Duration::from_secs(2)).contains(&first),
        "the first request took {first:?}; the connect timeout is 5 s"
    );
    let second = took();
    assert!(
        second < Duration::from_millis(200),
        "the second request took {second:?}"
    );
    assert_eq!(balancer.endpoint("e0")["errors"]["connect"], 0);
}

#[test]
fn a_probe_finds_the_address_that_answers_and_requests_remember_it() {
    let hole = BlackHole::new("127.0.0.2");
    let origin = Origin::saying("hello");
    let both = json!([hole.address.to_string(), origin.address.to_string()]);
    let mut member = endpoint("e0", &hole.address.to_string());
    member["addresses"] = both.clone();
    let balancer = Balancer::start(1, &plan(&[pool("p", &[member])]));
    let probe = json!([{
        "id": 1, "addresses": both, "timeout_ms": 5000, "http": null, "http2": false,
        "endpoint": {"pool": "p", "backend": "e0"}, "encrypted": false, "send_proxy": null,
    }]);
    balancer
        .engine
        .submit_probes(probe.to_string().as_bytes())
        .unwrap();
    let mut outcome = Value::Null;
    wait_for("the probe's result", || {
        let events: Value =
            serde_json::from_slice(&balancer.engine.take_events().unwrap()).unwrap();
        outcome = events[0].clone();
        !outcome.is_null()
    });
    assert_eq!(outcome["outcome"], "ok", "{outcome}");
    let begun = Instant::now();
    assert_eq!(balancer.get().text(), "hello");
    assert!(
        begun.elapsed() < Duration::from_millis(200),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn the_connect_timeout_bounds_all_attempts() {
    let (one, other) = (BlackHole::new("127.0.0.2"), BlackHole::new("127.0.0.3"));
    let mut member = endpoint("e0", &one.address.to_string());
    member["addresses"] = json!([one.address.to_string(), other.address.to_string()]);
    member["connect_timeout_ms"] = json!(600);
    let balancer = Balancer::start(1, &plan(&[pool("p", &[member])]));
    let begun = Instant::now();
    assert_eq!(balancer.get().status(), 504);
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
}
