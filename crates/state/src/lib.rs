//! What outlives a plan, joined by identity: counters, estimates, ejection, breakers, limits.
//!
//! Atomics and guards. Nothing here knows a plan or reads a clock: the time is passed in, one clock
//! for all workers.

pub mod address;
pub mod breaker;
pub mod concurrency;
pub mod endpoint;
pub mod exhausted;
pub mod handshake;
pub mod histogram;
pub mod limiter;
pub mod listener;
pub mod pool;
pub mod queue;
pub mod stats;
