//! The data plane of evenflow: what happens once per request or per byte.
//!
//! Python decides and sends a [`plan`]; [`table`] compiles it; workers serve by it. [`exchange`]
//! holds one request's life, its phases in order, and is the place to begin reading.

mod acceptor;
pub mod access_log;
mod answer;
mod attempt;
mod buffer;
mod call;
pub mod connect;
mod connection;
mod deliver;
pub mod engine;
pub mod events;
mod exchange;
mod fault;
mod forward;
mod gate;
mod hedge;
pub mod http2;
mod lease;
mod listen;
mod memory;
mod mirror;
pub mod output;
pub mod probe;
mod proxied;
mod published;
mod record;
mod relay;
mod request_body;
mod respond;
pub mod snapshot;
mod stream;
mod tcp;
mod timer;
pub mod tls;
mod tunnel;
mod udp;
mod upstream;
mod worker;
mod write;
