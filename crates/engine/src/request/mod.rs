//! A request's life, one file a phase.

pub mod access_log;
pub mod admit;
pub mod answer;
pub mod attempt;
pub mod call;
pub mod deliver;
pub mod exchange;
pub mod fault;
pub mod forward;
pub mod hedge;
pub mod mirror;
pub mod record;
pub mod request_body;
pub mod respond;
pub mod tunnel;
