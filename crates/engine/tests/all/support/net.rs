//! A real balancer between a tiny origin and a client, over loopback sockets. Every wait is bounded:
//! a test that would hang fails.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use evenflow_engine::engine::Engine;
use serde_json::Value;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until something holds.
pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A message: its head as text and its body, decoded.
#[derive(Debug, Clone)]
pub struct Message {
    /// First line and fields, without the empty line.
    pub head: String,
    /// The data.
    pub body: Vec<u8>,
}

impl Message {
    /// The status of an answer.
    pub fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The value of the first field of a name in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// One end of a connection that messages are read from.
#[derive(Debug)]
pub struct Wire {
    /// The socket.
    pub stream: TcpStream,
    received: Vec<u8>,
}

impl Wire {
    /// A connected socket.
    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            received: Vec::new(),
        }
    }

    /// Connects.
    pub fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect_timeout(&address, PATIENCE).unwrap())
    }

    /// Sends.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self
    }

    /// Ends the sending side.
    pub fn end(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads more; `false` at the end of the stream.
    fn fill(&mut self) -> bool {
        let mut room = [0; 16 * 1024];
        match self.stream.read(&mut room) {
            Ok(0) => false,
            Ok(count) => {
                self.received.extend_from_slice(&room[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}; received so far: {:?}", self.text()),
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.received).into_owned()
    }

    /// So many bytes.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        while self.received.len() < count {
            assert!(self.fill(), "closed after {:?}", self.text());
        }
        self.received.drain(..count).collect()
    }

    /// A line without its CRLF; `None` at the end of the stream.
    pub fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.received.windows(2).position(|two| two == b"\r\n") {
                let line = self.take(at + 2);
                return Some(String::from_utf8(line[..at].to_vec()).unwrap());
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// A message's head; `None` when the other end closes instead.
    pub fn head(&mut self) -> Option<String> {
        let mut head = self.line()?;
        loop {
            match self.line() {
                Some(line) if line.is_empty() => return Some(head),
                Some(line) => head = format!("{head}\n{line}"),
                None => panic!("closed within a head: {head:?}"),
            }
        }
    }

    /// A whole message; `None` when the other end closes instead. `bodiless`: an answer to HEAD.
    fn message(&mut self, answer: bool, bodiless: bool) -> Option<Message> {
        let head = self.head()?;
        let mut message = Message {
            head,
            body: Vec::new(),
        };
        let status = if answer { message.status() } else { 0 };
        if bodiless || matches!(status, 100..=199 | 204 | 304) {
            return Some(message);
        }
        if message.field("transfer-encoding") == Some("chunked") {
            loop {
                let size = self.line().expect("closed before a chunk's size");
                let size = usize::from_str_radix(&size, 16).unwrap();
                if size == 0 {
                    while !self.line().expect("closed within trailers").is_empty() {}
                    return Some(message);
                }
                let chunk = self.take(size + 2);
                message.body.extend_from_slice(&chunk[..size]);
            }
        }
        if let Some(length) = message.field("content-length") {
            message.body = self.take(length.parse().unwrap());
        } else if answer {
            message.body = self.rest();
        }
        Some(message)
    }

    /// A whole answer.
    pub fn answer(&mut self) -> Message {
        self.message(true, false).expect("closed without an answer")
    }

    /// A whole answer, or that there is none.
    pub fn maybe_answer(&mut self) -> Option<Message> {
        self.message(true, false)
    }

    /// A whole request; `None` when there is no further one.
    pub fn request(&mut self) -> Option<Message> {
        self.message(false, false)
    }

    /// Everything up to the end of the stream.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.received)
    }
}

/// A server on a free port of loopback; each connection is served by a thread.
#[derive(Debug)]
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<RequestView>,
}

#[derive(Debug, Default)]
struct RequestView {
    connections: AtomicUsize,
    open: AtomicUsize,
    requests: Mutex<Vec<Message>>,
}

impl Origin {
    /// Serves each connection with `serve`, which gets the connection's number, from 0.
    pub fn serving(serve: impl Fn(&mut Wire, usize) + Send + Sync + 'static) -> Self {
        Self::recording(move |wire, number, _| serve(wire, number))
    }

    fn recording(serve: impl Fn(&mut Wire, usize, &RequestView) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(RequestView::default());
        let shared = Arc::clone(&seen);
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { break };
                let (seen, serve) = (Arc::clone(&shared), Arc::clone(&serve));
                let number = seen.connections.fetch_add(1, Ordering::AcqRel);
                seen.open.fetch_add(1, Ordering::AcqRel);
                std::thread::spawn(move || {
                    let mut wire = Wire::new(stream);
                    serve(&mut wire, number, &seen);
                    seen.open.fetch_sub(1, Ordering::AcqRel);
                });
            }
        });
        Self { address, seen }
    }

    /// Answers every request with these bytes.
    pub fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::recording(move |wire, _, seen| {
            while let Some(request) = wire.request() {
                seen.requests.lock().unwrap().push(request);
                wire.send(&answer);
            }
        })
    }

    /// Answers every request with 200 and this text.
    pub fn saying(text: &str) -> Self {
        let length = text.len();
        Self::answering(format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}"
        ))
    }

    /// Connections made so far.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::Acquire)
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.seen.open.load(Ordering::Acquire)
    }

    /// Requests so far.
    pub fn requests(&self) -> Vec<Message> {
        self.seen.requests.lock().unwrap().clone()
    }
}

/// An engine that runs a plan.
#[derive(Debug)]
pub struct Balancer {
    /// The engine.
    pub engine: Engine,
    report: Value,
}

impl Balancer {
    /// Starts an engine of so many workers with this plan.
    pub fn start(workers: usize, plan: &Value) -> Self {
        let engine = Engine::new(workers).unwrap();
        let mut balancer = Self {
            engine,
            report: Value::Null,
        };
        balancer.apply(plan);
        balancer
    }

    /// Puts a plan in force; the report.
    pub fn apply(&mut self, plan: &Value) -> &Value {
        let report = self.engine.apply(plan.to_string().as_bytes());
        self.report = serde_json::from_slice(&report.expect("the plan is refused")).unwrap();
        &self.report
    }

    /// Why a plan is refused.
    pub fn refusal(&self, plan: &Value) -> String {
        let refused = self.engine.apply(plan.to_string().as_bytes());
        refused.expect_err("the plan is taken").to_string()
    }

    /// Where a listener listens.
    pub fn address(&self, listener: &str) -> SocketAddr {
        self.report["listeners"][listener][0]
            .as_str()
            .unwrap_or_else(|| panic!("no {listener} in {}", self.report))
            .parse()
            .unwrap()
    }

    /// A client of the listener `web`.
    pub fn client(&self) -> Wire {
        Wire::connect(self.address("web"))
    }

    /// The answer to a GET on a connection of its own.
    pub fn get(&self) -> Message {
        self.client().send(GET).answer()
    }

    /// All numbers.
    pub fn snapshot(&self) -> Value {
        serde_json::from_slice(&self.engine.snapshot().unwrap()).unwrap()
    }

    /// The numbers of an endpoint.
    pub fn endpoint(&self, id: &str) -> Value {
        let snapshot = self.snapshot();
        let endpoints = snapshot["endpoints"].as_array().unwrap();
        let found = endpoints.iter().find(|endpoint| endpoint["id"] == id);
        found
            .unwrap_or_else(|| panic!("no {id} in {snapshot}"))
            .clone()
    }
}

/// A request without anything special.
pub const GET: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
