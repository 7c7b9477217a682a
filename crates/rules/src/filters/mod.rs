//! Filter primitives, one a file, and the chain that runs them in the order in which they are
//! written: the filters of the listener, then those of the route.
//!
//! A primitive implements [`Primitive`] and is registered in `step.rs`. On the request it lets
//! the request continue, refuses it, answers it, or waits for something that the engine does (a slow
//! password hash, a sub-request). What it does to every response is compiled when the chain is
//! assembled: edits of the response run in written order as well, so the last one wins.

pub mod auth;
pub mod body_limit;
pub mod chain;
pub mod concurrency;
pub mod context;
pub mod cors;
pub mod fleet;
pub mod headers;
pub mod ip_set;
pub mod key;
pub mod preflight;
pub mod primitive;
pub mod rate_limit;
pub mod state;
pub mod step;

pub use chain::{Chain, NamedSteps, Verdict};
pub use primitive::{
    Edits, FilterRequest, PasswordCheck, Question, Refusal, RequestView, Response, Scope, Setup,
    StepOutcome, Wait, WaitResult,
};
pub use state::{FilterState, RefusalCounter};
