//! Filter primitives, one a file, and the chain that a plan makes of them.

pub mod auth;
pub mod context;
pub mod cors;
pub mod fleet;
pub mod headers;
pub mod ip_set;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use evenflow_state::concurrency::Concurrency;
use evenflow_state::limiter::{Decision, Limiter};
use evenflow_wire::edit::Edit;
use evenflow_wire::http1::encode::push_number;
use evenflow_wire::http1::head::RequestHead;

use crate::key::key_bytes;
use crate::plan::{self, RequestKey};
use crate::reason::Reason;
use crate::route::RouteQuery;
use auth::{AuthCheck, NamedAuthCheck, own_cookie, own_fields};
use context::FilterContext;
use cors::Cors;
use fleet::{Fleet, FleetUsage};
use ip_set::IpSet;

/// The most keys one limit may remember: 8 bytes each.
const MAX_KEYS: u32 = 1 << 24;

/// How often a named chain refused, or in a dry run would have refused, a request.
#[derive(Debug)]
pub struct RefusalCounter {
    /// The chain's name.
    pub name: String,
    /// Refusals.
    pub limited: AtomicU64,
}

/// A limiter with the numbers it was made from: an apply that changes neither keeps its state.
#[derive(Debug, Clone)]
pub struct NamedLimiter {
    /// The configuration.
    pub source: plan::LimitFilter,
    /// The state, shared by all workers and by successive tables.
    pub limiter: Arc<Limiter>,
    /// Its part in a fleet, if it has one.
    pub fleet: Option<Arc<Fleet>>,
}

impl NamedLimiter {
    /// Whether a filter of the new plan may go on with this one's state.
    pub fn fits(&self, filter: &plan::LimitFilter) -> bool {
        self.source.name == filter.name
            && self.source.key == filter.key
            && self.source.requests_per_second.to_bits() == filter.requests_per_second.to_bits()
            && self.source.burst == filter.burst
            && self.source.max_keys == filter.max_keys
            && self.source.ipv6_prefix == filter.ipv6_prefix
            && self.source.fleet_seed == filter.fleet_seed
    }

    /// Decides about a request; what passes a limit of the fleet is noted.
    fn check(&self, view: &RequestView<'_>, notes: &FleetUsage) -> Decision {
        let rules = &self.source;
        let Some(fleet) = &self.fleet else {
            let key = key_of(&rules.key, rules.ipv6_prefix, view);
            return self.limiter.check(key, view.now_ns);
        };
        let key = fleet_key_of(fleet, rules, view);
        let decision = self.limiter.check(key, view.now_ns);
        if decision.allowed {
            notes.note(fleet.number(), key);
        }
        decision
    }
}

/// A bound on requests in flight with what it was made from.
#[derive(Debug, Clone)]
pub struct NamedBound {
    /// The configuration.
    pub source: plan::ConcurrencyFilter,
    /// What is in flight, over all workers and successive tables.
    pub bound: Arc<Concurrency>,
}

impl NamedBound {
    /// Whether a filter of the new plan may go on with this one's state.
    pub fn fits(&self, filter: &plan::ConcurrencyFilter) -> bool {
        let mut same = self.source.clone();
        same.dry_run = filter.dry_run;
        same == *filter
    }
}

/// What filters remember, for the next table to take over.
#[derive(Debug, Default, Clone)]
pub struct FilterState {
    /// Rate limits.
    pub limiters: Vec<NamedLimiter>,
    /// Bounds on requests in flight.
    pub bounds: Vec<NamedBound>,
    /// Authentication.
    pub gates: Vec<NamedAuthCheck>,
}

impl FilterState {
    /// The limits of the fleet of this name.
    pub fn fleet_limits(&self, name: &str) -> impl Iterator<Item = &NamedLimiter> {
        self.limiters
            .iter()
            .filter(move |kept| kept.fleet.is_some() && kept.source.name == name)
    }

    /// The name of the limit that is noted under this number.
    pub fn fleet_limit(&self, number: u32) -> Option<String> {
        let mut limiters = self.limiters.iter();
        let is_it =
            |kept: &&NamedLimiter| kept.fleet.as_ref().is_some_and(|f| f.number() == number);
        limiters.find(is_it).map(|kept| kept.source.name.clone())
    }

    /// Lets go of what no filter of the plan goes on with.
    pub fn retain_used(&mut self, plan: &plan::Plan) {
        let steps = || plan.filters.iter().flat_map(|chain| &chain.steps);
        self.limiters.retain(|kept| {
            steps().any(|step| matches!(step, plan::Filter::Limit(filter) if kept.fits(filter)))
        });
        self.bounds.retain(|kept| {
            steps()
                .any(|step| matches!(step, plan::Filter::Concurrency(filter) if kept.fits(filter)))
        });
        self.gates
            .retain(|kept| steps().any(|step| kept.source == *step));
    }
}

#[derive(Debug, Clone)]
enum Check {
    Address(Arc<IpSet>),
    Rate {
        limit: NamedLimiter,
        /// The answer's lines up to the number of requests left; empty tells nothing.
        policy: Arc<[u8]>,
    },
    InFlight(NamedBound),
}

/// Filters in the order they run, made for one listener or one route.
#[derive(Debug, Default, Clone)]
pub struct Chain {
    checks: Vec<(Arc<RefusalCounter>, Check)>,
    /// Authentication, after all checks.
    pub gates: Vec<(Arc<RefusalCounter>, Arc<AuthCheck>)>,
    /// Header edits of these filters alone.
    pub edits: Edits,
    /// Cross-origin rules; the last ones win.
    pub cors: Option<Arc<Cors>>,
    /// The smallest bound on the request body in bytes, if there is one.
    pub body_limit: Option<u64>,
}

/// Header edits, those of several filters made into one each.
#[derive(Debug, Default, Clone)]
pub struct Edits {
    /// Of the request.
    pub request: Arc<Edit>,
    /// Of the response.
    pub response: Arc<Edit>,
}

impl Edits {
    /// The edits of filters that run one after the other.
    ///
    /// # Errors
    /// The chain's number, the path below it and what is wrong there.
    pub fn compile<'a>(
        chains: impl Iterator<Item = (usize, &'a plan::FilterChain)>,
    ) -> Result<Self, (usize, String, String)> {
        let (mut request, mut response) = (Edit::default(), Edit::default());
        for (number, chain) in chains {
            for (index, step) in chain.steps.iter().enumerate() {
                let (kind, edited) = match step {
                    plan::Filter::RequestHeaders(edit) => {
                        ("request_headers", headers::extend(&mut request, edit))
                    }
                    plan::Filter::ResponseHeaders(edit) => {
                        ("response_headers", headers::extend(&mut response, edit))
                    }
                    gate => {
                        // Nobody but the gate may say these.
                        let own = plan::HeaderEdit {
                            remove: own_fields(gate),
                            ..plan::HeaderEdit::default()
                        };
                        if let Some(cookie) = own_cookie(gate) {
                            request.hide_cookie(cookie);
                        }
                        ("fields", headers::extend(&mut request, &own))
                    }
                };
                edited.map_err(|(path, message)| {
                    (number, format!("steps[{index}].{kind}.{path}"), message)
                })?;
            }
        }
        Ok(Self {
            request: Arc::new(request),
            response: Arc::new(response),
        })
    }

    /// Whether nothing is edited.
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty()
    }
}

/// A request as filters see it.
#[derive(Debug)]
pub struct RequestView<'a> {
    /// The client's address as far as it is believed.
    pub client: Option<IpAddr>,
    /// The head.
    pub head: &'a RequestHead,
    /// The bytes that the head was parsed from.
    pub base: &'a [u8],
    /// The engine's clock in nanoseconds.
    pub now_ns: u64,
    /// The route's number that outlives tables; 0 without one.
    pub route: u32,
    /// Whether the client is known to speak TLS: cookies for it are never to travel without.
    pub secure: bool,
}

impl<'a> RequestView<'a> {
    /// The request as routes see it.
    pub fn asked(&self) -> RouteQuery<'a> {
        RouteQuery {
            host: self.head.host.get(self.base),
            path: self.head.path(self.base),
            head: self.head,
            base: self.base,
            client: self.client,
        }
    }
}

/// A refusal.
#[derive(Debug, Clone, Copy)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// When it is worth trying again, in nanoseconds; 0 where that means nothing.
    pub retry_after_ns: u64,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self {
            reason,
            retry_after_ns: 0,
        }
    }
}

impl Chain {
    /// Adds one named chain of a plan.
    ///
    /// # Errors
    /// The path below the chain and what is wrong there.
    pub fn extend(
        &mut self,
        chain: &plan::FilterChain,
        tally: &Arc<RefusalCounter>,
        kept: &mut FilterState,
        pool: impl Fn(&str) -> Option<usize>,
    ) -> Result<(), (String, String)> {
        for (index, step) in chain.steps.iter().enumerate() {
            let at = |(path, message): (String, String), kind: &str| {
                let dot = if path.is_empty() { "" } else { "." };
                (format!("steps[{index}].{kind}{dot}{path}"), message)
            };
            match step {
                plan::Filter::IpSet(filter) => {
                    let set = IpSet::new(&filter.allow, &filter.deny);
                    let check = Check::Address(Arc::new(set));
                    self.checks.push((Arc::clone(tally), check));
                }
                plan::Filter::Limit(filter) => {
                    let limit = limiter_for(filter, &mut kept.limiters)
                        .map_err(|error| at(error, "limit"))?;
                    let check = Check::Rate {
                        limit,
                        policy: policy(filter).into(),
                    };
                    self.checks.push((Arc::clone(tally), check));
                }
                plan::Filter::Concurrency(filter) => {
                    let bound = bound_for(filter, &mut kept.bounds)
                        .map_err(|error| at(error, "concurrency"))?;
                    self.checks
                        .push((Arc::clone(tally), Check::InFlight(bound)));
                }
                plan::Filter::Basic(_)
                | plan::Filter::Bearer(_)
                | plan::Filter::Jwt(_)
                | plan::Filter::External(_) => {
                    let gate = gate_for(step, &mut kept.gates, &pool)
                        .map_err(|error| at(error, kind_of(step)))?;
                    let named = gate.map(|gate| (Arc::clone(tally), gate));
                    self.gates.extend(named);
                }
                plan::Filter::RequestHeaders(_) | plan::Filter::ResponseHeaders(_) => {}
                plan::Filter::BodyLimit(limit) => {
                    let bytes = self
                        .body_limit
                        .map_or(limit.bytes, |old| old.min(limit.bytes));
                    self.body_limit = Some(bytes);
                }
                plan::Filter::Cors(cors) => {
                    let cors = Cors::compile(cors).map_err(|error| at(error, "cors"))?;
                    self.cors = Some(Arc::new(cors));
                }
            }
        }
        Ok(())
    }

    /// Runs the checks.
    ///
    /// # Errors
    /// The first refusal; it is counted.
    pub fn check(
        &self,
        view: &RequestView<'_>,
        passed: &mut FilterContext,
        notes: &FleetUsage,
    ) -> Result<(), Refusal> {
        for (tally, check) in &self.checks {
            match check {
                Check::Address(set) => {
                    if !view.client.is_none_or(|ip| set.permits(ip)) {
                        tally.limited.fetch_add(1, Ordering::Relaxed);
                        return Err(Refusal {
                            reason: Reason::Forbidden,
                            retry_after_ns: 0,
                        });
                    }
                }
                Check::Rate { limit, policy } => {
                    let decision = limit.check(view, notes);
                    if !policy.is_empty() {
                        passed.response_lines.extend_from_slice(policy);
                        push_number(&mut passed.response_lines, decision.remaining.into());
                        passed.response_lines.extend_from_slice(b";t=");
                        let reset = decision.reset_ns.div_ceil(1_000_000_000);
                        push_number(&mut passed.response_lines, reset);
                        passed.response_lines.extend_from_slice(b"\r\n");
                    }
                    if !decision.allowed {
                        tally.limited.fetch_add(1, Ordering::Relaxed);
                        if !limit.source.dry_run {
                            return Err(Refusal {
                                reason: Reason::Limited,
                                retry_after_ns: decision.retry_after_ns,
                            });
                        }
                    }
                }
                Check::InFlight(named) => {
                    let rules = &named.source;
                    let key = key_of(&rules.key, rules.ipv6_prefix, view);
                    if let Some(permit) = named.bound.enter(key, rules.max) {
                        passed.permits.push(permit);
                    } else {
                        tally.limited.fetch_add(1, Ordering::Relaxed);
                        if !rules.dry_run {
                            return Err(Reason::InFlight.into());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Runs the checks of addresses only: the control plane's own pages stay readable for
    /// monitoring, whatever the traffic's rate.
    ///
    /// # Errors
    /// The first refusal; it is counted.
    pub fn check_address(&self, client: Option<IpAddr>) -> Result<(), Refusal> {
        for (tally, check) in &self.checks {
            if let Check::Address(set) = check
                && !client.is_none_or(|ip| set.permits(ip))
            {
                tally.limited.fetch_add(1, Ordering::Relaxed);
                return Err(Refusal {
                    reason: Reason::Forbidden,
                    retry_after_ns: 0,
                });
            }
        }
        Ok(())
    }

    /// What the checks would say, without counting: for explanations. Rate limits are not asked,
    /// since asking uses them up.
    pub fn explain(&self, client: Option<IpAddr>) -> Vec<(String, &'static str, Option<Reason>)> {
        self.checks
            .iter()
            .map(|(tally, check)| {
                let (kind, refused) = match check {
                    Check::Address(set) => {
                        let permitted = client.is_none_or(|ip| set.permits(ip));
                        ("address", (!permitted).then_some(Reason::Forbidden))
                    }
                    Check::Rate { .. } => ("rate_limit", None),
                    Check::InFlight(_) => ("concurrency", None),
                };
                (tally.name.clone(), kind, refused)
            })
            .collect()
    }
}

fn limiter_for(
    filter: &plan::LimitFilter,
    limiters: &mut Vec<NamedLimiter>,
) -> Result<NamedLimiter, (String, String)> {
    let wrong = |key: &str, text: &str| Err((key.to_owned(), text.to_owned()));
    if !(filter.requests_per_second.is_finite() && filter.requests_per_second > 0.0) {
        return wrong("requests_per_second", "expected a number above 0");
    }
    if filter.burst == 0 {
        return wrong("burst", "expected at least 1");
    }
    check_prefix(filter.ipv6_prefix)?;
    if !(1..=MAX_KEYS).contains(&filter.max_keys) {
        return wrong("max_keys", "expected 1 to 16777216");
    }
    if let Some(kept) = limiters.iter_mut().find(|kept| kept.fits(filter)) {
        kept.source = filter.clone();
        return Ok(kept.clone());
    }
    let limiter = Limiter::new(
        filter.requests_per_second,
        filter.burst,
        filter.max_keys as usize,
    );
    let named = match &filter.fleet_seed {
        None => NamedLimiter {
            source: filter.clone(),
            limiter: Arc::new(limiter),
            fleet: None,
        },
        Some(seed) if seed.len() < fleet::MIN_SEED => {
            return wrong("fleet_seed", "expected at least 16 bytes");
        }
        Some(seed) => NamedLimiter {
            source: filter.clone(),
            limiter: Arc::new(limiter.with_debt()),
            fleet: Some(Arc::new(Fleet::new(seed, filter))),
        },
    };
    limiters.push(named.clone());
    Ok(named)
}

fn bound_for(
    filter: &plan::ConcurrencyFilter,
    bounds: &mut Vec<NamedBound>,
) -> Result<NamedBound, (String, String)> {
    if filter.max == 0 {
        return Err(("max".into(), "expected at least 1".into()));
    }
    check_prefix(filter.ipv6_prefix)?;
    if let Some(kept) = bounds.iter_mut().find(|kept| kept.fits(filter)) {
        kept.source = filter.clone();
        return Ok(kept.clone());
    }
    let named = NamedBound {
        source: filter.clone(),
        bound: Arc::default(),
    };
    bounds.push(named.clone());
    Ok(named)
}

fn gate_for(
    step: &plan::Filter,
    gates: &mut Vec<NamedAuthCheck>,
    pool: impl Fn(&str) -> Option<usize>,
) -> Result<Option<Arc<AuthCheck>>, (String, String)> {
    // What asks a pool remembers nothing, and the pool may have another number now.
    let keeps = !matches!(step, plan::Filter::External(_));
    if keeps && let Some(kept) = gates.iter().find(|kept| kept.source == *step) {
        return Ok(Some(Arc::clone(&kept.gate)));
    }
    let Some(gate) = AuthCheck::compile(step, pool)?.map(Arc::new) else {
        return Ok(None);
    };
    if keeps {
        gates.push(NamedAuthCheck {
            source: step.clone(),
            gate: Arc::clone(&gate),
        });
    }
    Ok(Some(gate))
}

fn kind_of(step: &plan::Filter) -> &'static str {
    match step {
        plan::Filter::Basic(_) => "basic",
        plan::Filter::Bearer(_) => "bearer",
        plan::Filter::Jwt(_) => "jwt",
        _ => "external",
    }
}

fn check_prefix(prefix: u8) -> Result<(), (String, String)> {
    if (1..=128).contains(&prefix) {
        return Ok(());
    }
    Err(("ipv6_prefix".into(), "expected 1 to 128".into()))
}

/// The lines that tell a client of a limit (draft-ietf-httpapi-ratelimit-headers), up to the number
/// of requests left.
fn policy(filter: &plan::LimitFilter) -> Vec<u8> {
    if !filter.headers {
        return Vec::new();
    }
    let name: String = filter
        .name
        .chars()
        .filter(|&letter| matches!(letter, ' '..='~') && letter != '"' && letter != '\\')
        .collect();
    let burst = filter.burst;
    let window = (f64::from(burst) / filter.requests_per_second)
        .ceil()
        .max(1.0) as u64;
    format!("ratelimit-policy: \"{name}\";q={burst};w={window}\r\nratelimit: \"{name}\";r=")
        .into_bytes()
}

/// What a request is counted under.
fn key_of(key: &RequestKey, ipv6_prefix: u8, view: &RequestView<'_>) -> u64 {
    match key {
        RequestKey::ClientIp => view
            .client
            .map_or(0, |ip| evenflow_state::limiter::client_key(ip, ipv6_prefix)),
        RequestKey::All => 1,
        RequestKey::Route => evenflow_state::limiter::bytes_key(&view.route.to_ne_bytes()),
        RequestKey::Random => fastrand::u64(..),
        key => key_bytes(key, view.head, view.base).map_or(0, evenflow_state::limiter::bytes_key),
    }
}

/// The same for a limit of the fleet: nothing in it is only this engine's.
fn fleet_key_of(fleet: &Fleet, rules: &plan::LimitFilter, view: &RequestView<'_>) -> u64 {
    match &rules.key {
        RequestKey::ClientIp => view
            .client
            .map_or(0, |ip| fleet.client_key(ip, rules.ipv6_prefix)),
        RequestKey::All => 1,
        // Routes have numbers of this engine's own.
        RequestKey::Route | RequestKey::Random => key_of(&rules.key, rules.ipv6_prefix, view),
        key => key_bytes(key, view.head, view.base).map_or(0, |bytes| fleet.bytes_key(bytes)),
    }
}
