//! HTTP/1.1 as bytes and rules, without I/O: heads, bodies, and what is written for either side.

pub mod body;
pub mod encode;
pub mod head;
pub mod hops;
