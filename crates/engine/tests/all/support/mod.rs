//! Plans to begin with, as the tests of rules have them, and the network around an engine.

pub mod net;
#[path = "../../../../rules/tests/all/support.rs"]
mod plans;

pub use plans::*;
