//! What bytes pass through: sockets, TLS, buffers and their budget, timers.

pub mod both_ways;
pub mod buffer;
pub mod clock;
pub mod listen;
pub mod memory;
pub mod output;
pub mod relay;
pub mod stream;
pub mod timer;
pub mod tls;
pub mod write;
