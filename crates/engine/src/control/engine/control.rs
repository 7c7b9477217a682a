//! The control thread: probes, and the end of ejections.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use evenflow_rules::pool::offer_all;
use evenflow_state::endpoint::EJECTED;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::engine::{EngineError, internal};
use crate::events::Event;
use crate::probe::Prober;
use crate::worker::Shared;

/// How often the ends of ejections are looked for.
const TICK: Duration = Duration::from_millis(50);

pub type Control = (oneshot::Sender<()>, JoinHandle<()>);

/// The control thread: probes, and the end of ejections.
pub fn start_control(shared: &Arc<Shared>) -> Result<(Prober, Control), EngineError> {
    let sink = Arc::clone(shared);
    let (prober, work) = Prober::new(move |result| sink.events.push(Event::Probe(result)));
    let (stop, mut stopped) = oneshot::channel();
    let shared = Arc::clone(shared);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(internal)?;
    let thread = std::thread::Builder::new()
        .name("evenflow-control".into())
        .spawn(move || {
            let local = LocalSet::new();
            local.block_on(&runtime, async move {
                let probing = tokio::task::spawn_local(work);
                let mut ticks = tokio::time::interval(TICK);
                ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                while stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
                    ticks.tick().await;
                    end_ejections(&shared);
                }
                probing.abort();
            });
        })
        .map_err(internal)?;
    Ok((prober, (stop, thread)))
}

pub fn end_ejections(shared: &Shared) {
    let now = shared.now_ms();
    let mut ejected = shared
        .ejected
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    ejected.retain(|(endpoint, pool)| {
        let over = endpoint.ejected_until_ms.load(Ordering::Acquire) <= now;
        if over {
            endpoint.forget_failures();
            endpoint.flag(EJECTED, false);
            pool.ejected.fetch_sub(1, Ordering::AcqRel);
            offer_all(pool);
            shared.events.push(Event::Returned {
                pool: endpoint.pool.clone(),
                backend: endpoint.id.clone(),
            });
        }
        !over
    });
}
