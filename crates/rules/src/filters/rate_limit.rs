//! Rate limits: 429 for requests or connections of one key that come too often (GCRA).

use std::sync::Arc;

use evenflow_state::limiter::Decision;
use evenflow_wire::http1::encode::push_number;

use crate::filters::key::{FilterKey, check_prefix};
use crate::filters::primitive::{
    Assembly, Class, FilterRequest, PathError, Primitive, Refusal, Setup, StepOutcome,
};
use crate::filters::state::NamedLimiter;
use crate::plan;
use crate::reason::Reason;

/// The most keys one limit may remember: 8 bytes each.
const MAX_KEYS: u32 = 1 << 24;

/// One place in a chain where the limit is applied.
#[derive(Debug, Clone)]
pub struct RateLimit {
    named: Arc<NamedLimiter>,
    /// The response's lines up to the number of requests left; empty sends none.
    policy: Arc<[u8]>,
    key: FilterKey,
}

impl RateLimit {
    /// Decides about a request, and notes what passes a limit of the fleet.
    fn decide(&self, request: &FilterRequest<'_>) -> Decision {
        let (view, context) = (request.view, &*request.context);
        let limiter = &self.named.limiter;
        let Some(fleet) = &self.named.fleet else {
            return limiter.check(self.key.local(view, context), view.now_ns);
        };
        let key = self.key.shared(fleet, view, context);
        let decision = limiter.check(key, view.now_ns);
        if decision.allowed
            && let Some(usage) = request.usage
        {
            usage.note(fleet.number(), key);
        }
        decision
    }
}

impl Primitive for RateLimit {
    type Rules = plan::LimitFilter;
    const NAME: &'static str = "limit";
    const CHECK: &'static str = "rate_limit";
    const CLASS: Class = Class::Limit;

    fn compile(rules: &Self::Rules, setup: &mut Setup<'_>) -> Result<Self, PathError> {
        let wrong = |key: &str, text: &str| Err((key.to_owned(), text.to_owned()));
        if !(rules.requests_per_second.is_finite() && rules.requests_per_second > 0.0) {
            return wrong("requests_per_second", "expected a number above 0");
        }
        if rules.burst == 0 {
            return wrong("burst", "expected at least 1");
        }
        check_prefix(rules.ipv6_prefix)?;
        if !(1..=MAX_KEYS).contains(&rules.max_keys) {
            return wrong("max_keys", "expected 1 to 16777216");
        }
        let limiters = &mut setup.state.limiters;
        let named = match limiters.iter().position(|known| known.fits(rules)) {
            None => NamedLimiter::new(rules)?,
            Some(at) => {
                let known = limiters.swap_remove(at);
                NamedLimiter {
                    source: rules.clone(),
                    limiter: Arc::clone(&known.limiter),
                    fleet: known.fleet.clone(),
                }
            }
        };
        let named = Arc::new(named);
        limiters.push(Arc::clone(&named));
        Ok(Self {
            named,
            policy: policy(rules).into(),
            key: FilterKey::new(&rules.key, rules.ipv6_prefix),
        })
    }

    fn assemble(&mut self, assembly: &mut Assembly) -> Result<(), PathError> {
        self.key.place(assembly);
        Ok(())
    }

    /// An explained request always passes: a decision would count it.
    fn on_request(&self, request: &mut FilterRequest<'_>) -> StepOutcome<'_> {
        if request.is_explained() {
            return StepOutcome::Continue;
        }
        let decision = self.decide(request);
        if !self.policy.is_empty() {
            let lines = &mut request.context.response_lines;
            lines.extend_from_slice(&self.policy);
            push_number(lines, decision.remaining.into());
            lines.extend_from_slice(b";t=");
            push_number(lines, decision.reset_ns.div_ceil(1_000_000_000));
            lines.extend_from_slice(b"\r\n");
        }
        match (decision.allowed, self.named.source.dry_run) {
            (true, _) => StepOutcome::Continue,
            (false, true) => StepOutcome::WouldRefuse,
            (false, false) => StepOutcome::Refuse(Refusal {
                reason: Reason::Limited,
                retry_after_ns: decision.retry_after_ns,
            }),
        }
    }
}

/// The lines that describe a limit to clients (draft-ietf-httpapi-ratelimit-headers), up to the
/// number of requests left.
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
