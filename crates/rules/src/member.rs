//! An endpoint as a member of a pool.

use std::sync::Arc;

use evenflow_state::endpoint::Endpoint;

use crate::plan;
use crate::tls::client::EndpointTls;

/// How a connection was made: in which epoch of its endpoint, and by which TLS rules (0: none).
pub type ConnectionVersion = (u32, u32);

/// An endpoint as a member of a pool.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its runtime state.
    pub endpoint: Arc<Endpoint>,
    /// Connecting.
    pub connect_timeout_ms: u64,
    /// Until the response head.
    pub first_byte_timeout_ms: u64,
    /// Between two reads.
    pub idle_timeout_ms: u64,
    /// Encryption; `None` sends in the clear.
    pub tls: Option<EndpointTls>,
    /// The version of HTTP.
    pub http: plan::Http,
}

impl Member {
    /// How a connection to it is made now.
    pub fn made(&self) -> ConnectionVersion {
        let rules = self.tls.as_ref().map_or(0, |tls| tls.uid);
        (self.endpoint.epoch(), rules)
    }
}
