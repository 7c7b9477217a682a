//! Second tries of slow requests, as a route has them.

use std::sync::atomic::AtomicU64;

use crate::plan;

/// A route's hedges.
#[derive(Debug)]
pub struct Hedge {
    /// Waited before each; 0 makes none.
    pub after_ms: AtomicU64,
    /// The most hedges of one request.
    pub max: u32,
    /// Hedges as a share of live requests.
    pub budget: f64,
}

impl From<plan::HedgePlan> for Hedge {
    fn from(rules: plan::HedgePlan) -> Self {
        Self {
            after_ms: AtomicU64::new(rules.after_ms),
            max: rules.max,
            budget: rules.budget,
        }
    }
}
