//! The table: a plan compiled into what a request needs, immutable, all names resolved to indices.
//!
//! A request takes the table once and keeps it to its end. What lives longer than a table
//! (endpoint state, cursors, counters, limiters) hangs off it by `Arc` and is carried into the next
//! one by identity.

use std::sync::Arc;
use std::time::Duration;

use evenflow_state::listener::ListenerState;
use evenflow_wire::http1::head::RequestHead;
use rustc_hash::FxHashMap;

use crate::action::Action;
use crate::filters::ip_set::IpSet;
use crate::filters::{Chain, FilterState, RefusalCounter, Scope};
use crate::hedge::Hedge;
use crate::member::Member;
use crate::mirror::Mirror;
use crate::passthrough::Passthrough;
use crate::plan::{self, Protocol};
use crate::pool::Pool;
use crate::rewrite::Rewrite;
use crate::route::Router;

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
    pub filter_state: FilterState,
    /// Refusals by named filter.
    pub refusals: Vec<Arc<RefusalCounter>>,
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
    /// Its filters, for requests that no route takes and for connections of layer 4.
    pub chain: Arc<Chain>,
    /// Its filters and then those of a route, by the route's index.
    pub chains: Box<[Arc<Chain>]>,
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
}

/// A route's rules.
#[derive(Debug)]
pub struct Route {
    /// The same for as long as the name stays.
    pub uid: u32,
    /// Its name.
    pub name: Arc<str>,
    /// What becomes of a request.
    pub action: Action,
    /// The pool in place of one without a usable endpoint.
    pub fallback: Option<usize>,
    /// What an endpoint is asked for instead.
    pub rewrite: Option<Box<Rewrite>>,
    /// Copies for another pool.
    pub mirror: Option<Box<Mirror>>,
    /// Faults put in on purpose.
    pub fault: Option<Box<plan::FaultPlan>>,
    /// The control plane's own.
    pub internal: bool,
    /// The whole exchange; 0 is no bound.
    pub timeout_ms: u64,
    /// What becomes of a request whose client leaves.
    pub on_client_close: plan::OnClientClose,
    /// Further attempts.
    pub retries: plan::Retries,
    /// Second tries of slow requests.
    pub hedge: Option<Box<Hedge>>,
    /// Bounds on connections that switch protocols; `None` lets none.
    pub upgrade: Option<plan::Upgrade>,
}

impl Route {
    /// Which filters run for its requests, if they are not redirected.
    pub fn scope(&self) -> Scope {
        match self.action {
            Action::Own(_) if self.internal => Scope::Public,
            _ if self.internal => Scope::Internal,
            _ => Scope::All,
        }
    }

    /// The target that an endpoint is asked for, where it is not the client's.
    pub fn rewritten(&self, head: &RequestHead, base: &[u8]) -> Option<Vec<u8>> {
        self.rewrite.as_ref()?.target(head, base)
    }

    /// The host that an endpoint is asked for, where it is not the client's.
    pub fn rewritten_host(&self) -> Option<&[u8]> {
        self.rewrite.as_ref()?.host()
    }
}

/// A span of time as the engine's clock counts it.
pub fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
