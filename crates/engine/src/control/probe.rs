//! Active health checks: the I/O of one, and a bounded number of them at once.
//!
//! A probe reports what happened and judges nothing: any well-formed response is `ok`, whatever its
//! status. Verdicts are the control plane's.
//!
//! Thousands of probes must not leave thousands of sockets in `TIME_WAIT`, in this host or in the
//! connection tracking of those between. So a probe that is over on its own account (TCP only, timed
//! out, or the server does not close) resets its connection, and one that got a response lets the
//! server close first, as `Connection: close` asks it to.

mod http;
mod http2;
mod result;
mod tls;
mod trial;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use evenflow_rules::plan::ProxyVersion;
use evenflow_rules::tls::client::EndpointTls;
use evenflow_state::address::{Address, Preferred};
use evenflow_state::endpoint::Endpoint;
use serde::{Deserialize, Serialize};
use socket2::SockRef;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::connect::{self, Connected};
use crate::proxied::push_header;
pub use result::{ProbeOutcome, ProbeResult};
pub use trial::HttpProbe;
use trial::{Failure, ProbeAnswer};

/// Probes that run at once.
pub const CONCURRENCY: usize = 256;
/// Probes that may wait for their turn.
pub const BACKLOG: usize = 65_536;

/// One health check to perform.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Comes back in the result.
    pub id: u64,
    /// Where to connect, tried as [`crate::connect`] says.
    pub addresses: Vec<Address>,
    /// For the whole probe.
    pub timeout_ms: u64,
    /// `null` only connects.
    pub http: Option<HttpProbe>,
    /// The request must be sent by HTTP/2: in the clear by prior knowledge. Over TLS it may be in any
    /// case, as TLS agrees on.
    pub http2: bool,
    /// Whom the probe is for; `null` is nobody of the plan.
    pub endpoint: Option<ProbeEndpoint>,
    /// Encrypted as connections to the endpoint are.
    pub encrypted: bool,
    /// What encrypts it; found when the probe is submitted.
    #[serde(skip)]
    pub upstream: Option<EndpointTls>,
    /// What is known of the endpoint; likewise.
    #[serde(skip)]
    pub known: Option<Arc<Endpoint>>,
    /// The PROXY header that the server expects first; it says that nobody is proxied.
    pub send_proxy: Option<ProxyVersion>,
}

/// An endpoint by the names it has in the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeEndpoint {
    /// Its pool.
    pub pool: String,
    /// Its id there.
    pub backend: String,
}

/// Performs one probe. Takes no longer than its timeout.
pub async fn run(probe: Probe) -> ProbeResult {
    let start = Instant::now();
    let limit = Duration::from_millis(probe.timeout_ms);
    let mut elapsed = None;
    let outcome = timeout(limit, attempt(&probe, start, &mut elapsed)).await;
    // The time until the answer, not until the server closed after it.
    let elapsed_s = elapsed.unwrap_or_else(|| start.elapsed()).as_secs_f64();
    let (outcome, detail, answer) = match outcome {
        Ok(Ok(answer)) => (ProbeOutcome::Ok, String::new(), answer),
        Ok(Err(failure)) => (failure.outcome, failure.detail, ProbeAnswer::default()),
        Err(_) => {
            let detail = format!("not over within {} ms", probe.timeout_ms);
            (ProbeOutcome::Timeout, detail, ProbeAnswer::default())
        }
    };
    ProbeResult {
        id: probe.id,
        outcome,
        detail,
        status: answer.status,
        body: String::from_utf8_lossy(&answer.body).into_owned(),
        elapsed_s,
    }
}

async fn attempt(
    probe: &Probe,
    start: Instant,
    elapsed: &mut Option<Duration>,
) -> Result<ProbeAnswer, Failure> {
    // Before connecting: a request that cannot be made is not the server's fault.
    let request = probe.http.as_ref().map(http::request).transpose()?;
    let mut header = Vec::new();
    if let Some(version) = probe.send_proxy {
        push_header(&mut header, version, None);
    }
    let forgotten = Preferred::default();
    let preferred = probe
        .known
        .as_ref()
        .map_or(&forgotten, |known| &known.preferred);
    let connected = connect::connect(&probe.addresses, preferred).await;
    match connected.map_err(|error| Failure::connecting(&error))? {
        Connected::Tcp(mut stream) => {
            // Whatever ends this future early resets the connection.
            let _ = stream.set_zero_linger();
            write(&mut stream, &header).await?;
            if let Some(upstream) = &probe.upstream {
                let mut stream = tls::connect(upstream, stream).await?;
                let Some((http, request)) = probe.http.as_ref().zip(request) else {
                    return Ok(ProbeAnswer::default());
                };
                if stream.agreed_on_http2() {
                    return http2::exchange(stream, http, true).await;
                }
                if probe.http2 {
                    return Err(Failure::protocol("the server does not offer HTTP/2"));
                }
                let answer = http::exchange(&mut stream, http, &request).await?;
                *elapsed = Some(start.elapsed());
                if http::server_closes(&mut stream, left(probe, start)).await {
                    stream.close_in_order();
                }
                return Ok(answer);
            }
            let Some((http, request)) = probe.http.as_ref().zip(request) else {
                return Ok(ProbeAnswer::default());
            };
            if probe.http2 {
                return http2::exchange(stream, http, false).await;
            }
            let answer = http::exchange(&mut stream, http, &request).await?;
            *elapsed = Some(start.elapsed());
            if http::server_closes(&mut stream, left(probe, start)).await {
                let _ = SockRef::from(&stream).set_linger(None);
            }
            Ok(answer)
        }
        Connected::Unix(mut stream) => {
            write(&mut stream, &header).await?;
            let Some((http, request)) = probe.http.as_ref().zip(request) else {
                return Ok(ProbeAnswer::default());
            };
            if probe.http2 {
                return http2::exchange(stream, http, false).await;
            }
            http::exchange(&mut stream, http, &request).await
        }
    }
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), header: &[u8]) -> Result<(), Failure> {
    let written = stream.write_all(header).await;
    written.map_err(|error| Failure::exchanging(&error))
}

/// Half of the time that is left, so that waiting for the server's close never turns an answer into
/// a timeout.
fn left(probe: &Probe, start: Instant) -> Duration {
    Duration::from_millis(probe.timeout_ms).saturating_sub(start.elapsed()) / 2
}

/// Performs probes, a bounded number at once, in the order they were submitted.
#[derive(Debug, Clone)]
pub struct Prober {
    batches: UnboundedSender<Vec<Probe>>,
    waiting: Arc<AtomicUsize>,
}

/// Too many probes wait already, or the prober's runtime has ended; none of the batch was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbesRejected;

impl fmt::Display for ProbesRejected {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "more than {BACKLOG} probes wait, or the engine is closed"
        )
    }
}

impl std::error::Error for ProbesRejected {}

impl Prober {
    /// A prober and the future that does its work, to be spawned on a local set. The future ends when
    /// the last clone of the prober is gone and every probe it took is done; dropping it abandons
    /// those. `sink` gets each result, on that runtime, and must not block.
    pub fn new(
        sink: impl Fn(ProbeResult) + Send + Sync + 'static,
    ) -> (Self, impl Future<Output = ()> + 'static) {
        let (batches, queue) = unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let work = work(queue, Arc::clone(&waiting), Arc::new(sink));
        (Self { batches, waiting }, work)
    }

    /// Adds a batch to those that wait. May be called from any thread and never blocks.
    pub fn submit(&self, probes: Vec<Probe>) -> Result<(), ProbesRejected> {
        let count = probes.len();
        let waiting = self.waiting.fetch_add(count, Ordering::Relaxed);
        if waiting + count > BACKLOG || self.batches.send(probes).is_err() {
            self.waiting.fetch_sub(count, Ordering::Relaxed);
            return Err(ProbesRejected);
        }
        Ok(())
    }
}

async fn work(
    mut queue: UnboundedReceiver<Vec<Probe>>,
    waiting: Arc<AtomicUsize>,
    sink: Arc<impl Fn(ProbeResult) + Send + Sync + 'static>,
) {
    let turns = Arc::new(Semaphore::new(CONCURRENCY));
    let mut running = JoinSet::new();
    while let Some(batch) = queue.recv().await {
        for probe in batch {
            let Ok(turn) = Arc::clone(&turns).acquire_owned().await else {
                return;
            };
            waiting.fetch_sub(1, Ordering::Relaxed);
            while running.try_join_next().is_some() {}
            let sink = Arc::clone(&sink);
            running.spawn_local(async move {
                sink(run(probe).await);
                drop(turn);
            });
        }
    }
    while running.join_next().await.is_some() {}
}
