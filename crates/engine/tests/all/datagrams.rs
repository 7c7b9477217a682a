//! Sessions of datagrams against a naive reference: whatever comes, there are never more than the
//! bound, each is counted once and stays with its endpoint, and answers go to whom they are for.

use std::collections::HashMap;
use std::net::UdpSocket;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::net::{Balancer, PATIENCE, wait_for};
use crate::support::{endpoint, listener, plan, pool};
use proptest::prelude::*;
use serde_json::{Value, json};

const CLIENTS: usize = 6;
const ENDPOINTS: usize = 3;
/// Sessions of the listener `web` at once, fewer than there are clients.
const BOUND: usize = 4;
/// Answers to one datagram, after which its session is over.
const ANSWERS: usize = 2;

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    /// A client sends a datagram that the endpoint answers so often.
    Send { client: usize, answered: usize },
    /// So many clients of the listener `brief` send one, and their sessions end by silence.
    Expire(usize),
    /// An endpoint is removed, or comes back as another one.
    Toggle(usize),
    /// Another plan says the same.
    Swap,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..CLIENTS, 0..=ANSWERS)
            .prop_map(|(client, answered)| Step::Send { client, answered }),
        1 => (1..4usize).prop_map(Step::Expire),
        2 => (0..ENDPOINTS).prop_map(Step::Toggle),
        1 => Just(Step::Swap),
    ];
    prop::collection::vec(step, 1..40)
}

/// A server that answers `2:text` with its name and the text, twice.
struct Server {
    address: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(name: usize) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&seen);
        thread::spawn(move || {
            let mut buffer = [0; 256];
            loop {
                let (size, sender) = socket.recv_from(&mut buffer).unwrap();
                let text = std::str::from_utf8(&buffer[..size]).unwrap();
                let (times, text) = text.split_once(':').unwrap();
                if times == "end" {
                    return;
                }
                for _ in 0..times.parse().unwrap() {
                    let answer = format!("{name}:{text}");
                    socket.send_to(answer.as_bytes(), sender).unwrap();
                }
                shared.lock().unwrap().push(text.to_owned());
            }
        });
        Self { address, seen }
    }

    fn has(&self, text: &str) -> bool {
        self.seen.lock().unwrap().iter().any(|seen| seen == text)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let _ = socket.send_to(b"end:", &self.address);
    }
}

/// A session as the reference knows it.
struct Session {
    /// The endpoint, and how often it had been toggled.
    endpoint: (usize, usize),
    owed: usize,
}

struct World {
    balancer: Balancer,
    servers: Vec<Server>,
    clients: Vec<UdpSocket>,
    /// How often each endpoint was toggled: it is there at even numbers.
    toggled: [usize; ENDPOINTS],
    sessions: HashMap<usize, Session>,
    revision: u64,
    sent: usize,
    accepted: usize,
    rejected: usize,
    brief: usize,
}

impl World {
    fn start() -> Self {
        let servers: Vec<_> = (0..ENDPOINTS).map(Server::start).collect();
        let toggled = [0; ENDPOINTS];
        let balancer = Balancer::start(2, &wanted(&servers, toggled, 1));
        let clients = (0..CLIENTS)
            .map(|_| socket(&balancer, "web"))
            .collect::<Vec<_>>();
        Self {
            balancer,
            servers,
            clients,
            toggled,
            sessions: HashMap::new(),
            revision: 1,
            sent: 0,
            accepted: 0,
            rejected: 0,
            brief: 0,
        }
    }

    fn is_there(&self, endpoint: (usize, usize)) -> bool {
        let (index, toggled) = endpoint;
        self.toggled[index] == toggled && toggled.is_multiple_of(2)
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Send { client, answered } => self.send(client, answered),
            Step::Expire(count) => self.expire(count),
            Step::Toggle(index) => {
                self.toggled[index] += 1;
                if self
                    .toggled
                    .iter()
                    .all(|toggled| !toggled.is_multiple_of(2))
                {
                    // One has to stay.
                    self.toggled[index] -= 1;
                }
                self.apply();
            }
            Step::Swap => self.apply(),
        }
        self.compare();
    }

    fn apply(&mut self) {
        self.revision += 1;
        let wanted = wanted(&self.servers, self.toggled, self.revision);
        self.balancer.apply(&wanted);
    }

    fn send(&mut self, client: usize, answered: usize) {
        self.sent += 1;
        let text = format!("{client}-{}", self.sent);
        let datagram = format!("{answered}:{text}");
        self.clients[client].send(datagram.as_bytes()).unwrap();
        let known = self.sessions.get(&client);
        if known.is_none() && self.sessions.len() == BOUND {
            self.rejected += 1;
            return;
        }
        self.accepted += usize::from(known.is_none());
        let stays = known.is_some_and(|session| self.is_there(session.endpoint));
        wait_for("the datagram at an endpoint", || {
            self.servers.iter().any(|server| server.has(&text))
        });
        let at = self.servers.iter().position(|server| server.has(&text));
        let at = at.unwrap();
        let endpoint = (at, self.toggled[at]);
        assert!(self.is_there(endpoint), "sent to an endpoint that is gone");
        if !stays {
            self.sessions.insert(client, Session { endpoint, owed: 0 });
        }
        let session = self.sessions.get_mut(&client).unwrap();
        assert_eq!(session.endpoint, endpoint, "a session left its endpoint");
        let expected = format!("{at}:{text}");
        for _ in 0..answered {
            assert_eq!(receive(&self.clients[client]), expected);
        }
        session.owed += ANSWERS - answered;
        if answered > 0 && session.owed == 0 {
            self.sessions.remove(&client);
        }
    }

    fn expire(&mut self, count: usize) {
        for _ in 0..count {
            self.sent += 1;
            let text = format!("brief-{}", self.sent);
            let client = socket(&self.balancer, "brief");
            client.send(format!("0:{text}").as_bytes()).unwrap();
            wait_for("the datagram at an endpoint", || {
                self.servers.iter().any(|server| server.has(&text))
            });
        }
        self.brief += count;
        wait_for("silent sessions to end", || {
            self.numbers("brief", "connections") == 0
        });
        assert_eq!(self.numbers("brief", "accepted"), self.brief);
    }

    fn numbers(&self, listener: &str, name: &str) -> usize {
        let snapshot = self.balancer.snapshot();
        let listeners = snapshot["listeners"].as_array().unwrap();
        let found = listeners.iter().find(|each| each["name"] == listener);
        found.unwrap()[name].as_u64().unwrap() as usize
    }

    /// Holds what the engine counts to what the reference knows.
    fn compare(&self) {
        // What is rejected is counted as accepted before.
        let all = self.accepted + self.rejected;
        let wanted = [self.sessions.len(), all, self.rejected];
        let end = Instant::now() + PATIENCE;
        loop {
            let names = ["connections", "accepted", "rejected"];
            let told = names.map(|name| self.numbers("web", name));
            if told == wanted {
                return;
            }
            assert!(told[0] <= BOUND + 1, "{} sessions", told[0]);
            assert!(told[1] <= all, "a session was counted twice");
            assert!(
                Instant::now() < end,
                "{names:?} are {told:?}, and {wanted:?} for the reference"
            );
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn socket(balancer: &Balancer, listener: &str) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(balancer.address(listener)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> String {
    let mut buffer = [0; 256];
    let size = socket.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..size].to_vec()).unwrap()
}

fn wanted(servers: &[Server], toggled: [usize; ENDPOINTS], revision: u64) -> Value {
    let members: Vec<_> = servers
        .iter()
        .enumerate()
        .filter(|(index, _)| toggled[*index].is_multiple_of(2))
        .map(|(index, server)| endpoint(&format!("e{index}"), &server.address))
        .collect();
    let mut wanted = plan(&[pool("p", &members)]);
    wanted["revision"] = json!(revision);
    wanted["routes"] = json!([]);
    let mut web = listener("web", "127.0.0.1:0");
    web["protocol"] = json!("udp");
    web["pool"] = json!("p");
    let mut brief = web.clone();
    web["limits"]["connections"] = json!(BOUND);
    web["answers"] = json!(ANSWERS);
    brief["name"] = json!("brief");
    brief["timeouts"]["idle_ms"] = json!(20);
    wanted["listeners"] = json!([web, brief]);
    wanted
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn sessions_are_those_of_the_reference(steps in steps()) {
        let mut world = World::start();
        for step in &steps {
            world.step(step);
        }
        for client in &world.clients {
            client.set_nonblocking(true).unwrap();
            let more = client.recv(&mut [0; 256]);
            prop_assert!(more.is_err(), "an answer too many");
        }
    }
}
