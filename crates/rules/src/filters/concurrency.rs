//! Bounds on the requests or connections of one key in flight: 429 over them.

use std::sync::Arc;

use crate::filters::key::{FilterKey, check_prefix};
use crate::filters::primitive::{
    Assembly, Class, FilterRequest, PathError, Primitive, Setup, StepOutcome,
};
use crate::filters::state::NamedBound;
use crate::plan;
use crate::reason::Reason;

/// One place in a chain where the bound is applied.
#[derive(Debug, Clone)]
pub struct ConcurrencyLimit {
    named: Arc<NamedBound>,
    key: FilterKey,
}

impl Primitive for ConcurrencyLimit {
    type Rules = plan::ConcurrencyFilter;
    const NAME: &'static str = "concurrency";
    const CLASS: Class = Class::Limit;

    fn compile(rules: &Self::Rules, setup: &mut Setup<'_>) -> Result<Self, PathError> {
        if rules.max == 0 {
            return Err(("max".into(), "expected at least 1".into()));
        }
        check_prefix(rules.ipv6_prefix)?;
        let bounds = &mut setup.state.bounds;
        let at = bounds.iter().position(|known| known.fits(rules));
        let bound = at.map_or_else(Arc::default, |at| bounds.swap_remove(at).bound.clone());
        let named = Arc::new(NamedBound {
            source: rules.clone(),
            bound,
        });
        bounds.push(Arc::clone(&named));
        Ok(Self {
            named,
            key: FilterKey::new(&rules.key, rules.ipv6_prefix),
        })
    }

    fn assemble(&mut self, assembly: &mut Assembly) -> Result<(), PathError> {
        self.key.place(assembly);
        Ok(())
    }

    fn on_request(&self, request: &mut FilterRequest<'_>) -> StepOutcome<'_> {
        let rules = &self.named.source;
        let key = self.key.local(request.view, request.context);
        let free = if request.is_explained() {
            self.named.bound.in_flight(key) < rules.max
        } else if let Some(permit) = self.named.bound.enter(key, rules.max) {
            request.context.permits.push(permit);
            true
        } else {
            false
        };
        match (free, rules.dry_run) {
            (true, _) => StepOutcome::Continue,
            (false, true) => StepOutcome::WouldRefuse,
            (false, false) => StepOutcome::Refuse(Reason::InFlight.into()),
        }
    }
}
