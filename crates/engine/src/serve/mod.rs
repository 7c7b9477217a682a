//! From a listener's socket to requests: who accepts, what a connection is, and the worker they
//! belong to.

pub mod acceptor;
pub mod connection;
pub mod proxied;
pub mod supervisor;
pub mod worker;
