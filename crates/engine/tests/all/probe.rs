//! Probes report what real servers did, within their bounds.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use evenflow_engine::probe::{
    BACKLOG, CONCURRENCY, HttpProbe, Probe, ProbeOutcome, ProbeResult, Prober, ProbesRejected, run,
};
use evenflow_state::address::Address;
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(10);

fn runtime() -> tokio::runtime::LocalRuntime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap()
}

/// A server for one connection: reads a request head, then does as it is told.
fn server<T: Send + 'static>(
    act: impl FnOnce(&mut TcpStream, String) -> T + Send + 'static,
) -> (Address, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Ip(listener.local_addr().unwrap());
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = read_head(&mut stream);
        act(&mut stream, request)
    });
    (address, thread)
}

fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn get(address: Address, body_bytes: u32) -> Probe {
    let http = HttpProbe {
        method: "GET".into(),
        path: "/health".into(),
        host: "app1:8080".into(),
        headers: Vec::new(),
        body_bytes,
    };
    Probe {
        id: 7,
        addresses: vec![address],
        timeout_ms: 10_000,
        http: Some(http),
        endpoint: None,
        encrypted: false,
        known: None,
        upstream: None,
        http2: false,
        send_proxy: None,
    }
}

fn probe(probe: Probe) -> ProbeResult {
    runtime().block_on(run(probe))
}

/// What a probe makes of a server's exact bytes, after which it closes.
fn answered(response: &[u8], body_bytes: u32) -> ProbeResult {
    let response = response.to_vec();
    let (address, thread) = server(move |stream, _| {
        // The probe may have seen enough before all is written.
        let _ = stream.write_all(&response);
    });
    let result = probe(get(address, body_bytes));
    thread.join().unwrap();
    result
}

#[track_caller]
fn assert_ok(response: &[u8], body_bytes: u32, status: u16, body: &str) {
    let result = answered(response, body_bytes);
    assert_eq!(
        (result.outcome, result.status, result.body.as_str()),
        (ProbeOutcome::Ok, Some(status), body),
        "{}",
        result.detail
    );
}

#[track_caller]
fn assert_fails(response: &[u8], outcome: ProbeOutcome, detail: &str) {
    let result = answered(response, 100);
    assert_eq!(result.outcome, outcome, "{}", result.detail);
    assert!(result.detail.contains(detail), "{}", result.detail);
    assert_eq!((result.status, result.body.as_str()), (None, ""));
}

fn unused_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

#[test]
fn the_request_is_the_one_asked_for() {
    let (address, thread) = server(|stream, request| {
        stream
            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            .unwrap();
        request
    });
    let mut wanted = get(address, 0);
    let http = wanted.http.as_mut().unwrap();
    http.method = "OPTIONS".into();
    http.headers = vec![
        ("X-A".into(), "b".into()),
        ("user-agent".into(), "mine".into()),
    ];
    let result = probe(wanted);
    assert_eq!((result.id, result.status), (7, Some(204)));
    assert_eq!(
        thread.join().unwrap(),
        "OPTIONS /health HTTP/1.1\r\nHost: app1:8080\r\nAccept: */*\r\nX-A: b\r\n\
         user-agent: mine\r\nConnection: close\r\n\r\n"
    );
}

#[test]
fn any_well_formed_response_is_ok() {
    for status in [200_u16, 301, 404, 500, 503] {
        let response = format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\n\r\n");
        assert_ok(response.as_bytes(), 0, status, "");
    }
    assert_ok(b"HTTP/1.0 200\r\n\r\n", 0, 200, "");
}

#[test]
fn interim_responses_are_passed_over() {
    assert_ok(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhi",
        9,
        200,
        "hi",
    );
}

#[test]
fn the_body_is_returned_as_far_as_asked_for_in_every_framing() {
    let length = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world";
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
    let to_close = b"HTTP/1.1 200 OK\r\n\r\nhello world";
    for response in [&length[..], &chunked[..], &to_close[..]] {
        assert_ok(response, 100, 200, "hello world");
        assert_ok(response, 11, 200, "hello world");
        assert_ok(response, 7, 200, "hello w");
        assert_ok(response, 5, 200, "hello");
        assert_ok(response, 0, 200, "");
    }
    assert_ok(
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na\xffb",
        9,
        200,
        "a\u{fffd}b",
    );
    assert_ok(
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        9,
        304,
        "",
    );
}

#[test]
fn a_body_beyond_what_is_asked_for_is_not_waited_for() {
    let (address, thread) = server(|stream, _| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegin")
            .unwrap();
        let mut rest = [0; 16];
        stream.read(&mut rest)
    });
    let result = probe(get(address, 5));
    assert_eq!(
        (result.outcome, result.body.as_str()),
        (ProbeOutcome::Ok, "begin")
    );
    // The server does not close, so the probe resets: no socket stays in TIME_WAIT on either side.
    assert_eq!(
        thread.join().unwrap().unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}

#[test]
fn a_server_that_closes_first_is_closed_with_in_order() {
    let (address, thread) = server(|stream, _| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = [0; 16];
        stream.read(&mut rest)
    });
    assert_eq!(probe(get(address, 0)).outcome, ProbeOutcome::Ok);
    assert_eq!(
        thread.join().unwrap().unwrap(),
        0,
        "an end of stream and no reset"
    );
}

#[test]
fn what_is_no_response_is_a_protocol_error() {
    use ProbeOutcome::Protocol;
    assert_fails(b"SSH-2.0-OpenSSH\r\n", Protocol, "response head");
    assert_fails(b"HTTP/1.1 2000 OK\r\n\r\n", Protocol, "response head");
    assert_fails(b"HTTP/1.1 099 Low\r\n\r\n", Protocol, "status 99");
    assert_fails(b"HTTP/1.1 101 Switching\r\n\r\n", Protocol, "status 101");
    assert_fails(
        b"HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n",
        Protocol,
        "response head",
    );
    let both =
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_fails(both, Protocol, "Transfer-Encoding with");
    let two = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc";
    assert_fails(two, Protocol, "Content-Length");
    assert_fails(
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab",
        Protocol,
        "Content-Length",
    );
    let gzip = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc";
    assert_fails(gzip, Protocol, "Transfer-Encoding");
    for chunk in [
        "x\r\n",
        "-1\r\na\r\n",
        "\r\n",
        "5\nhello",
        "2\r\nabc\r\n",
        "fffffffffffffffff\r\n",
    ] {
        let response = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}");
        assert_fails(response.as_bytes(), Protocol, "");
    }
}

#[test]
fn an_endless_head_is_cut_off() {
    let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
    head.extend(b"X: ".iter().chain(&b"a".repeat(40_000)));
    assert_fails(&head, ProbeOutcome::Protocol, "over 32768 bytes");
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(2000);
    assert_fails(&interim, ProbeOutcome::Protocol, "over 32768 bytes");
}

#[test]
fn a_response_that_ends_early_is_a_reset() {
    use ProbeOutcome::Reset;
    assert_fails(b"", Reset, "without a response");
    assert_fails(
        b"HTTP/1.1 200 OK\r\nConte",
        Reset,
        "within the response head",
    );
    assert_fails(
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        Reset,
        "response body",
    );
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel";
    assert_fails(chunked, Reset, "response body");
}

#[test]
fn nobody_listening_is_refused() {
    let result = probe(get(Address::Ip(unused_port()), 0));
    assert_eq!(result.outcome, ProbeOutcome::Refused, "{}", result.detail);
    assert!(result.detail.starts_with("connect: "), "{}", result.detail);
    let missing = Address::Unix("/nonexistent/evenflow.sock".into());
    assert_eq!(probe(get(missing, 0)).outcome, ProbeOutcome::Refused);
}

#[test]
fn an_address_that_cannot_be_connected_to_is_unreachable() {
    let result = probe(get(Address::Unix("x".repeat(300)), 0));
    assert_eq!(
        result.outcome,
        ProbeOutcome::Unreachable,
        "{}",
        result.detail
    );
}

#[test]
fn a_silent_server_is_a_timeout() {
    let (address, thread) = server(|stream, _| stream.read(&mut [0; 16]));
    let start = Instant::now();
    let result = probe(Probe {
        timeout_ms: 100,
        ..get(address, 0)
    });
    assert_eq!(result.outcome, ProbeOutcome::Timeout, "{}", result.detail);
    assert!(
        (0.1..5.0).contains(&result.elapsed_s),
        "{}",
        result.elapsed_s
    );
    assert!(start.elapsed() < Duration::from_secs(5));
    // Abandoned connections are reset, so that they do not linger half closed.
    assert_eq!(
        thread.join().unwrap().unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}

#[test]
fn the_timeout_covers_the_body_too() {
    let (address, thread) = server(|stream, _| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
            .unwrap();
        let _ = stream.read(&mut [0; 16]);
    });
    let result = probe(Probe {
        timeout_ms: 100,
        ..get(address, 9)
    });
    assert_eq!(
        (result.outcome, result.status),
        (ProbeOutcome::Timeout, None)
    );
    thread.join().unwrap();
}

#[test]
fn a_server_that_keeps_the_connection_does_not_spoil_its_answer() {
    let (address, thread) = server(|stream, _| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .unwrap();
        let _ = stream.read(&mut [0; 16]);
    });
    let result = probe(Probe {
        timeout_ms: 1000,
        ..get(address, 9)
    });
    assert_eq!(
        (result.outcome, result.body.as_str()),
        (ProbeOutcome::Ok, "ok")
    );
    thread.join().unwrap();
}

#[test]
fn a_server_behind_the_proxy_protocol_gets_its_header_first() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Ip(listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut got = [0; 23];
        socket.read_exact(&mut got).unwrap();
        socket
            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            .unwrap();
        got
    });
    let result = probe(Probe {
        http2: false,
        send_proxy: Some(evenflow_rules::plan::ProxyVersion::V1),
        ..get(address, 0)
    });
    assert_eq!(
        (result.outcome, result.status),
        (ProbeOutcome::Ok, Some(204))
    );
    assert_eq!(&server.join().unwrap(), b"PROXY UNKNOWN\r\nGET /hea");
}

#[test]
fn connecting_is_enough_without_http() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Ip(listener.local_addr().unwrap());
    let result = probe(Probe {
        id: 1,
        addresses: vec![address],
        timeout_ms: 5000,
        http: None,
        endpoint: None,
        encrypted: false,
        known: None,
        upstream: None,
        http2: false,
        send_proxy: None,
    });
    assert_eq!((result.outcome, result.status), (ProbeOutcome::Ok, None));
    let nobody = Address::Ip(unused_port());
    let result = probe(Probe {
        id: 1,
        addresses: vec![nobody],
        timeout_ms: 5000,
        http: None,
        endpoint: None,
        encrypted: false,
        known: None,
        upstream: None,
        http2: false,
        send_proxy: None,
    });
    assert_eq!(result.outcome, ProbeOutcome::Refused);
}

#[test]
fn unix_sockets_are_probed_alike() {
    let path = std::env::temp_dir().join(format!("evenflow-probe-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_head(&mut stream);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .unwrap();
    });
    let result = probe(get(Address::Unix(path.to_str().unwrap().into()), 9));
    assert_eq!(
        (result.outcome, result.body.as_str()),
        (ProbeOutcome::Ok, "ok")
    );
    thread.join().unwrap();
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_request_that_cannot_be_made_is_a_protocol_error_and_not_sent() {
    let change = |change: fn(&mut HttpProbe)| {
        let mut wanted = get(Address::Ip(unused_port()), 0);
        change(wanted.http.as_mut().unwrap());
        wanted
    };
    for wanted in [
        change(|http| http.path = "/a b".into()),
        change(|http| http.path = "health".into()),
        change(|http| http.method = "GET /".into()),
        change(|http| http.host = "a\r\nX: y".into()),
        change(|http| http.headers = vec![("a".into(), "b\r\nc: d".into())]),
        change(|http| http.headers = vec![("a b".into(), "c".into())]),
    ] {
        let result = probe(wanted);
        assert_eq!(result.outcome, ProbeOutcome::Protocol, "{}", result.detail);
    }
}

#[test]
fn documents_read_and_write_as_agreed() {
    let document = json!({
        "id": 123, "addresses": ["10.0.0.1:8080"], "timeout_ms": 5000,
        "http": {"method": "GET", "path": "/health", "host": "app1:8080",
                 "headers": [["a", "b"]], "body_bytes": 0},
        "endpoint": {"pool": "p", "backend": "a"}, "encrypted": true,
        "http2": false,
        "send_proxy": "v2",
    });
    let parsed: Probe = serde_json::from_value(document.clone()).unwrap();
    assert_eq!(serde_json::to_value(&parsed).unwrap(), document);
    let unknown = json!({"id": 1, "addresses": ["10.0.0.1:80"], "timeout_ms": 1, "http": null, "http2": false, "send_proxy": null, "x": 1});
    assert!(serde_json::from_value::<Probe>(unknown).is_err());
    let result = ProbeResult {
        id: 123,
        outcome: ProbeOutcome::Unreachable,
        detail: "no route".into(),
        status: None,
        body: String::new(),
        elapsed_s: 0.25,
    };
    assert_eq!(
        serde_json::to_value(result).unwrap(),
        json!({"id": 123, "outcome": "unreachable", "detail": "no route", "status": null,
               "body": "", "elapsed_s": 0.25})
    );
}

/// A server for `expected` connections that answers only once [`CONCURRENCY`] of them are open.
/// Returns the most that were open at one time.
fn crowded_server(expected: usize) -> (Address, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Ip(listener.local_addr().unwrap());
    let most = Arc::new(AtomicUsize::new(0));
    let (seen, open) = (Arc::clone(&most), Arc::new(AtomicUsize::new(0)));
    let crowd = Arc::new(Barrier::new(CONCURRENCY));
    thread::spawn(move || {
        for _ in 0..expected {
            let (mut stream, _) = listener.accept().unwrap();
            let (seen, open, crowd) = (Arc::clone(&seen), Arc::clone(&open), Arc::clone(&crowd));
            thread::spawn(move || {
                seen.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                read_head(&mut stream);
                crowd.wait();
                open.fetch_sub(1, Ordering::SeqCst);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            });
        }
    });
    (address, most)
}

#[test]
fn a_prober_runs_every_probe_and_a_bounded_number_at_once() {
    const PROBES: usize = 3 * CONCURRENCY;
    let (address, most) = crowded_server(PROBES);
    let (results, received) = mpsc::channel();
    let (prober, work) = Prober::new(move |result| results.send(result).unwrap());
    let batch = (0..PROBES).map(|id| Probe {
        id: id as u64,
        ..get(address.clone(), 0)
    });
    prober.submit(batch.collect()).unwrap();
    drop(prober);
    runtime().block_on(work);
    let mut results: Vec<ProbeResult> = received.iter().collect();
    results.sort_by_key(|result| result.id);
    for (id, result) in results.iter().enumerate() {
        assert_eq!(
            (result.id, result.outcome),
            (id as u64, ProbeOutcome::Ok),
            "{}",
            result.detail
        );
    }
    assert_eq!(results.len(), PROBES);
    assert_eq!(most.load(Ordering::SeqCst), CONCURRENCY);
}

#[test]
fn batches_may_come_from_any_thread_while_it_runs() {
    let (results, received) = mpsc::channel();
    let (prober, work) = Prober::new(move |result: ProbeResult| results.send(result.id).unwrap());
    let running = thread::spawn(move || runtime().block_on(work));
    for id in 0..3 {
        let gone = Address::Ip(unused_port());
        prober.submit(vec![Probe { id, ..get(gone, 0) }]).unwrap();
        assert_eq!(received.recv_timeout(PATIENCE), Ok(id));
    }
    drop(prober);
    running.join().unwrap();
}

#[test]
fn more_than_the_backlog_is_not_taken() {
    let (prober, work) = Prober::new(|_| {});
    let one = get(Address::Ip(unused_port()), 0);
    assert_eq!(
        prober.submit(vec![one.clone(); BACKLOG + 1]),
        Err(ProbesRejected)
    );
    prober.submit(vec![one.clone(); BACKLOG]).unwrap();
    assert_eq!(prober.submit(vec![one.clone()]), Err(ProbesRejected));
    drop(work);
    assert_eq!(
        prober.submit(vec![one]),
        Err(ProbesRejected),
        "the work was abandoned"
    );
}
