//! What is known of a pool while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};

use crate::breaker::Breaker;
use crate::exhausted::Exhausted;

/// What is known of a pool while it runs. `Q` is its [`Queue`](crate::queue::Queue): what a waiting
/// request has to know of its plan is nothing of this crate's.
#[derive(Debug, Default)]
pub struct PoolState<Q> {
    /// Never used again in this process.
    pub uid: u32,
    /// Where the cycle stands.
    pub cursor: AtomicUsize,
    /// Requests in flight; kept only for pickers that bound an endpoint's share.
    pub in_flight: AtomicU32,
    /// Whether no endpoint takes a request.
    pub exhausted: Exhausted,
    /// Requests that wait for a place.
    pub queue: Arc<Q>,
    /// Endpoints ejected now.
    pub ejected: AtomicU32,
    /// The breaker of the pool as a whole.
    pub breaker: Breaker,
    /// Ejections so far.
    pub ejections: AtomicU64,
    /// Requests that waited for too long.
    pub queue_timeouts: AtomicU64,
    /// Requests that found the queue full.
    pub queue_rejected: AtomicU64,
    /// Retries after a failed connect, a reset, a timeout, a status.
    pub retries: [AtomicU64; 4],
    /// Retries that the budget did not allow.
    pub retries_over_budget: AtomicU64,
}
