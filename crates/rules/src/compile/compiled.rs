//! What compiling gives.

use std::sync::Arc;

use evenflow_state::endpoint::Endpoint;

use crate::plan;
use crate::table::Table;

/// A table ready to be published, and what publishing it means for the endpoints.
#[derive(Debug)]
pub struct Compiled {
    /// The table.
    pub table: Table,
    /// Endpoints that no earlier table had.
    pub added: usize,
    /// The endpoints' states as the plan has them, set when the table is published.
    pub(super) states: Vec<(Arc<Endpoint>, plan::EndpointPlan)>,
}

impl Compiled {
    /// The endpoints that the plan or the change names.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.states.iter().map(|(endpoint, _)| &**endpoint)
    }

    /// Sets the endpoints' states. New endpoints first become usable here. Answers those whose
    /// connections are of no more use.
    pub fn configure_endpoints(&self) -> Vec<u32> {
        let mut stale = Vec::new();
        for (endpoint, wanted) in &self.states {
            let changed = endpoint.configure(
                Some(wanted.up),
                Some(wanted.drain),
                Some(wanted.weight),
                Some(wanted.max_connections),
                Some(&wanted.addresses),
            );
            if changed {
                stale.push(endpoint.uid);
            }
        }
        stale
    }
}
