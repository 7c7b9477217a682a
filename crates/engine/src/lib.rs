//! The data plane of evenflow: what happens once per request or per byte.
//!
//! Python decides and sends a [`plan`]; [`table`] compiles it; workers serve by it. [`exchange`]
//! holds one request's life, its phases in order, and is the place to begin reading.

mod acceptor;
pub mod access_log;
mod action;
mod answer;
mod attempt;
mod buffer;
mod connection;
pub mod consistent;
mod deliver;
pub mod engine;
pub mod error;
pub mod events;
mod exchange;
pub mod explain;
mod fault;
pub mod filters;
mod gate;
mod hedge;
pub mod http2;
mod lease;
mod listen;
mod mirror;
pub mod output;
pub mod passthrough;
pub mod password;
pub mod picker;
pub mod plan;
pub mod probe;
mod proxied;
mod record;
mod relay;
mod request_body;
mod respond;
pub mod rewrite;
pub mod route;
pub mod snapshot;
mod split;
mod sticky;
mod stream;
pub mod table;
mod tcp;
mod timer;
pub mod tls;
mod tunnel;
mod udp;
mod upstream;
mod worker;
