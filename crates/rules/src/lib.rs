//! The plan and what it compiles to. Pure: a view of a request and of the state in, a decision out.
