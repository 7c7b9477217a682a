//! The plan and what it compiles to.
//!
//! Pure: a view of a request and of the state in, a decision out. A [`plan`] is what Python sends,
//! a [`table`] what it is compiled to.

pub mod action;
pub mod answer;
pub mod compile;
pub mod consistent;
pub mod decode;
pub mod explain;
pub mod filters;
pub mod hedge;
pub mod key;
pub mod member;
pub mod mirror;
pub mod passthrough;
pub mod password;
pub mod picker;
pub mod plan;
pub mod pool;
pub mod reason;
pub mod retry;
pub mod rewrite;
pub mod route;
pub mod split;
pub mod sticky;
pub mod table;
pub mod tls;
