//! Keeps a worker serving: when it panics, it begins anew in the same thread, with the sockets, the
//! counters and the commands it had. Its connections are lost; what they held is given back as
//! their tasks are dropped. The other workers notice nothing.

use std::any::Any;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::acceptor::Acceptor;
use crate::events::Event;
use crate::timer::SWEEP;
use crate::worker::{Command, Shared, Socket, Worker};

/// Between a panic and the new beginning; doubled with each further one, up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// After so long without a panic the pause is short again.
const QUIET: Duration = Duration::from_secs(60);

/// A listening socket as it outlives the worker. The descriptor keeps the kernel's queue of
/// connections that wait to be accepted.
#[derive(Debug)]
struct Bound {
    socket: Socket,
    /// The number of the listener it accepts for; `None` while it accepts nothing.
    serves: Option<u32>,
}

type Sockets = HashMap<u64, Bound>;

/// How a worker ended.
enum End {
    /// It was told to stop.
    Stopped,
    /// It panicked, or its runtime could not be made.
    Died(String),
}

/// Runs a worker until it is told to stop. Whether it could start is said through `started`.
pub fn run(
    id: usize,
    workers: usize,
    shared: &Arc<Shared>,
    commands: &mut UnboundedReceiver<Command>,
    started: &SyncSender<io::Result<()>>,
) {
    let mut worker = Rc::new(Worker::new(id, workers, Arc::clone(shared)));
    let mut runtime = match build_runtime() {
        Ok(runtime) => {
            let _ = started.send(Ok(()));
            Some(runtime)
        }
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let mut sockets = Sockets::new();
    let mut pause = FIRST_PAUSE;
    loop {
        let began = Instant::now();
        let end = match runtime.take().map_or_else(build_runtime, Ok) {
            Ok(runtime) => live(runtime, &worker, &mut sockets, commands),
            Err(error) => End::Died(error.to_string()),
        };
        let End::Died(reason) = end else { return };
        if began.elapsed() > QUIET {
            pause = FIRST_PAUSE;
        }
        shared.faults[id].restarts.fetch_add(1, Ordering::Relaxed);
        shared
            .events
            .push(Event::WorkerRestarted { worker: id, reason });
        thread::sleep(pause);
        pause = (pause * 2).min(LAST_PAUSE);
        worker = Rc::new(worker.successor());
    }
}

fn build_runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_io()
        .enable_time()
        // How many tasks run between two looks at the sockets: under load more tasks share one
        // epoll_wait.
        .event_interval(61)
        .build_local(LocalOptions::default())
}

/// Serves until the worker is told to stop, or panics. All its tasks are gone then.
fn live(
    runtime: LocalRuntime,
    worker: &Rc<Worker>,
    sockets: &mut Sockets,
    commands: &mut UnboundedReceiver<Command>,
) -> End {
    let serving = AssertUnwindSafe(|| runtime.block_on(serve(worker, sockets, commands)));
    let end = match catch_unwind(serving) {
        Ok(Ok(end)) => end,
        Ok(Err(error)) => End::Died(error.to_string()),
        Err(panic) => End::Died(message(&*panic).to_owned()),
    };
    runtime.shutdown_background();
    end
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
}

async fn serve(
    worker: &Rc<Worker>,
    sockets: &mut Sockets,
    commands: &mut UnboundedReceiver<Command>,
) -> io::Result<End> {
    let sweeper = tokio::task::spawn_local(sweep(Rc::clone(worker)));
    let mut acceptors = HashMap::new();
    for (&number, bound) in &*sockets {
        let mut acceptor = Acceptor::new(bound.socket.try_clone()?)?;
        if let Some(uid) = bound.serves {
            acceptor.serve(worker, uid);
        }
        acceptors.insert(number, acceptor);
    }
    let mut duties = Duties {
        worker,
        sockets,
        acceptors,
        leaving: Vec::new(),
    };
    let mut sweeping = pin!(sweeper);
    loop {
        let next = poll_fn(|cx| {
            if let Poll::Ready(ended) = sweeping.as_mut().poll(cx) {
                // It ends by a panic only. Without deadlines nothing else is worth keeping.
                return Poll::Ready(Err(ended.err()));
            }
            commands.poll_recv(cx).map(Ok)
        });
        match next.await {
            Ok(None | Some(Command::Stop)) => break,
            Ok(Some(command)) => duties.obey(command).await,
            Err(ended) => {
                let why = ended.and_then(|ended| ended.try_into_panic().ok());
                let why = why.as_deref().map_or("the sweep ended", message);
                return Ok(End::Died(why.to_owned()));
            }
        }
    }
    worker.sweep();
    sweeping.abort();
    Ok(End::Stopped)
}

async fn sweep(worker: Rc<Worker>) {
    let mut ticks = tokio::time::interval(SWEEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        worker.sweep();
    }
}

/// What a worker does when it is told to.
struct Duties<'w> {
    worker: &'w Rc<Worker>,
    sockets: &'w mut Sockets,
    acceptors: HashMap<u64, Acceptor>,
    /// Those whose last sessions go on.
    leaving: Vec<Acceptor>,
}

impl Duties<'_> {
    async fn obey(&mut self, command: Command) {
        let worker = self.worker;
        match command {
            Command::Listen(number, socket, done) => {
                let _ = done.send(self.listen(number, socket));
            }
            Command::Hold(number, done) => {
                self.serves(number, None);
                if let Some(acceptor) = self.acceptors.get_mut(&number) {
                    acceptor.hold().await;
                }
                let _ = done.send(());
            }
            Command::Serve(number, uid, done) => {
                self.serves(number, Some(uid));
                if let Some(acceptor) = self.acceptors.get_mut(&number) {
                    acceptor.serve(worker, uid);
                }
                let _ = done.send(());
            }
            Command::Unlisten(number, done) => {
                self.unlisten(number).await;
                let _ = done.send(());
            }
            Command::Vacate(port, done) => {
                for mut acceptor in self.leaving.extract_if(.., |each| each.has_port(port)) {
                    acceptor.close(worker).await;
                }
                let _ = done.send(());
            }
            Command::Forget(endpoints) => {
                for endpoint in &*endpoints {
                    worker.idle.forget(*endpoint);
                }
            }
            Command::Refresh(removed, done) => {
                worker.prune(&removed);
                worker.timer.wake_all();
                let _ = done.send(());
            }
            Command::Snapshot(reply) => {
                let _ = reply.send(worker.snapshot());
            }
            Command::Requests(reply) => {
                let _ = reply.send(worker.stats.borrow().methods.values().sum());
            }
            Command::TakePassed(reply) => {
                let _ = reply.send(worker.notes.take());
            }
            Command::Numbers(endpoint, reply) => {
                let _ = reply.send(worker.numbers(endpoint));
            }
            Command::Drain(reply) => {
                if !worker.draining.replace(true) {
                    worker.timer.wake_all();
                    tokio::task::yield_now().await;
                }
                let _ = reply.send(worker.active.get());
            }
            #[cfg(feature = "fault-injection")]
            Command::Panic(crate::worker::PanicAt::Command) => panic!("injected into a command"),
            #[cfg(feature = "fault-injection")]
            Command::Panic(at) => worker.panics_at.set(Some(at)),
            Command::Stop => {}
        }
    }

    fn listen(&mut self, number: u64, socket: Socket) -> io::Result<()> {
        let again = socket.try_clone()?;
        self.acceptors.insert(number, Acceptor::new(socket)?);
        let bound = Bound {
            socket: again,
            serves: None,
        };
        self.sockets.insert(number, bound);
        Ok(())
    }

    fn serves(&mut self, number: u64, uid: Option<u32>) {
        if let Some(bound) = self.sockets.get_mut(&number) {
            bound.serves = uid;
        }
    }

    async fn unlisten(&mut self, number: u64) {
        self.sockets.remove(&number);
        self.leaving.retain(|acceptor| !acceptor.is_done());
        if let Some(mut acceptor) = self.acceptors.remove(&number)
            && acceptor.end(self.worker).await
        {
            self.leaving.push(acceptor);
        }
    }
}
