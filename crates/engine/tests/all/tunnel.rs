//! Switches of protocols: which are let through, what passes then, and when it ends.

use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

use crate::support::net::{Balancer, GET, Origin, Wire, wait_for};
use crate::support::{endpoint, plan, pool, route};
use serde_json::{Value, json};

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
                   Upgrade: WebSocket\r\n\r\n";
const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                     Upgrade: websocket\r\nX-Key: 1\r\n\r\n";

/// Agrees to whatever is asked and sends back what it is sent, whole lines at a time.
fn echo() -> Origin {
    Origin::serving(|wire, _| {
        while let Some(request) = wire.request() {
            if request.field("upgrade").is_none() {
                wire.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain");
                continue;
            }
            wire.send(AGREE);
            while let Some(line) = wire.line() {
                wire.send(format!("{line}\r\n"));
            }
            wire.send("bye");
            return;
        }
    })
}

/// One origin behind a route that lets requests switch.
fn plan_for(origin: &Origin) -> Value {
    let mut plan = plan(&[pool("p", &[endpoint("e0", &origin.address.to_string())])]);
    plan["routes"][0]["upgrade"] = json!({"idle_ms": 60000, "max_ms": 0, "drain_ms": 60000});
    plan
}

fn open(balancer: &Balancer) -> Wire {
    let mut client = balancer.client();
    let head = client.send(ASK).head().expect("closed without an answer");
    assert!(
        head.starts_with("HTTP/1.1 101 Switching Protocols\n"),
        "{head}"
    );
    client
}

fn say(client: &mut Wire, text: &str) {
    client.send(format!("{text}\r\n"));
    assert_eq!(client.line().as_deref(), Some(text));
}

fn tunnels(balancer: &Balancer) -> Value {
    balancer.snapshot()["routes"][0]["tunnels"].clone()
}

fn errors(balancer: &Balancer, reason: &str) -> u64 {
    let snapshot = balancer.snapshot();
    let mut errors = snapshot["errors"].as_array().unwrap().iter();
    let found = errors.find(|error| error["reason"] == reason);
    found.map_or(0, |error| error["count"].as_u64().unwrap())
}

#[test]
fn a_switch_that_both_sides_want_makes_a_tunnel() {
    let origin = echo();
    let balancer = Balancer::start(1, &plan_for(&origin));
    let mut client = balancer.client();
    let head = client.send(ASK).head().unwrap();
    let mut lines: Vec<&str> = head.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "HTTP/1.1 101 Switching Protocols",
            "X-Key: 1",
            "connection: upgrade",
            "upgrade: websocket",
        ]
    );
    say(&mut client, "one");
    say(&mut client, "two");
    assert_eq!(balancer.endpoint("e0")["in_flight"], 1);
    assert_eq!(
        tunnels(&balancer),
        json!({"active": 1, "opened": 1, "bytes_received": 10, "bytes_sent": 10})
    );
    let methods = balancer.snapshot()["methods"].clone();
    assert_eq!(
        methods,
        json!([{"method": "GET", "status": 101, "count": 1}])
    );

    // One end of the two is passed on while the other goes on.
    client.end();
    assert_eq!(client.rest(), b"bye");
    wait_for("the tunnel's end", || tunnels(&balancer)["active"] == 0);
    assert_eq!(balancer.endpoint("e0")["in_flight"], 0);
    let numbers = balancer.endpoint("e0");
    assert!(numbers["bytes_received"].as_u64() >= Some(13), "{numbers}");
}

#[test]
fn what_comes_with_a_head_belongs_to_the_tunnel() {
    let origin = Origin::serving(|wire, _| {
        wire.request();
        wire.send(format!("{AGREE}hello\r\n"));
        assert_eq!(wire.line().as_deref(), Some("early"));
        wire.send("done");
    });
    let balancer = Balancer::start(1, &plan_for(&origin));
    let mut client = balancer.client();
    client.send(format!("{ASK}early\r\n"));
    assert!(client.head().unwrap().contains("101"));
    assert_eq!(client.line().as_deref(), Some("hello"));
    assert_eq!(client.take(4), b"done");
}

#[test]
fn an_ordinary_answer_to_the_wish_stays_one() {
    let origin = Origin::answering("HTTP/1.1 426 Upgrade Required\r\ncontent-length: 2\r\n\r\nno");
    let balancer = Balancer::start(1, &plan_for(&origin));
    let mut client = balancer.client();
    for _ in 0..2 {
        let answer = client.send(ASK).answer();
        assert_eq!((answer.status(), answer.text()), (426, "no"));
        assert_eq!(answer.field("connection"), None);
    }
    assert_eq!(origin.connections(), 1);
    assert_eq!(origin.requests()[0].field("connection"), Some("upgrade"));
    assert_eq!(origin.requests()[0].field("upgrade"), Some("WebSocket"));
}

#[test]
fn a_wish_that_is_not_to_be_granted_goes_no_further() {
    let wishes = [
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket, H2C\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: HTTP/2.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: TLS/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Content-Length: 1\r\n\r\nx",
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ];
    let origin = Origin::saying("plain");
    let balancer = Balancer::start(1, &plan_for(&origin));
    for wish in wishes {
        assert_eq!(balancer.client().send(wish).answer().text(), "plain");
        let request = origin.requests().pop().unwrap();
        let seen = (request.field("connection"), request.field("upgrade"));
        assert_eq!(seen, (None, None), "{wish:?}");
    }
    let mut plan = plan_for(&origin);
    plan["routes"][0]["upgrade"] = Value::Null;
    let balancer = Balancer::start(1, &plan);
    assert_eq!(balancer.client().send(ASK).answer().text(), "plain");
    assert_eq!(origin.requests().pop().unwrap().field("upgrade"), None);
}

#[test]
fn an_endpoint_that_switches_to_something_else_is_not_believed() {
    let answers = [
        AGREE.replace("websocket", "other"),
        AGREE.replace("Upgrade: websocket\r\n", ""),
        AGREE.replace("Connection: Upgrade\r\n", ""),
    ];
    for answer in answers {
        let origin = Origin::answering(answer.clone());
        let balancer = Balancer::start(1, &plan_for(&origin));
        let mut client = balancer.client();
        assert_eq!(client.send(ASK).answer().status(), 502, "{answer:?}");
    }
    // Nor is one that was not asked.
    let origin = Origin::answering(AGREE);
    let balancer = Balancer::start(1, &plan_for(&origin));
    assert_eq!(balancer.get().status(), 502);
}

#[test]
fn a_tunnel_lives_through_plans_that_keep_its_route() {
    let origin = echo();
    let mut plan = plan_for(&origin);
    let mut balancer = Balancer::start(2, &plan);
    let mut client = open(&balancer);
    let address = origin.address.to_string();
    for turn in 0..5 {
        plan["revision"] = json!(turn + 2);
        let mut other = route(&format!("other-{turn}"), "p");
        other["match"]["path"] = json!({"prefix": "/other"});
        plan["routes"] = json!([plan["routes"][0], other]);
        let endpoints = [
            endpoint("e0", &address),
            endpoint(&format!("e{}", turn + 1), &address),
        ];
        plan["pools"] = json!([pool("p", &endpoints)]);
        balancer.apply(&plan);
        say(&mut client, &format!("after plan {turn}"));
    }
    assert_eq!(tunnels(&balancer)["active"], 1);
}

#[test]
fn a_tunnel_ends_some_time_after_a_plan_takes_away_what_it_stands_on() {
    type Change = fn(&mut Value);
    let origin = echo();
    let changes: [Change; 4] = [
        |plan| plan["routes"][0]["name"] = json!("another"),
        |plan| plan["listeners"][0]["name"] = json!("another"),
        |plan| plan["routes"][0]["upgrade"] = Value::Null,
        |plan| plan["pools"][0]["endpoints"][0]["id"] = json!("another"),
    ];
    for change in changes {
        let mut plan = plan_for(&origin);
        plan["routes"][0]["upgrade"]["drain_ms"] = json!(300);
        let mut balancer = Balancer::start(1, &plan);
        let mut client = open(&balancer);
        change(&mut plan);
        let began = Instant::now();
        balancer.apply(&plan);
        say(&mut client, "for a while");
        assert_eq!(client.rest(), b"");
        assert!(
            began.elapsed() >= Duration::from_millis(250),
            "{:?}",
            began.elapsed()
        );
        wait_for("the end to be counted", || {
            errors(&balancer, "tunnel_drained") == 1
        });
    }
}

#[test]
fn a_tunnel_without_a_byte_ends() {
    let origin = echo();
    let mut plan = plan_for(&origin);
    plan["routes"][0]["upgrade"]["idle_ms"] = json!(300);
    let balancer = Balancer::start(1, &plan);
    let mut client = open(&balancer);
    let began = Instant::now();
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(100));
        say(&mut client, "still here");
    }
    assert_eq!(client.rest(), b"");
    assert!(
        began.elapsed() >= Duration::from_millis(750),
        "{:?}",
        began.elapsed()
    );
    wait_for("the end to be counted", || {
        errors(&balancer, "tunnel_idle") == 1
    });
    wait_for("the connection to the origin to close", || {
        origin.open() == 0
    });
}

#[test]
fn a_tunnel_ends_at_its_age_and_follows_new_bounds() {
    let origin = echo();
    let mut plan = plan_for(&origin);
    let mut balancer = Balancer::start(1, &plan);
    let mut client = open(&balancer);
    say(&mut client, "no bound yet");
    plan["routes"][0]["upgrade"]["max_ms"] = json!(300);
    let began = Instant::now();
    balancer.apply(&plan);
    while client.stream.write_all(b"x\r\n").is_ok() && client.line().is_some() {
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "it goes on for ever"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    wait_for("the end to be counted", || {
        errors(&balancer, "tunnel_expired") == 1
    });
}

#[test]
fn a_receiver_that_does_not_read_holds_the_sender_back() {
    let origin = Origin::serving(|wire, _| {
        wire.request();
        wire.send(AGREE);
        // Reads nothing until the client has had enough.
        std::thread::sleep(Duration::from_secs(2));
    });
    let balancer = Balancer::start(1, &plan_for(&origin));
    let mut client = open(&balancer);
    client
        .stream
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let block = vec![0; 1 << 16];
    let mut sent = 0;
    let stopped = loop {
        match client.stream.write(&block) {
            Ok(count) => sent += count,
            Err(error) => break error,
        }
        assert!(sent < 64 << 20, "{sent} bytes are held by nobody's reading");
    };
    assert!(
        matches!(stopped.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{stopped}"
    );
    // The balancer itself holds a buffer's worth, the kernel the rest.
    assert_eq!(tunnels(&balancer)["active"], 1);
}

#[test]
fn other_requests_are_served_beside_tunnels() {
    let origin = echo();
    let balancer = Balancer::start(1, &plan_for(&origin));
    let mut open: Vec<Wire> = (0..50).map(|_| open(&balancer)).collect();
    assert_eq!(balancer.get().text(), "plain");
    for client in &mut open {
        say(client, "hello");
    }
    assert_eq!(tunnels(&balancer)["active"], 50);
    drop(open);
    wait_for("all tunnels to end", || tunnels(&balancer)["active"] == 0);
    assert_eq!(balancer.client().send(GET).answer().text(), "plain");
}
