//! Listening sockets: bound before a plan is in force, closed after.

use std::collections::HashMap;
use std::io;

use tokio::sync::oneshot;

use crate::engine::workers::{Handle, wait};
use crate::engine::{EngineError, State};
use crate::listen;
use crate::table::Table;
use crate::worker::{Command, Socket};

pub type NewSockets = Vec<(String, u32, String, Vec<Socket>)>;

/// Binds the addresses that no listener has yet.
pub fn bind_new(table: &Table, state: &State) -> Result<NewSockets, EngineError> {
    let mut sockets = NewSockets::new();
    if !state.accepting {
        return Ok(sockets);
    }
    for (index, listener) in table.listeners.iter().enumerate() {
        for (at, address) in listener.addresses.iter().enumerate() {
            let path = || format!("listeners[{index}].addresses[{at}]");
            let uid = listener.state.uid;
            if sockets.iter().any(|(taken, ..)| taken == address) {
                return Err(EngineError::new("plan", path(), "used twice"));
            }
            match state.bound.get(address) {
                Some((_, owner)) if *owner == uid => {}
                // Taken over from another listener: its sockets move without closing.
                _ => {
                    let taken = state.bound.contains_key(address);
                    if taken {
                        let message = "another listener of the running plan has this address; \
                                       remove that one first";
                        return Err(EngineError::new("bind", path(), message));
                    }
                    let (bound, new) =
                        listen::bind(address, state.workers.len()).map_err(|error| {
                            EngineError::new("bind", path(), format!("{address}: {error}"))
                        })?;
                    sockets.push((address.clone(), uid, bound, new));
                }
            }
        }
    }
    Ok(sockets)
}

/// Hands new sockets to the workers; every worker answers before any plan is published.
pub fn start_listening(
    workers: &[Handle],
    sockets: NewSockets,
) -> io::Result<HashMap<String, (String, u32)>> {
    let mut bound = HashMap::new();
    for (address, uid, name, sockets) in sockets {
        for (worker, socket) in workers.iter().zip(sockets) {
            let (done, answer) = oneshot::channel();
            let command = Command::Listen(address.clone(), uid, socket, done);
            let _ = worker.commands.send(command);
            wait(answer).unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))?;
        }
        bound.insert(address, (name, uid));
    }
    Ok(bound)
}

pub fn listeners_gone(table: &Table, state: &State) -> Vec<String> {
    let kept = |address: &String, uid: u32| {
        table
            .listeners
            .iter()
            .any(|l| l.state.uid == uid && l.addresses.contains(address))
    };
    let bound = state.bound.iter();
    bound
        .filter(|(address, (_, uid))| !kept(address, *uid))
        .map(|(address, _)| address.clone())
        .collect()
}
