//! Worker threads as the engine holds them: started, asked, waited for.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::engine::{EngineError, internal};
use crate::supervisor;
use crate::worker::{Command, Shared};

/// How long a worker may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Handle {
    pub commands: mpsc::UnboundedSender<Command>,
    pub thread: Option<JoinHandle<()>>,
}

pub fn start_worker(
    id: usize,
    workers: usize,
    shared: &Arc<Shared>,
) -> Result<Handle, EngineError> {
    let (commands, mut receiver) = mpsc::unbounded_channel();
    let (told, started) = sync_channel(1);
    let shared = Arc::clone(shared);
    let thread = std::thread::Builder::new()
        .name(format!("evenflow-{id}"))
        .spawn(move || supervisor::run(id, workers, &shared, &mut receiver, &told))
        .map_err(internal)?;
    started.recv().map_err(internal)?.map_err(internal)?;
    Ok(Handle {
        commands,
        thread: Some(thread),
    })
}

/// Asks every worker and waits for all; the answers that came.
pub fn ask_all<T>(workers: &[Handle], command: impl Fn(oneshot::Sender<T>) -> Command) -> Vec<T> {
    let answers: Vec<_> = workers
        .iter()
        .map(|worker| {
            let (done, answer) = oneshot::channel();
            let _ = worker.commands.send(command(done));
            answer
        })
        .collect();
    answers.into_iter().filter_map(wait).collect()
}

/// Waits for a worker's answer from a thread that is no worker.
pub fn wait<T>(mut answer: oneshot::Receiver<T>) -> Option<T> {
    let end = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(20);
    loop {
        match answer.try_recv() {
            Ok(value) => return Some(value),
            Err(oneshot::error::TryRecvError::Closed) => return None,
            Err(oneshot::error::TryRecvError::Empty) if Instant::now() >= end => return None,
            Err(oneshot::error::TryRecvError::Empty) => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(2));
            }
        }
    }
}
