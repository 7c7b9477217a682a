//! Where an endpoint is.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// TCP.
    Ip(SocketAddr),
    /// A Unix stream socket.
    Unix(String),
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("expected a path after `unix:`".into()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text
                .parse()
                .map(Self::Ip)
                .map_err(|_| format!("expected ip:port or unix:/path, got {text:?}")),
        }
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        match address {
            Address::Ip(ip) => ip.to_string(),
            Address::Unix(path) => format!("unix:{path}"),
        }
    }
}

/// The address of an endpoint that worked last, whatever the port. Addresses may come and go: one
/// that is no more is not found.
#[derive(Debug, Default)]
pub struct Preferred(AtomicU64);

impl Preferred {
    /// Whether this is the one.
    pub fn is(&self, address: &Address) -> bool {
        self.0.load(Ordering::Relaxed) == Self::mark(address)
    }

    /// Makes this the one.
    pub fn remember(&self, address: &Address) {
        self.0.store(Self::mark(address), Ordering::Relaxed);
    }

    fn mark(address: &Address) -> u64 {
        let mut hasher = DefaultHasher::new();
        match address {
            Address::Ip(address) => address.ip().hash(&mut hasher),
            Address::Unix(path) => path.hash(&mut hasher),
        }
        // 0 is none.
        hasher.finish() | 1
    }
}
