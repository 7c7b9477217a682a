//! Tests of the wire through its public interface, one module a subject.

mod body;
mod client_hello;
mod encode;
mod encode_answers;
mod field;
mod head;
mod http2;
mod proxy_protocol;
