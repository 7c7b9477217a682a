//! What outlives tables, found again by identity.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use evenflow_state::endpoint::{Endpoint, GONE};
use evenflow_state::listener::ListenerState;

use crate::filters::RefusalCounter;
use crate::plan;
use crate::pool::LivePool;
use crate::table::Table;
use crate::tls;

/// Everything that outlives tables, by identity.
#[derive(Debug, Default)]
pub struct Registry {
    next_uid: u32,
    endpoints: HashMap<(String, String, String), Arc<Endpoint>>,
    pools: HashMap<String, Arc<LivePool>>,
    listeners: HashMap<String, Arc<ListenerState>>,
    routes: HashMap<String, (u32, Arc<str>)>,
    refusals: HashMap<String, Arc<RefusalCounter>>,
    /// Certificates and ticket keys.
    pub tls: tls::server::TlsState,
}

impl Registry {
    /// A number never used again in this process.
    pub fn uid(&mut self) -> u32 {
        self.next_uid += 1;
        self.next_uid
    }

    pub(super) fn endpoint(
        &mut self,
        pool: &str,
        wanted: &plan::EndpointPlan,
    ) -> (Arc<Endpoint>, bool) {
        let identity = (pool.to_owned(), wanted.id.clone(), wanted.target.clone());
        if let Some(endpoint) = self.endpoints.get(&identity) {
            return (Arc::clone(endpoint), false);
        }
        let uid = self.uid();
        let endpoint = Arc::new(Endpoint::new(uid, pool, &wanted.id, &wanted.target));
        self.endpoints.insert(identity, Arc::clone(&endpoint));
        (endpoint, true)
    }

    pub(super) fn pool(&mut self, name: &str) -> Arc<LivePool> {
        if let Some(state) = self.pools.get(name) {
            return Arc::clone(state);
        }
        let state = Arc::new(LivePool {
            uid: self.uid(),
            ..LivePool::default()
        });
        self.pools.insert(name.into(), Arc::clone(&state));
        state
    }

    pub(super) fn listener(&mut self, name: &str) -> Arc<ListenerState> {
        if let Some(state) = self.listeners.get(name) {
            return Arc::clone(state);
        }
        let state = Arc::new(ListenerState {
            uid: self.uid(),
            name: name.into(),
            ..ListenerState::default()
        });
        self.listeners.insert(name.into(), Arc::clone(&state));
        state
    }

    pub(super) fn route(&mut self, name: &str) -> (u32, Arc<str>) {
        if let Some(route) = self.routes.get(name) {
            return route.clone();
        }
        let route = (self.uid(), Arc::from(name));
        self.routes.insert(name.into(), route.clone());
        route
    }

    pub(super) fn refusal_counter(&mut self, name: &str) -> Arc<RefusalCounter> {
        let counter = self.refusals.entry(name.into()).or_insert_with(|| {
            Arc::new(RefusalCounter {
                name: name.into(),
                limited: AtomicU64::new(0),
            })
        });
        Arc::clone(counter)
    }

    /// Forgets what the table does not use.
    pub fn prune(&mut self, table: &Table) -> Removed {
        let kept: HashSet<u32> = table
            .pools
            .iter()
            .flat_map(|pool| pool.members.iter().map(|member| member.endpoint.uid))
            .collect();
        let gone = self
            .endpoints
            .extract_if(|_, endpoint| !kept.contains(&endpoint.uid));
        let endpoints: Vec<_> = gone.map(|(_, endpoint)| endpoint).collect();
        let pools: HashSet<u32> = table.pools.iter().map(|pool| pool.state.uid).collect();
        let gone = self
            .pools
            .extract_if(|_, state| !pools.contains(&state.uid));
        let mut budgets: Vec<u32> = gone.map(|(_, state)| state.uid).collect();
        let listeners: HashSet<u32> = table.listeners.iter().map(|l| l.state.uid).collect();
        self.listeners
            .retain(|_, state| listeners.contains(&state.uid));
        let routes: HashSet<u32> = table.routes.iter().map(|route| route.uid).collect();
        let gone = self.routes.extract_if(|_, (uid, _)| !routes.contains(uid));
        let routes: Vec<u32> = gone.map(|(_, (uid, _))| uid).collect();
        budgets.extend(&routes);
        let filters = table.refusals.iter();
        let filters: HashSet<&str> = filters.map(|counter| counter.name.as_str()).collect();
        self.refusals
            .retain(|name, _| filters.contains(name.as_str()));
        Removed::new(endpoints, routes, budgets)
    }

    /// Forgets members of a pool that a change took away, unless it put them back.
    pub fn forget<'a>(
        &mut self,
        members: impl Iterator<Item = &'a Arc<Endpoint>>,
        back: &HashSet<u32>,
    ) -> Removed {
        let gone = members.filter(|endpoint| !back.contains(&endpoint.uid));
        let endpoints: Vec<_> = gone.map(Arc::clone).collect();
        for gone in &endpoints {
            let identity = (gone.pool.clone(), gone.id.clone(), gone.target.clone());
            self.endpoints.remove(&identity);
        }
        Removed::new(endpoints, Vec::new(), Vec::new())
    }

    /// All endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints.values()
    }
}

/// What no table has any more.
#[derive(Debug, Default)]
pub struct Removed {
    /// Endpoints.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// Routes, by number.
    pub routes: Vec<u32>,
    /// Pools and routes, by number, as those that have retry and hedge budgets.
    pub budgets: Vec<u32>,
}

impl Removed {
    fn new(endpoints: Vec<Arc<Endpoint>>, routes: Vec<u32>, budgets: Vec<u32>) -> Self {
        for endpoint in &endpoints {
            endpoint.flag(GONE, true);
        }
        Self {
            endpoints,
            routes,
            budgets,
        }
    }
}
