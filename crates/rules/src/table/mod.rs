//! The table: a plan compiled into what a request needs, immutable, all names resolved to indices.
//!
//! A request takes the table once and keeps it to its end. What lives longer than a table
//! (endpoint state, cursors, counters, limiters) hangs off it by `Arc` and is carried into the next
//! one by identity.

mod admission;
mod compile;
mod pool;
mod registry;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub use admission::{POOL_PROBE, PROBE, Seat, Waiter, offer_all};
pub use compile::{Compiled, check, compile};
use evenflow_state::breaker::Breaker;
use evenflow_state::endpoint::{Endpoint, Unusable};
use evenflow_state::listener::ListenerState;
use evenflow_state::queue::Queue;
use evenflow_wire::http1::head::RequestHead;
pub use pool::{change_members, compile_picker, counts_in_flight};
pub use registry::Registry;
use rustc_hash::FxHashMap;

use crate::action::Action;
use crate::decode::Refused;
use crate::filters::ip_set::IpSet;
use crate::filters::{Chain, Edits, FilterState, RefusalCounter};
use crate::hedge::Hedge;
use crate::mirror::Mirror;
use crate::passthrough::Passthrough;
use crate::picker::{Picker, Tried};
use crate::plan::{self, Protocol};
use crate::rewrite::Rewrite;
use crate::route::Router;
use crate::sticky::Sticky;
use crate::tls::client::{Rules, Upstream};

pub(crate) fn refuse<T>(path: impl Into<String>, message: impl Into<String>) -> Result<T, Refused> {
    Err(Refused {
        path: path.into(),
        message: message.into(),
    })
}

/// Compiled state, one for all workers.
#[derive(Debug, Clone)]
pub struct Table {
    /// The control plane's number for it.
    pub revision: u64,
    /// For `Via` and own answers.
    pub server_name: Arc<str>,
    /// The share of requests recorded.
    pub access_sample: f64,
    /// Listeners, in plan order.
    pub listeners: Arc<[Listener]>,
    /// Routes, in plan order.
    pub routes: Arc<[Route]>,
    /// Pools, in plan order.
    pub pools: Vec<Arc<Pool>>,
    /// What filters remember, for the next table to take over.
    pub kept: FilterState,
    /// Refusals by filter chain.
    pub tallies: Vec<Arc<RefusalCounter>>,
    /// Where in `listeners` the listener of each number stands.
    pub(crate) listener_indices: Arc<FxHashMap<u32, usize>>,
    /// Where in `routes` the route of each number stands.
    pub(crate) route_indices: Arc<FxHashMap<u32, usize>>,
}

impl Table {
    /// The listener of this number; `None` when the plan no longer has it.
    pub fn listener(&self, uid: u32) -> Option<&Listener> {
        let index = self.listener_indices.get(&uid)?;
        self.listeners.get(*index)
    }

    /// Has a listener stand in for one that the plan no longer has, whose connections are told of
    /// their new listener only once this table is in force.
    pub fn succeed(&mut self, old: u32, new: u32) {
        if !self.listener_indices.contains_key(&old)
            && let Some(&index) = self.listener_indices.get(&new)
        {
            Arc::make_mut(&mut self.listener_indices).insert(old, index);
        }
    }

    /// The route of this number; `None` when the plan no longer has it.
    pub fn route(&self, uid: u32) -> Option<&Route> {
        let index = self.route_indices.get(&uid)?;
        self.routes.get(*index)
    }
}

impl Table {
    /// An endpoint by the names of its pool and its own.
    pub fn member(&self, pool: &str, id: &str) -> Option<&Member> {
        let pool = self.pools.iter().find(|known| *known.name == *pool)?;
        pool.members.iter().find(|member| member.endpoint.id == id)
    }
}

/// How a connection was made: in which epoch of its endpoint, and by which TLS rules (0: none).
pub type ConnectionVersion = (u32, u32);

/// A listener's rules. Its sockets belong to the workers.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // Facts that are independent of each other.
pub struct Listener {
    /// Runtime state, kept across tables by name.
    pub state: Arc<ListenerState>,
    /// The addresses to bind.
    pub addresses: Vec<String>,
    /// What it speaks.
    pub protocol: Protocol,
    /// Clients may begin with HTTP/2 in the clear.
    pub http2: bool,
    /// Filters that run before routing.
    pub chain: Chain,
    /// For TCP and UDP: the pool's index.
    pub pool: Option<usize>,
    /// Bounds on one client.
    pub limits: plan::Limits,
    /// How long a client may take.
    pub timeouts: plan::Timeouts,
    /// Whose forwarding headers are believed; `None` is nobody's.
    pub trusted: Option<IpSet>,
    /// Also send `Forwarded`.
    pub forwarded: bool,
    /// TRACE is served.
    pub trace: bool,
    /// Escaped slashes are decoded before anything else looks at a path.
    pub decode_slashes: bool,
    /// Encryption.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Where requests in the clear are sent.
    pub redirect_https: Option<u16>,
    /// For TCP: pools by what TLS clients ask for.
    pub passthrough: Option<Passthrough>,
    /// For UDP: answers to one datagram; 0 is any number.
    pub answers: u32,
    /// For TCP and UDP: further endpoints for a session that reached none.
    pub retries: plan::StreamRetries,
    /// Whose PROXY headers are read.
    pub proxies: Option<IpSet>,
    /// Its routes.
    pub router: Router,
    /// Header edits by route, the listener's own included.
    pub edits: Vec<Edits>,
}

/// A route's rules.
#[derive(Debug)]
pub struct Route {
    /// The same for as long as the name stays.
    pub uid: u32,
    /// Its name.
    pub name: Arc<str>,
    /// Filters after those of the listener.
    pub chain: Chain,
    /// What becomes of a request.
    pub action: Action,
    /// The pool in place of one without a usable endpoint.
    pub fallback: Option<usize>,
    /// What an endpoint is asked for instead.
    pub rewrite: Option<Box<Rewrite>>,
    /// Copies for another pool.
    pub mirror: Option<Box<Mirror>>,
    /// Faults put in on purpose.
    pub fault: Option<Box<plan::Fault>>,
    /// The control plane's own.
    pub internal: bool,
    /// The whole exchange; 0 is no bound.
    pub timeout_ms: u64,
    /// Further attempts.
    pub retries: plan::Retries,
    /// Second tries of slow requests.
    pub hedge: Option<Box<Hedge>>,
    /// Bounds on connections that switch protocols; `None` lets none.
    pub upgrade: Option<plan::Upgrade>,
}

impl Route {
    /// The target that an endpoint is asked for, where it is not the client's.
    pub fn rewritten(&self, head: &RequestHead, base: &[u8]) -> Option<Vec<u8>> {
        self.rewrite.as_ref()?.target(head, base)
    }

    /// The host that an endpoint is asked for, where it is not the client's.
    pub fn rewritten_host(&self) -> Option<&[u8]> {
        self.rewrite.as_ref()?.host()
    }
}

/// A pool's members and rules.
#[derive(Debug, Clone)]
pub struct Pool {
    /// Its name.
    pub name: Arc<str>,
    /// How a member is chosen.
    pub picker: Picker,
    /// The members.
    pub members: Arc<[Member]>,
    /// When none is usable, use all that are not draining.
    pub use_all: bool,
    /// What happens while too few are usable.
    pub panic: Option<plan::Panic>,
    /// Requests that wait while all are full.
    pub queue: plan::Queue,
    /// Passive health.
    pub outlier: Option<plan::Outlier>,
    /// Circuit breakers.
    pub breaker: Option<plan::Breaker>,
    /// Upstream connections.
    pub connections: plan::Connections,
    /// Sessions that stay with an endpoint.
    pub sticky: Option<Arc<Sticky>>,
    /// Retries as a share of live requests.
    pub retry_budget: f64,
    /// Retries per second allowed in any case.
    pub retry_floor: u32,
    /// The PROXY header that connections begin with.
    pub send_proxy: Option<plan::ProxyVersion>,
    /// Whether `state.in_flight` is kept.
    pub counts_in_flight: bool,
    /// Encryption to endpoints, as it was wanted and compiled.
    pub tls: Option<Arc<(plan::UpstreamTls, Rules)>>,
    /// Runtime state, kept across tables by name.
    pub state: Arc<PoolState>,
}

impl Pool {
    /// Whether endpoints get requests although their health speaks against it.
    pub fn looks_past_health(&self) -> bool {
        self.use_all || self.panic == Some(plan::Panic::UseAll)
    }

    /// Whether every member that could serve has been tried.
    pub fn all_tried(&self, tried: &Tried) -> bool {
        let past_health = self.looks_past_health();
        (0u32..)
            .zip(self.members.iter())
            .take(64)
            .all(|(index, member)| {
                tried.contains(index) || member.endpoint.usable(past_health).is_err()
            })
    }

    /// Whether breakers refuse requests that endpoints could serve otherwise: the time in
    /// milliseconds until one lets some pass.
    pub fn broken(&self, now_ms: u64) -> Option<u64> {
        self.breaker?;
        let left = |breaker: &Breaker| {
            let until = breaker.until_ms.load(Ordering::Acquire);
            until.saturating_sub(now_ms)
        };
        if !self.state.breaker.allows() {
            return Some(left(&self.state.breaker));
        }
        let all = self.members.iter().map(|member| &member.endpoint);
        let past_health = self.looks_past_health();
        all.filter(|endpoint| endpoint.usable(past_health) == Err(Unusable::Broken))
            .map(|endpoint| left(&endpoint.breaker))
            .min()
    }
}

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
    pub tls: Option<Upstream>,
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

/// What is known of a pool while it runs. In its queue, a grant of `None` says that no endpoint can
/// serve the request any more.
pub type PoolState = evenflow_state::pool::PoolState<Queue<Waiter, Option<Seat>>>;

/// A span of time as the engine's clock counts it.
pub fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
