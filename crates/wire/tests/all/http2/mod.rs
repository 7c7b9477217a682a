//! HTTP/2 connections without I/O: two of ours with each other, and against bytes written by hand.

mod errors;
mod exchange;
mod floods;
mod properties;
mod support;
