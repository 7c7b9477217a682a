//! The plan's named filters, and the chains that listeners and routes make of them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::compile::Registry;
use crate::decode::{Refused, refuse};
use crate::filters::{Chain, FilterState, NamedSteps, RefusalCounter, Setup};
use crate::plan::{self, Plan, Protocol};
use crate::table::Table;

/// The field that makes clients use `https` only.
const STRICT_TRANSPORT: &[u8] = b"strict-transport-security";

/// Named filters while a plan is compiled.
pub struct Filters<'a> {
    named: HashMap<&'a str, NamedFilter<'a>>,
    counters: Vec<Arc<RefusalCounter>>,
    state: FilterState,
    pools: HashMap<&'a str, usize>,
}

struct NamedFilter<'a> {
    index: usize,
    filter: &'a plan::FilterChain,
    counter: Arc<RefusalCounter>,
    /// Compiled once, when a listener or a route first names it.
    steps: Option<NamedSteps>,
}

/// The chains of one listener.
pub struct Chains {
    /// For requests that no route takes, and for connections of layer 4.
    pub alone: Arc<Chain>,
    /// By route: the listener's filters and then the route's.
    pub by_route: Box<[Arc<Chain>]>,
}

impl<'a> Filters<'a> {
    /// Takes over the state of the previous table's filters.
    ///
    /// # Errors
    /// Two filters have one name.
    pub fn new(
        plan: &'a Plan,
        registry: &mut Registry,
        previous: Option<&Table>,
    ) -> Result<Self, Refused> {
        let mut named = HashMap::new();
        let mut counters = Vec::new();
        for (index, filter) in plan.filters.iter().enumerate() {
            let counter = registry.refusal_counter(&filter.name);
            counters.push(Arc::clone(&counter));
            let entry = NamedFilter {
                index,
                filter,
                counter,
                steps: None,
            };
            if named.insert(filter.name.as_str(), entry).is_some() {
                return refuse(format!("filters[{index}].name"), "used twice");
            }
        }
        let pools = plan.pools.iter().enumerate();
        Ok(Self {
            named,
            counters,
            state: previous.map_or_else(FilterState::default, |table| table.filter_state.clone()),
            pools: pools
                .map(|(index, pool)| (pool.name.as_str(), index))
                .collect(),
        })
    }

    /// Compiles the filters that a listener or a route names at `path`.
    ///
    /// # Errors
    /// A name is unknown, or a filter is wrong.
    pub fn compile(&mut self, names: &[String], path: &str) -> Result<(), Refused> {
        for (at, name) in names.iter().enumerate() {
            let Some(named) = self.named.get_mut(name.as_str()) else {
                return refuse(format!("{path}[{at}]"), format!("no filter chain {name:?}"));
            };
            if named.steps.is_some() {
                continue;
            }
            let mut setup = Setup {
                state: &mut self.state,
                pools: &self.pools,
            };
            let counter = Arc::clone(&named.counter);
            let steps = NamedSteps::compile(named.filter, counter, &mut setup);
            named.steps = Some(steps.map_err(|error| named.at(error))?);
        }
        Ok(())
    }

    /// The chains of a listener. Routes with the same filters share one.
    ///
    /// # Errors
    /// A step cannot stand at its place.
    pub fn chains(&self, plan: &Plan, listener: &plan::ListenerPlan) -> Result<Chains, Refused> {
        let mut shared: HashMap<&[String], Arc<Chain>> = HashMap::new();
        let alone = Arc::new(self.assemble(listener, &[])?);
        shared.insert(&[], Arc::clone(&alone));
        let mut by_route = Vec::new();
        if listener.protocol == Protocol::Http {
            for route in &plan.routes {
                let names = route.filters.as_slice();
                if let Some(chain) = shared.get(names) {
                    by_route.push(Arc::clone(chain));
                } else {
                    let chain = Arc::new(self.assemble(listener, names)?);
                    shared.insert(names, Arc::clone(&chain));
                    by_route.push(chain);
                }
            }
        }
        Ok(Chains {
            alone,
            by_route: by_route.into(),
        })
    }

    fn assemble(&self, listener: &plan::ListenerPlan, names: &[String]) -> Result<Chain, Refused> {
        let all = listener.filters.iter().chain(names);
        let named: Vec<_> = all
            .filter_map(|name| self.named.get(name.as_str()))
            .collect();
        let steps: Vec<_> = named
            .iter()
            .filter_map(|each| each.steps.as_ref())
            .collect();
        let mut chain = Chain::assemble(&steps).map_err(|(part, error)| named[part].at(error))?;
        if listener.tls.is_none() && listener.trusted_proxies.is_empty() {
            // It must not be sent over an unprotected connection (RFC 6797 §7.2).
            chain.edits.response.withhold(STRICT_TRANSPORT);
        }
        Ok(chain)
    }

    /// The state that the plan's filters use, and the refusal counters of all filters.
    pub fn into_state(mut self, plan: &Plan) -> (FilterState, Vec<Arc<RefusalCounter>>) {
        self.state.retain_used(plan);
        (self.state, self.counters)
    }
}

impl NamedFilter<'_> {
    fn at(&self, (below, message): (String, String)) -> Refused {
        Refused {
            path: format!("filters[{}].{below}", self.index),
            message,
        }
    }
}
