//! Listening sockets: bound before a plan is in force, served after, closed last. A socket whose
//! address a plan gives to another listener stays open and changes hands.

use std::collections::{HashMap, HashSet};
use std::io;

use evenflow_rules::plan::DATAGRAMS;
use evenflow_rules::table::{Listener, Table};
use tokio::sync::oneshot;

use crate::engine::workers::{Handle, ask_all, wait};
use crate::engine::{EngineError, State};
use crate::listen;
use crate::worker::{Command, Socket};

/// A listener's number and one of its addresses as the plan writes it.
pub type Key = (u32, String);

/// A socket that every worker has.
#[derive(Debug, Clone)]
pub struct Bound {
    /// The workers know it by this.
    number: u64,
    /// The address it really has.
    pub name: String,
}

/// What becomes of the sockets with a plan.
#[derive(Debug, Default)]
pub struct Changes {
    new: Vec<(Key, Bound, Vec<Socket>)>,
    moved: Vec<(Key, Key)>,
    gone: Vec<Key>,
}

impl Changes {
    /// Whether a listener loses a socket.
    pub fn take_away(&self) -> bool {
        !(self.moved.is_empty() && self.gone.is_empty())
    }

    /// Listeners all of whose sockets one other listener takes over: the old number and the new.
    pub fn successors(&self) -> impl Iterator<Item = (u32, u32)> {
        self.moved.iter().filter_map(|((old, _), (new, _))| {
            let elsewhere = |moved: &&(Key, Key)| moved.0.0 == *old && moved.1.0 != *new;
            let whole = !self.gone.iter().any(|key| key.0 == *old)
                && !self.moved.iter().any(|moved| elsewhere(&moved));
            whole.then_some((*old, *new))
        })
    }
}

fn keys(listener: &Listener) -> impl Iterator<Item = Key> {
    let uid = listener.state.uid;
    let addresses = listener.addresses.iter();
    addresses.map(move |address| (uid, address.clone()))
}

/// Any free port will do: several listeners may ask for the same.
fn takes_any_port(address: &str) -> bool {
    !address.starts_with("unix:") && address.ends_with(":0")
}

/// Says what a table means for the sockets, and binds those that are new.
pub fn plan_sockets(table: &Table, state: &mut State) -> Result<Changes, EngineError> {
    let mut changes = Changes::default();
    if !state.accepting {
        return Ok(changes);
    }
    let wanted: HashSet<Key> = table.listeners.iter().flat_map(keys).collect();
    let bound = state.bound.keys();
    changes.gone = bound.filter(|key| !wanted.contains(key)).cloned().collect();
    let mut fixed = HashSet::new();
    for (index, listener) in table.listeners.iter().enumerate() {
        let mut own = HashSet::new();
        for (at, key) in keys(listener).enumerate() {
            let (path, address) = (format!("listeners[{index}].addresses[{at}]"), &key.1);
            let any = takes_any_port(address);
            if !own.insert(address.clone()) || (!any && !fixed.insert(address.clone())) {
                return Err(EngineError::new("plan", path, "used twice"));
            }
            if state.bound.contains_key(&key) {
                continue;
            }
            let taken_over = changes
                .gone
                .iter()
                .position(|old| !any && (old.1 == *address || state.bound[old].name == *address));
            if let Some(old) = taken_over {
                changes.moved.push((changes.gone.swap_remove(old), key));
                continue;
            }
            let (name, sockets) = bind(address, state)
                .map_err(|error| EngineError::new("bind", path, format!("{address}: {error}")))?;
            state.sockets += 1;
            let number = state.sockets;
            changes.new.push((key, Bound { number, name }, sockets));
        }
    }
    Ok(changes)
}

/// Binds an address for all workers. Where sockets of our own are in the way whose listener is gone,
/// and which only serve their last sessions yet, these end.
fn bind(address: &str, state: &State) -> io::Result<(String, Vec<Socket>)> {
    let count = state.workers.len();
    match listen::bind(address, count) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let Some(port) = listen::datagram_port(address) else {
                return Err(error);
            };
            ask_all(&state.workers, |done| Command::Vacate(port, done));
            listen::bind(address, count)
        }
        bound => bound,
    }
}

/// Hands new sockets to the workers and keeps them from accepting on those that change hands: what
/// comes now waits in the kernel's queue until the plan is in force.
pub fn prepare(state: &mut State, changes: &mut Changes) -> io::Result<()> {
    for (_, bound, sockets) in &mut changes.new {
        if let Err(error) = hand_out(&state.workers, bound.number, std::mem::take(sockets)) {
            for (_, bound, _) in &changes.new {
                close(&state.workers, bound.number);
            }
            return Err(error);
        }
    }
    for (old, _) in &changes.moved {
        let number = state.bound[old].number;
        ask_all(&state.workers, |done| Command::Hold(number, done));
    }
    Ok(())
}

fn hand_out(workers: &[Handle], number: u64, sockets: Vec<Socket>) -> io::Result<()> {
    for (worker, socket) in workers.iter().zip(sockets) {
        let (done, answer) = oneshot::channel();
        let _ = worker.commands.send(Command::Listen(number, socket, done));
        wait(answer).unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))?;
    }
    Ok(())
}

fn close(workers: &[Handle], number: u64) {
    ask_all(workers, |done| Command::Unlisten(number, done));
}

/// Serves what the plan that is in force now has, and closes what it has not.
pub fn follow(state: &mut State, changes: Changes) {
    let mut served: Vec<(Key, Bound)> = Vec::new();
    served.extend(changes.new.into_iter().map(|(key, bound, _)| (key, bound)));
    for (old, key) in changes.moved {
        if let Some(bound) = state.bound.remove(&old) {
            served.push((key, bound));
        }
    }
    for (key, bound) in served {
        let (number, uid) = (bound.number, key.0);
        ask_all(&state.workers, |done| Command::Serve(number, uid, done));
        state.bound.insert(key, bound);
    }
    for key in changes.gone {
        if let Some(bound) = state.bound.remove(&key) {
            close(&state.workers, bound.number);
        }
    }
}

/// Closes all sockets.
pub fn close_all(state: &mut State) {
    for (_, bound) in state.bound.drain() {
        close(&state.workers, bound.number);
    }
}

/// The addresses bound, by listener.
pub fn addresses(table: &Table, state: &State) -> HashMap<String, Vec<String>> {
    let mut out = HashMap::new();
    for listener in table.listeners.iter() {
        let bound = keys(listener).filter_map(|key| state.bound.get(&key));
        let names = bound.map(|bound| {
            let name = bound.name.strip_prefix(DATAGRAMS);
            name.unwrap_or(&bound.name).to_owned()
        });
        let names = names.collect();
        out.insert(listener.state.name.clone(), names);
    }
    out
}
