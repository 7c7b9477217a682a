//! Threads that check slow password hashes, so that no worker does.
//!
//! Two threads and a bounded queue for the whole process: a flood of wrong passwords costs at most
//! two cores, and whoever finds the queue full is told to come back instead of waiting for long.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use evenflow_rules::password::Hash;
use tokio::sync::oneshot;

const THREADS: usize = 2;
const WAITING: usize = 128;

struct Job {
    hash: Hash,
    password: Vec<u8>,
    answer: oneshot::Sender<bool>,
}

/// One for the process, as its threads use the process's cores. Started by the first password.
static JOBS: LazyLock<Option<SyncSender<Job>>> = LazyLock::new(start);

/// Whether a password is the one of a hash; `None` where too many are waiting already.
pub async fn verify(hash: Hash, password: Vec<u8>) -> Option<bool> {
    let (answer, answered) = oneshot::channel();
    let job = Job {
        hash,
        password,
        answer,
    };
    JOBS.as_ref()?.try_send(job).ok()?;
    answered.await.ok()
}

fn start() -> Option<SyncSender<Job>> {
    let (jobs, waiting) = sync_channel(WAITING);
    let waiting = Arc::new(Mutex::new(waiting));
    let mut started = false;
    for number in 0..THREADS {
        let waiting = Arc::clone(&waiting);
        let thread = std::thread::Builder::new().name(format!("evenflow-hash-{number}"));
        started |= thread.spawn(move || work(&waiting)).is_ok();
    }
    started.then_some(jobs)
}

fn work(waiting: &Mutex<Receiver<Job>>) {
    loop {
        let next = waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok(job) = next else { return };
        if !job.answer.is_closed() {
            let right = job.hash.verify(&job.password);
            // The client may have gone meanwhile.
            let _ = job.answer.send(right);
        }
    }
}
