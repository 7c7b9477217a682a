//! From a plan to a table.

mod compiled;
mod filters;
mod pool;
mod registry;
mod table;

pub use compiled::Compiled;
pub use pool::{change_members, compile_picker, counts_in_flight};
pub use registry::{Registry, Removed};
pub use table::{check, compile};
