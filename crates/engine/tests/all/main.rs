//! Tests of the engine through its public interface, one module a subject.

mod access_log;
mod client_gone;
mod consistent;
mod cors;
mod datagrams;
mod engine;
mod escaped_paths;
mod exchange;
mod fleet;
mod golden;
mod headers;
mod ip_set;
mod jwt;
mod passthrough;
mod password;
mod picker;
mod probe;
mod proofs;
mod queue;
mod route;
mod route_choice;
mod support;
mod table;
mod tunnel;
