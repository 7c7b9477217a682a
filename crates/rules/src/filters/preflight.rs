//! The step that answers preflight requests by the rules of [`Cors`].

use std::sync::Arc;

use crate::filters::cors::Cors;
use crate::filters::primitive::{
    Assembly, Class, FilterRequest, PathError, Primitive, RequestView, Response, Setup, StepOutcome,
};
use crate::plan;

/// One place in a chain where preflight requests are answered.
#[derive(Debug, Clone)]
pub struct CorsStep(Arc<Cors>);

impl Primitive for CorsStep {
    type Rules = plan::CorsPlan;
    const NAME: &'static str = "cors";
    const CLASS: Class = Class::Cors;

    fn compile(rules: &Self::Rules, _: &mut Setup<'_>) -> Result<Self, PathError> {
        Cors::compile(rules).map(|rules| Self(Arc::new(rules)))
    }

    fn announce(&self, assembly: &mut Assembly) -> Result<(), PathError> {
        assembly.edits.cors = Some(Arc::clone(&self.0));
        Ok(())
    }

    fn assemble(&mut self, assembly: &mut Assembly) -> Result<(), PathError> {
        if let Some(rules) = &assembly.edits.cors {
            self.0 = Arc::clone(rules);
        }
        Ok(())
    }

    fn on_request(&self, request: &mut FilterRequest<'_>) -> StepOutcome<'_> {
        match answer(&self.0, request.view) {
            None => StepOutcome::Continue,
            Some(lines) => StepOutcome::Respond(Response { status: 204, lines }),
        }
    }
}

/// The header lines of the answer, if this is a preflight request.
fn answer(rules: &Cors, request: &RequestView<'_>) -> Option<Vec<u8>> {
    if request.head.method.get(request.base) != b"OPTIONS" {
        return None;
    }
    let origin = request.field(b"origin");
    let method = request.field(b"access-control-request-method");
    if origin.is_empty() || method.is_empty() {
        return None;
    }
    let requested = request.field(b"access-control-request-headers");
    let lines = rules.preflight(origin, method, requested);
    Some(lines.unwrap_or_else(|| b"Vary: Origin\r\n".to_vec()))
}
