//! What the control plane asks for: plans, updates, probes, snapshots, drain.

pub mod engine;
pub mod events;
pub mod probe;
pub mod published;
pub mod snapshot;
