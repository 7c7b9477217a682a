//! Bounds on request bodies: 413 for larger ones.
//!
//! A body of known length is judged at this step's place in the chain. One without is counted while
//! it is sent, against the smallest bound of the chain.

use evenflow_wire::http1::head::Length;

use crate::filters::primitive::{
    Assembly, Class, FilterRequest, PathError, Primitive, Setup, StepOutcome,
};
use crate::plan;
use crate::reason::Reason;

/// The bound.
#[derive(Debug, Clone)]
pub struct BodySizeCheck {
    bytes: u64,
}

impl Primitive for BodySizeCheck {
    type Rules = plan::BodyLimit;
    const NAME: &'static str = "body_limit";
    const CLASS: Class = Class::Body;

    fn compile(rules: &Self::Rules, _: &mut Setup<'_>) -> Result<Self, PathError> {
        Ok(Self { bytes: rules.bytes })
    }

    fn announce(&self, assembly: &mut Assembly) -> Result<(), PathError> {
        let smallest = assembly.body_limit.unwrap_or(u64::MAX).min(self.bytes);
        assembly.body_limit = Some(smallest);
        Ok(())
    }

    fn on_request(&self, request: &mut FilterRequest<'_>) -> StepOutcome<'_> {
        match request.view.head.length {
            Length::Known(length) if self.bytes != 0 && length > self.bytes => {
                StepOutcome::Refuse(Reason::BodyTooLarge.into())
            }
            _ => StepOutcome::Continue,
        }
    }
}
