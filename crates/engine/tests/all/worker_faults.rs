//! Programming errors while serving: a worker that panics begins anew, a task that panics costs its
//! own connection, and neither leaves anything counted that is over.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use evenflow_engine::PanicAt;
use serde_json::{Value, json};

use crate::support::net::{Balancer, GET, Origin, Wire, wait_for};
use crate::support::{endpoint, listener, plan, pool};

fn plan_for(origin: &Origin) -> Value {
    plan(&[pool("p", &[endpoint("e", &origin.address.to_string())])])
}

fn silent() -> Origin {
    Origin::serving(|wire, _| {
        wire.head();
        wire.rest();
    })
}

fn counted(balancer: &Balancer, what: &str) -> u64 {
    let snapshot = balancer.snapshot();
    let workers = snapshot["workers"].as_array().unwrap();
    let counts = workers.iter().map(|worker| worker[what].as_u64().unwrap());
    counts.sum()
}

fn restarted(balancer: &Balancer, times: u64) {
    wait_for("the worker to begin anew", || {
        counted(balancer, "restarts") == times
    });
}

fn connections(balancer: &Balancer) -> u64 {
    let snapshot = balancer.snapshot();
    snapshot["listeners"][0]["connections"].as_u64().unwrap()
}

fn events(balancer: &Balancer) -> Vec<Value> {
    serde_json::from_slice(&balancer.engine.take_events().unwrap()).unwrap()
}

#[test]
fn a_worker_that_panics_serves_again_on_the_same_sockets() {
    let origin = Origin::saying("hello");
    let balancer = Balancer::start(1, &plan_for(&origin));
    for (times, at) in [(1, PanicAt::Command), (2, PanicAt::Sweep)] {
        assert_eq!(balancer.get().text(), "hello");
        balancer.engine.panic(0, at);
        restarted(&balancer, times);
        assert_eq!(balancer.get().text(), "hello");
    }
    let events = events(&balancer);
    assert_eq!(
        events,
        [
            json!({"kind": "worker_restarted", "worker": 0, "reason": "injected into a command"}),
            json!({"kind": "worker_restarted", "worker": 0, "reason": "injected into Sweep"}),
        ]
    );
    // Counters go on where they were, or rates over them would show a fall.
    assert_eq!(balancer.endpoint("e")["requests"], 4);
}

#[test]
fn what_was_open_in_a_worker_that_panics_is_counted_no_longer() {
    let origin = silent();
    let balancer = Balancer::start(1, &plan_for(&origin));
    let mut client = balancer.client();
    client.send(GET);
    let idle = balancer.client();
    wait_for("the request at its origin", || origin.open() == 1);
    wait_for("both connections", || connections(&balancer) == 2);
    assert_eq!(balancer.endpoint("e")["in_flight"], 1);
    balancer.engine.panic(0, PanicAt::Command);
    restarted(&balancer, 1);
    assert_eq!(client.maybe_answer().map(|answer| answer.head), None);
    drop(idle);
    assert_eq!(connections(&balancer), 0);
    assert_eq!(balancer.endpoint("e")["in_flight"], 0);
    wait_for("the request's end at its origin", || origin.open() == 0);
    let drained: Value = serde_json::from_slice(&balancer.engine.drain(5.0).unwrap()).unwrap();
    assert_eq!(drained["clean"], true);
}

#[test]
fn the_other_workers_serve_on() {
    let origin = Origin::saying("hello");
    let balancer = Balancer::start(2, &plan_for(&origin));
    // Enough connections for both workers to have some.
    let mut clients: Vec<Wire> = (0..32).map(|_| balancer.client()).collect();
    for client in &mut clients {
        assert_eq!(client.send(GET).answer().text(), "hello");
    }
    balancer.engine.panic(0, PanicAt::Command);
    restarted(&balancer, 1);
    let served = clients.iter_mut().filter_map(|client| {
        // The other end may have reset it already.
        let sent = std::io::Write::write_all(&mut client.stream, GET.as_bytes()).is_ok();
        sent.then(|| client.maybe_answer()).flatten()
    });
    let served = served.count();
    assert!(served > 0, "no connection of the other worker is left");
    assert!(served < 32, "the worker that panicked had no connection");
    assert_eq!(connections(&balancer), served as u64);
}

#[test]
fn a_connection_that_waits_to_be_accepted_is_not_lost() {
    let origin = Origin::saying("hello");
    let balancer = Balancer::start(1, &plan_for(&origin));
    balancer.engine.panic(0, PanicAt::Command);
    // Made while the worker is away, or just before or after.
    let mut client = balancer.client();
    restarted(&balancer, 1);
    assert_eq!(client.send(GET).answer().text(), "hello");
}

#[test]
fn a_panic_while_accepting_costs_that_connection_only() {
    let origin = Origin::saying("hello");
    let balancer = Balancer::start(1, &plan_for(&origin));
    let mut kept = balancer.client();
    assert_eq!(kept.send(GET).answer().text(), "hello");
    balancer.engine.panic(0, PanicAt::Accept);
    assert_eq!(counted(&balancer, "panics"), 0);
    assert_eq!(balancer.client().rest(), b"");
    assert_eq!(counted(&balancer, "panics"), 1);
    assert_eq!(balancer.get().text(), "hello");
    assert_eq!(kept.send(GET).answer().text(), "hello");
    assert_eq!(counted(&balancer, "restarts"), 0);
}

#[test]
fn a_panic_in_a_request_costs_that_connection_only_and_gives_back_its_places() {
    let origin = Origin::saying("hello");
    let mut plan = plan_for(&origin);
    plan["pools"][0]["endpoints"][0]["max_connections"] = json!(1);
    let balancer = Balancer::start(1, &plan);
    let mut kept = balancer.client();
    assert_eq!(kept.send(GET).answer().text(), "hello");
    balancer.engine.panic(0, PanicAt::Request);
    assert_eq!(balancer.client().send(GET).rest(), b"");
    assert_eq!(counted(&balancer, "panics"), 1);
    assert_eq!(balancer.endpoint("e")["in_flight"], 0);
    assert_eq!(connections(&balancer), 1);
    assert_eq!(kept.send(GET).answer().text(), "hello");
    assert_eq!(counted(&balancer, "restarts"), 0);
    let drained: Value = serde_json::from_slice(&balancer.engine.drain(5.0).unwrap()).unwrap();
    assert_eq!(drained["clean"], true);
}

#[test]
fn sockets_follow_plans_after_a_restart() {
    let origin = Origin::saying("hello");
    let mut plan = plan_for(&origin);
    plan["listeners"] = json!([listener("first", "127.0.0.1:0")]);
    let mut balancer = Balancer::start(1, &plan);
    balancer.engine.panic(0, PanicAt::Command);
    restarted(&balancer, 1);
    let old = balancer.address("first");
    // Another listener takes the address over, and one more comes.
    let taken = json!([
        listener("other", &old.to_string()),
        listener("web", "127.0.0.1:0")
    ]);
    plan["listeners"] = taken;
    balancer.apply(&plan);
    assert_eq!(Wire::connect(old).send(GET).answer().text(), "hello");
    assert_eq!(balancer.get().text(), "hello");
    balancer.engine.panic(0, PanicAt::Command);
    restarted(&balancer, 2);
    assert_eq!(Wire::connect(old).send(GET).answer().text(), "hello");
    assert_eq!(balancer.get().text(), "hello");
    plan["listeners"] = json!([listener("web", "127.0.0.1:0")]);
    balancer.apply(&plan);
    let refused = std::net::TcpStream::connect_timeout(&old, Duration::from_secs(1));
    assert!(refused.is_err(), "the socket is open still");
}

#[test]
fn datagrams_are_served_after_a_restart() {
    let echo = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = echo.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((size, from)) = echo.recv_from(&mut buffer) {
            echo.send_to(&buffer[..size], from).unwrap();
        }
    });
    let mut plan = plan(&[pool("p", &[endpoint("e", &address.to_string())])]);
    let mut dns = listener("dns", "127.0.0.1:0");
    dns["protocol"] = json!("udp");
    dns["pool"] = json!("p");
    plan["listeners"] = json!([dns]);
    let balancer = Balancer::start(1, &plan);
    let ask = |client: &UdpSocket, to: SocketAddr| {
        client.send_to(b"ping", to).unwrap();
        let mut buffer = [0; 100];
        client.recv(&mut buffer).unwrap()
    };
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    assert_eq!(ask(&client, balancer.address("dns")), 4);
    balancer.engine.panic(0, PanicAt::Command);
    restarted(&balancer, 1);
    assert_eq!(ask(&client, balancer.address("dns")), 4);
    assert_eq!(balancer.endpoint("e")["in_flight"], 1);
    assert_eq!(connections(&balancer), 1);
}
