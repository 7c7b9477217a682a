//! Tests of runtime state through its public interface, one module a subject.

mod breaker;
mod concurrency;
mod endpoint;
mod histogram;
mod limiter;
mod queue;
