//! Tests of the rules through their public interface, one module a subject.

mod consistent;
mod cors;
mod golden;
mod headers;
mod ip_set;
mod jwt;
mod passthrough;
mod password;
mod picker;
mod retry;
mod route;
mod route_choice;
mod support;
mod table;
