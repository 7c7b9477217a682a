//! When a silent connection to an endpoint is asked for a sign of life, and when it counts as dead.

use std::cell::Cell;

use evenflow_rules::plan::Connections;

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepaliveAction {
    /// Nothing.
    Wait,
    /// Send a `PING`.
    Ping,
    /// The other end is gone: nothing came since the `PING`.
    Dead,
}

/// What is known of one connection's signs of life.
#[derive(Debug)]
pub struct Keepalive {
    interval_ms: u64,
    timeout_ms: u64,
    /// How many reads had brought something, and when that was seen.
    heard: Cell<(u64, u64)>,
    /// When a `PING` was sent that nothing has followed.
    pinged_ms: Cell<Option<u64>>,
}

impl Keepalive {
    /// Signs of life by a pool's rules.
    pub fn new(rules: &Connections) -> Self {
        Self {
            interval_ms: rules.ping_ms,
            timeout_ms: rules.ping_timeout_ms,
            heard: Cell::new((0, 0)),
            pinged_ms: Cell::new(None),
        }
    }

    /// Judges a connection on which so many reads have brought something. The time is in
    /// milliseconds.
    pub fn judge(&self, reads: u64, now_ms: u64) -> KeepaliveAction {
        if self.interval_ms == 0 {
            return KeepaliveAction::Wait;
        }
        let (known, since_ms) = self.heard.get();
        if reads != known {
            self.heard.set((reads, now_ms));
            self.pinged_ms.set(None);
            return KeepaliveAction::Wait;
        }
        match self.pinged_ms.get() {
            Some(at) if now_ms.saturating_sub(at) >= self.timeout_ms => KeepaliveAction::Dead,
            None if now_ms.saturating_sub(since_ms) >= self.interval_ms => {
                self.pinged_ms.set(Some(now_ms));
                KeepaliveAction::Ping
            }
            Some(_) | None => KeepaliveAction::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keepalive(ping_ms: u64) -> Keepalive {
        Keepalive::new(&Connections {
            max_idle: Some(1),
            idle_ms: 60_000,
            tcp_keepalive_ms: 0,
            ping_ms,
            ping_timeout_ms: 2000,
        })
    }

    #[test]
    fn a_silent_connection_is_asked_and_given_up() {
        let silent = keepalive(5000);
        let steps = [
            (1, 1000, KeepaliveAction::Wait),
            (1, 5000, KeepaliveAction::Wait),
            (1, 6000, KeepaliveAction::Ping),
            (1, 7000, KeepaliveAction::Wait),
            (1, 8000, KeepaliveAction::Dead),
        ];
        for (reads, now_ms, verdict) in steps {
            assert_eq!(silent.judge(reads, now_ms), verdict, "at {now_ms} ms");
        }
    }

    #[test]
    fn whatever_comes_is_a_sign_of_life() {
        let alive = keepalive(5000);
        let steps = [
            (1, 1000, KeepaliveAction::Wait),
            (1, 6000, KeepaliveAction::Ping),
            (2, 7000, KeepaliveAction::Wait),
            (2, 11_000, KeepaliveAction::Wait),
            (2, 12_000, KeepaliveAction::Ping),
        ];
        for (reads, now_ms, verdict) in steps {
            assert_eq!(alive.judge(reads, now_ms), verdict, "at {now_ms} ms");
        }
        assert_eq!(keepalive(0).judge(0, 1_000_000), KeepaliveAction::Wait);
    }
}
