//! External authorization: a sub-request to a pool says whether a request may pass, as nginx's
//! `auth_request` does.

use std::sync::Arc;

use evenflow_wire::http1::head::ResponseHead;

use super::OwnFields;
use crate::filters::context::FilterContext;
use crate::filters::primitive::{
    Assembly, Class, FilterRequest, PathError, Primitive, Question, Setup, StepOutcome, Wait,
    WaitResult,
};
use crate::plan;
use crate::reason::Reason;

/// One place in a chain where a service is asked.
#[derive(Debug, Clone)]
pub struct ExternalStep(Arc<External>);

/// What to ask, and what to do with the answer.
#[derive(Debug)]
struct External {
    question: Question,
    own: OwnFields,
}

impl Primitive for ExternalStep {
    type Rules = plan::ExternalFilter;
    const NAME: &'static str = "external";
    const CLASS: Class = Class::Auth;

    /// It remembers nothing, and the pool may have another index in the next plan: so it is always
    /// compiled anew.
    fn compile(rules: &Self::Rules, setup: &mut Setup<'_>) -> Result<Self, PathError> {
        let Some(&pool) = setup.pools.get(rules.pool.as_str()) else {
            return Err(("pool".into(), format!("no pool {:?}", rules.pool)));
        };
        Ok(Self(Arc::new(External {
            question: Question {
                rules: rules.clone(),
                pool,
            },
            own: OwnFields {
                set: rules.response_headers.clone(),
                ..OwnFields::default()
            },
        })))
    }

    fn announce(&self, assembly: &mut Assembly) -> Result<(), PathError> {
        self.0.own.announce(assembly)
    }

    fn on_request(&self, request: &mut FilterRequest<'_>) -> StepOutcome<'_> {
        self.0.own.clear(request.context);
        StepOutcome::Wait(Wait::External(&self.0.question))
    }

    fn settle(&self, result: WaitResult<'_>, context: &mut FilterContext) -> Result<(), Reason> {
        match result {
            WaitResult::External(answer) => self.0.settle(answer, context),
            WaitResult::Password(..) => Err(Reason::AuthUnavailable),
        }
    }
}

impl External {
    /// Settles the request by the service's answer; `None` where there is none.
    ///
    /// # Errors
    /// `Unauthorized` and `Denied` as the service says, `AuthUnavailable` where it says nothing.
    fn settle(
        &self,
        answer: Option<(&ResponseHead, &[u8])>,
        context: &mut FilterContext,
    ) -> Result<(), Reason> {
        let Some((head, base)) = answer else {
            return self.without_answer();
        };
        match head.status {
            200..=299 => {
                self.copy(head, base, context);
                Ok(())
            }
            401 => {
                let challenge = first(head, base, b"www-authenticate").unwrap_or(b"Bearer");
                let lines = &mut context.response_lines;
                lines.extend_from_slice(b"www-authenticate: ");
                lines.extend_from_slice(challenge);
                lines.extend_from_slice(b"\r\n");
                Err(Reason::Unauthorized)
            }
            403 => Err(Reason::Denied),
            _ => self.without_answer(),
        }
    }

    fn without_answer(&self) -> Result<(), Reason> {
        if self.question.rules.fail_open {
            Ok(())
        } else {
            Err(Reason::AuthUnavailable)
        }
    }

    /// Copies the user's name and the fields that the rules name.
    fn copy(&self, head: &ResponseHead, base: &[u8], context: &mut FilterContext) {
        for name in &self.question.rules.response_headers {
            for field in &head.fields {
                if field.name.get(base).eq_ignore_ascii_case(name.as_bytes()) {
                    context.add_field(name, field.value.get(base));
                }
            }
        }
        if let Some(name) = &self.question.rules.user_header {
            let user = first(head, base, name.as_bytes());
            context.set_user(user.unwrap_or_default());
        }
    }
}

/// The value of the first field of a name, unless it is empty.
fn first<'a>(head: &ResponseHead, base: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut fields = head.fields.iter();
    let field = fields.find(|field| field.name.get(base).eq_ignore_ascii_case(name))?;
    let value = field.value.get(base);
    (!value.is_empty()).then_some(value)
}
