//! What the engine tells Python of its own accord: probe results and what passive health did.
//! A bounded queue, and a descriptor that is readable while it is not empty.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use evenflow_state::breaker::BreakerState;
use serde::Serialize;

use crate::probe::ProbeResult;

/// Events kept until Python takes them; beyond it the oldest are dropped.
const KEPT: usize = 65_536;
/// How many failed handshakes are told per second.
const HANDSHAKES_PER_S: u64 = 100;

/// Something Python wants to know.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// A probe ended.
    Probe(ProbeResult),
    /// Passive health set an endpoint aside.
    Ejected {
        /// The pool's name.
        pool: String,
        /// The endpoint's id.
        backend: String,
        /// Why.
        reason: String,
        /// For how long, in seconds.
        for_s: f64,
    },
    /// A breaker changed its state by what requests met.
    Breaker {
        /// The pool's name.
        pool: String,
        /// The endpoint's id; `None` is the pool's own breaker.
        backend: Option<String>,
        /// What it is now.
        state: BreakerState,
        /// Why.
        reason: String,
    },
    /// A token names a key that its filter does not have.
    UnknownKey {
        /// The filter's name.
        filter: String,
    },
    /// A TLS handshake came to nothing. Told for a bounded number of them per second; counters have
    /// them all.
    HandshakeFailed {
        /// The listener, for a client's.
        listener: Option<String>,
        /// The pool, for a backend's.
        pool: Option<String>,
        /// The endpoint's id in it.
        backend: Option<String>,
        /// The other end's address, as far as it is known.
        peer: String,
        /// The word for it in metrics.
        reason: &'static str,
        /// The cause as TLS has it.
        detail: String,
    },
    /// A worker panicked and begins anew; its connections are lost.
    WorkerRestarted {
        /// Its number.
        worker: usize,
        /// The panic's message.
        reason: String,
    },
    /// An ejection ended.
    Returned {
        /// The pool's name.
        pool: String,
        /// The endpoint's id.
        backend: String,
    },
}

/// The queue.
#[derive(Debug)]
pub struct Events {
    queue: Mutex<VecDeque<Event>>,
    /// The second of the engine's clock in which handshakes were told last (high half), and how many
    /// (low half).
    handshakes: AtomicU64,
    signal: UnixStream,
    wait: UnixStream,
}

impl Events {
    /// An empty queue.
    pub fn new() -> std::io::Result<Self> {
        let (signal, wait) = UnixStream::pair()?;
        signal.set_nonblocking(true)?;
        wait.set_nonblocking(true)?;
        Ok(Self {
            queue: Mutex::new(VecDeque::new()),
            handshakes: AtomicU64::new(0),
            signal,
            wait,
        })
    }

    /// Readable while events wait.
    pub fn fd(&self) -> RawFd {
        self.wait.as_raw_fd()
    }

    /// Adds an event.
    pub fn push(&self, event: Event) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() >= KEPT {
            queue.pop_front();
        }
        queue.push_back(event);
        if queue.len() == 1 {
            // A full socket is readable already.
            let _ = (&self.signal).write(&[1]);
        }
    }

    /// Whether one more failed handshake may be told now: clients can make any number of them.
    pub fn may_tell_handshake(&self, now_ms: u64) -> bool {
        let second = (now_ms / 1000) << 32;
        let told = self.handshakes.load(Ordering::Relaxed);
        let count = if told >> 32 == second >> 32 {
            told & 0xffff_ffff
        } else {
            0
        };
        if count >= HANDSHAKES_PER_S {
            return false;
        }
        // Two workers may overwrite each other's count: the bound need not be exact.
        self.handshakes
            .store(second | (count + 1), Ordering::Relaxed);
        true
    }

    /// Takes all events, oldest first.
    pub fn take(&self) -> Vec<Event> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = [0; 64];
        while matches!((&self.wait).read(&mut bytes), Ok(count) if count == bytes.len()) {}
        queue.drain(..).collect()
    }
}
