//! Access records: one line per request, written by a thread of its own.
//!
//! A worker formats lines into its [`LogBuffer`] and hands them over in chunks without ever
//! waiting: when the disk stalls and the queue is full, the chunk is dropped and its lines are
//! counted. The workers decide when to [flush](LogBuffer::flush); rotation is somebody else's work,
//! who calls [`AccessLog::reopen`] after it.

mod format;
mod record;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use evenflow_rules::plan;

use crate::output::Output;
use format::Formatter;
pub use record::Record;

/// A buffer that holds more than this many bytes is worth handing over.
pub const CHUNK: usize = 16 * 1024;
/// Chunks and bytes that may wait for the writer.
const QUEUE_CHUNKS: usize = 1024;
const QUEUE_BYTES: usize = 8 * 1024 * 1024;

/// How many lines became what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Lines written.
    pub written: u64,
    /// Lines lost, because the queue was full or writing failed.
    pub dropped: u64,
}

/// An open access log and its writer thread. When the last reference goes, the writer writes what
/// was handed over and ends by itself.
#[derive(Debug)]
pub struct AccessLog {
    plan: plan::AccessLogPlan,
    queue: SyncSender<Message>,
    shared: Arc<Shared>,
    /// Disconnected when the writer has ended.
    ended: Mutex<Receiver<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    written: AtomicU64,
    dropped: AtomicU64,
    queued_bytes: AtomicUsize,
    reopen: AtomicBool,
    close: AtomicBool,
}

#[derive(Debug)]
enum Message {
    Lines {
        bytes: Vec<u8>,
        count: u64,
    },
    /// A flag in [`Shared`] changed.
    Wake,
}

impl AccessLog {
    /// Opens the output and starts the writer.
    ///
    /// # Errors
    ///
    /// The output cannot be opened or the thread not be started.
    pub fn open(plan: &plan::AccessLogPlan) -> io::Result<Arc<Self>> {
        let output = Output::open(&plan.output)?;
        let (queue, messages) = sync_channel(QUEUE_CHUNKS);
        let (end, ended) = sync_channel(0);
        let shared = Arc::new(Shared::default());
        let writer = Writer {
            name: plan.output.clone(),
            output,
            shared: shared.clone(),
            messages,
        };
        thread::Builder::new()
            .name("access-log".into())
            .spawn(move || {
                writer.run();
                drop(end);
            })?;
        Ok(Arc::new(Self {
            plan: plan.clone(),
            queue,
            shared,
            ended: Mutex::new(ended),
        }))
    }

    /// What it was opened with.
    pub fn plan(&self) -> &plan::AccessLogPlan {
        &self.plan
    }

    /// A buffer for one worker.
    pub fn buffer(self: &Arc<Self>) -> LogBuffer {
        LogBuffer {
            formatter: Formatter::new(self.plan.format),
            log: self.clone(),
            lines: Vec::new(),
            count: 0,
        }
    }

    /// Lines written and dropped so far.
    pub fn stats(&self) -> LogStats {
        LogStats {
            written: self.shared.written.load(Ordering::Relaxed),
            dropped: self.shared.dropped.load(Ordering::Relaxed),
        }
    }

    /// Opens the file's path anew before the next line, for the file may have been renamed. If that
    /// fails the old file stays in use. Does not wait.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        self.wake();
    }

    /// Writes what was handed over and ends the writer, waiting for it no longer than `patience`.
    /// Returns whether it ended in that time. Lines handed over later are dropped.
    pub fn close(&self, patience: Duration) -> bool {
        self.shared.close.store(true, Ordering::Release);
        self.wake();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected)
    }

    fn wake(&self) {
        // A full queue wakes the writer as well, and it looks at the flags after every message.
        let _ = self.queue.try_send(Message::Wake);
    }

    fn hand_over(&self, bytes: Vec<u8>, count: u64) {
        let size = bytes.len();
        let queued = self.shared.queued_bytes.fetch_add(size, Ordering::Relaxed);
        if queued <= QUEUE_BYTES {
            match self.queue.try_send(Message::Lines { bytes, count }) {
                Ok(()) => return,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
        self.shared.queued_bytes.fetch_sub(size, Ordering::Relaxed);
        self.shared.dropped.fetch_add(count, Ordering::Relaxed);
    }
}

/// One worker's lines that are not handed over yet. Dropping it hands them over.
#[derive(Debug)]
pub struct LogBuffer {
    log: Arc<AccessLog>,
    formatter: Formatter,
    lines: Vec<u8>,
    count: u64,
}

impl LogBuffer {
    /// Formats a record. Which requests are recorded, the plan's `sample`, is the caller's decision.
    #[inline]
    pub fn record(&mut self, record: &Record<'_>) {
        if self.lines.capacity() == 0 {
            self.lines.reserve(CHUNK + CHUNK / 4);
        }
        self.formatter.format(record, &mut self.lines);
        self.count += 1;
    }

    /// Bytes that wait to be handed over; [`CHUNK`] or more should be.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Hands the lines to the writer, or drops them if its queue is full. Never waits.
    pub fn flush(&mut self) {
        if !self.lines.is_empty() {
            self.log.hand_over(
                std::mem::take(&mut self.lines),
                std::mem::take(&mut self.count),
            );
        }
    }
}

impl Drop for LogBuffer {
    fn drop(&mut self) {
        self.flush();
    }
}

struct Writer {
    name: String,
    output: Output,
    shared: Arc<Shared>,
    messages: Receiver<Message>,
}

impl Writer {
    fn run(mut self) {
        while let Ok(message) = self.messages.recv() {
            self.handle(message);
            while let Ok(message) = self.messages.try_recv() {
                self.handle(message);
            }
            if self.shared.close.load(Ordering::Acquire) {
                return;
            }
        }
    }

    fn handle(&mut self, message: Message) {
        if self.shared.reopen.swap(false, Ordering::AcqRel)
            && let Ok(output) = Output::open(&self.name)
        {
            self.output = output;
        }
        if let Message::Lines { bytes, count } = message {
            let counter = match self.output.write_lines(&bytes) {
                Ok(()) => &self.shared.written,
                Err(_) => &self.shared.dropped,
            };
            counter.fetch_add(count, Ordering::Relaxed);
            self.shared
                .queued_bytes
                .fetch_sub(bytes.len(), Ordering::Relaxed);
        }
    }
}
