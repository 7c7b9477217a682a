//! What routes ask about a request, and why one cannot be added.

use std::net::IpAddr;

use evenflow_wire::http1::head::RequestHead;

/// A request as routes see it.
#[derive(Debug, Clone, Copy)]
pub struct RouteQuery<'a> {
    /// With or without port.
    pub host: &'a [u8],
    /// As received, without the query.
    pub path: &'a [u8],
    /// The head.
    pub head: &'a RequestHead,
    /// The bytes that the head was parsed from.
    pub base: &'a [u8],
    /// The client's address as far as it is believed.
    pub client: Option<IpAddr>,
}

/// Why a route cannot be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteError {
    /// The route of this number takes the very same requests.
    Taken(usize),
    /// The path below `match` and what is wrong there.
    Wrong(String, String),
}
