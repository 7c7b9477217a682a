//! What filters remember, for the next table to take over.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use evenflow_state::concurrency::Concurrency;
use evenflow_state::limiter::Limiter;

use crate::filters::fleet::{self, Fleet};
use crate::plan::{self, BasicFilter, JwtFilter};

/// A limiter with the numbers it was made from: an apply that changes neither keeps its state.
#[derive(Debug)]
pub struct NamedLimiter {
    /// The configuration.
    pub source: plan::LimitFilter,
    /// The state, shared by all workers and by successive tables.
    pub limiter: Arc<Limiter>,
    /// Its part in a fleet, if it has one.
    pub fleet: Option<Arc<Fleet>>,
}

impl NamedLimiter {
    /// Whether a filter of the new plan keeps this one's state.
    pub fn fits(&self, filter: &plan::LimitFilter) -> bool {
        self.source.name == filter.name
            && self.source.key == filter.key
            && self.source.requests_per_second.to_bits() == filter.requests_per_second.to_bits()
            && self.source.burst == filter.burst
            && self.source.max_keys == filter.max_keys
            && self.source.ipv6_prefix == filter.ipv6_prefix
            && self.source.fleet_seed == filter.fleet_seed
    }

    /// A limiter without any usage.
    ///
    /// # Errors
    /// The fleet's secret is too short.
    pub fn new(rules: &plan::LimitFilter) -> Result<Self, (String, String)> {
        let limiter = Limiter::new(
            rules.requests_per_second,
            rules.burst,
            rules.max_keys as usize,
        );
        let (limiter, fleet) = match &rules.fleet_seed {
            None => (limiter, None),
            Some(seed) if seed.len() < fleet::MIN_SEED => {
                return Err(("fleet_seed".into(), "expected at least 16 bytes".into()));
            }
            Some(seed) => (limiter.with_debt(), Some(Fleet::new(seed, rules))),
        };
        Ok(Self {
            source: rules.clone(),
            limiter: Arc::new(limiter),
            fleet: fleet.map(Arc::new),
        })
    }
}

/// A bound with what it was made from.
#[derive(Debug)]
pub struct NamedBound {
    /// The configuration.
    pub source: plan::ConcurrencyFilter,
    /// What is in flight, over all workers and successive tables.
    pub bound: Arc<Concurrency>,
}

impl NamedBound {
    /// Whether a filter of the new plan keeps this one's counts.
    pub fn fits(&self, filter: &plan::ConcurrencyFilter) -> bool {
        plan::ConcurrencyFilter {
            dry_run: filter.dry_run,
            ..self.source.clone()
        } == *filter
    }
}

/// How often the limits and address lists of a named chain refused a request, or would have refused
/// it in a dry run.
#[derive(Debug)]
pub struct RefusalCounter {
    /// The chain's name.
    pub name: String,
    /// Refusals.
    pub limited: AtomicU64,
}

/// State with the configuration it belongs to.
pub type Retained<Rules> = Vec<(Rules, Arc<dyn Any + Send + Sync>)>;

/// The state of filters, joined by their configuration.
#[derive(Debug, Default, Clone)]
pub struct FilterState {
    /// Rate limits.
    pub limiters: Vec<Arc<NamedLimiter>>,
    /// Bounds on requests in flight.
    pub bounds: Vec<Arc<NamedBound>>,
    /// Passwords that were verified.
    pub basic: Retained<BasicFilter>,
    /// Tokens that were verified.
    pub jwt: Retained<JwtFilter>,
}

impl FilterState {
    /// The limits of the fleet of this name.
    pub fn fleet_limits(&self, name: &str) -> impl Iterator<Item = &NamedLimiter> {
        let limiters = self.limiters.iter().map(|limiter| &**limiter);
        limiters.filter(move |known| known.fleet.is_some() && known.source.name == name)
    }

    /// The name of the limit whose usage is noted under this number.
    pub fn fleet_limit(&self, number: u32) -> Option<String> {
        let mut limiters = self.limiters.iter();
        let has_number = |known: &&Arc<NamedLimiter>| {
            let fleet = known.fleet.as_ref();
            fleet.is_some_and(|fleet| fleet.number() == number)
        };
        limiters
            .find(has_number)
            .map(|known| known.source.name.clone())
    }

    /// Drops the state that no filter of the plan takes over.
    pub fn retain_used(&mut self, plan: &plan::Plan) {
        use plan::Filter;
        let steps = || plan.filters.iter().flat_map(|chain| &chain.steps);
        self.limiters.retain(|known| {
            steps().any(|step| matches!(step, Filter::Limit(filter) if known.fits(filter)))
        });
        self.bounds.retain(|known| {
            steps().any(|step| matches!(step, Filter::Concurrency(filter) if known.fits(filter)))
        });
        self.basic.retain(|(rules, _)| {
            steps().any(|step| matches!(step, Filter::Basic(filter) if filter == rules))
        });
        self.jwt.retain(|(rules, _)| {
            steps().any(|step| matches!(step, Filter::Jwt(filter) if filter == rules))
        });
    }
}

/// The state retained for these rules, or what `compile` makes of them.
///
/// # Errors
/// As `compile`.
pub fn reuse<Rules: PartialEq + Clone, State: Any + Send + Sync>(
    retained: &mut Retained<Rules>,
    rules: &Rules,
    compile: impl Fn(&Rules) -> Result<State, (String, String)>,
) -> Result<Arc<State>, (String, String)> {
    let known = retained.iter().find(|(known, _)| known == rules);
    if let Some((_, state)) = known
        && let Ok(state) = Arc::clone(state).downcast()
    {
        return Ok(state);
    }
    let state = Arc::new(compile(rules)?);
    retained.push((
        rules.clone(),
        Arc::clone(&state) as Arc<dyn Any + Send + Sync>,
    ));
    Ok(state)
}
