//! Tests of the engine through its public interface, one module a subject.

mod access_log;
mod client_gone;
mod clock;
mod connect;
mod datagrams;
mod engine;
mod escaped_paths;
mod exchange;
mod filter_order;
mod fleet;
mod probe;
mod proofs;
mod queue;
mod repeats;
mod support;
mod tunnel;
#[cfg(feature = "fault-injection")]
mod worker_faults;
