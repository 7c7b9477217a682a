//! What is known of a listener while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use tokio::sync::Notify;

use crate::concurrency::Concurrency;
use crate::handshake::Handshakes;

/// What is known of a listener while it runs.
#[derive(Debug, Default)]
pub struct ListenerState {
    /// Never used again in this process.
    pub uid: u32,
    /// Its name.
    pub name: String,
    /// Connections open.
    pub connections: AtomicU32,
    /// Connections accepted so far.
    pub accepted: AtomicU64,
    /// Connections closed at once by a filter.
    pub rejected: AtomicU64,
    /// Connections open by client, where one may have only so many.
    pub clients: Arc<Concurrency>,
    /// TLS handshakes by how they ended.
    pub handshakes: Handshakes,
    /// Woken when a connection closes while the listener is full.
    pub room: Notify,
    /// Someone waits for `room`.
    pub full: AtomicBool,
}
