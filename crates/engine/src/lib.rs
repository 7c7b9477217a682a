//! The data plane of evenflow: what happens once per request or per byte.
//!
//! Python decides and sends a [`plan`](evenflow_rules::plan), which
//! [`compile`](evenflow_rules::compile) makes a table of; workers serve by it.
//! [`exchange`](request::exchange) holds one request's life, its phases in order, and is the place to
//! begin reading.

mod control;
pub mod http2;
mod io;
mod layer4;
mod request;
mod serve;
mod upstream;

pub use control::{engine, events, probe, snapshot};
pub use io::{clock, output, tls};
pub use request::access_log;
#[cfg(feature = "fault-injection")]
pub use serve::worker::PanicAt;
pub use upstream::connect;

use control::published;
use io::{both_ways, buffer, listen, memory, relay, stream, timer, write};
use layer4::{tcp, udp};
use request::{
    admit, answer, attempt, call, exchange, fault, forward, hedge, mirror, record, request_body,
    respond, tunnel,
};
use serve::{acceptor, connection, proxied, supervisor, worker};
use upstream::lease;
