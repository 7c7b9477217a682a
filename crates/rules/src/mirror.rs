//! Copies of requests for another pool, as a route has them.

/// A route's mirror.
#[derive(Debug)]
pub struct Mirror {
    /// The pool's number.
    pub pool: usize,
    /// Of the requests.
    pub share: f64,
    /// Copies under way at once in one worker.
    pub max_in_flight: u32,
    /// One copy until the end of its answer.
    pub timeout_ms: u64,
}
