//! A chain: the steps of named filters, one after another.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::filters::context::FilterContext;
use crate::filters::primitive::WaitResult;
use crate::filters::primitive::{
    Assembly, Class, Edits, FilterRequest, PathError, Refusal, Response, Scope, Setup, StepOutcome,
    Wait,
};
use crate::filters::state::RefusalCounter;
use crate::filters::step::Step;
use crate::plan;
use crate::reason::Reason;

/// The compiled steps of one named filter, shared by all chains it is part of.
#[derive(Debug)]
pub struct NamedSteps {
    counter: Arc<RefusalCounter>,
    steps: Vec<Step>,
}

impl NamedSteps {
    /// Compiles a named filter.
    ///
    /// # Errors
    /// The path below the named filter and what is wrong there.
    pub fn compile(
        filter: &plan::FilterChain,
        counter: Arc<RefusalCounter>,
        setup: &mut Setup<'_>,
    ) -> Result<Self, PathError> {
        let mut steps = Vec::with_capacity(filter.steps.len());
        for (index, step) in filter.steps.iter().enumerate() {
            let compiled = Step::compile(step, setup);
            steps.push(compiled.map_err(|error| below(index, error))?);
        }
        Ok(Self { counter, steps })
    }
}

fn below(index: usize, (path, message): PathError) -> PathError {
    (format!("steps[{index}].{path}"), message)
}

/// Filters in the order in which they run.
#[derive(Debug, Default)]
pub struct Chain {
    steps: Box<[ChainStep]>,
    /// What they do to every request and response head.
    pub edits: Edits,
    /// The smallest bound on the request body in bytes; `None` without one.
    pub body_limit: Option<u64>,
}

#[derive(Debug)]
struct ChainStep {
    counter: Arc<RefusalCounter>,
    step: Step,
}

/// What a chain, or the rest of one, says about a request.
#[derive(Debug)]
pub enum Verdict<'c> {
    /// It goes on.
    Pass,
    /// It is refused.
    Refuse(Refusal),
    /// A step answers it.
    Respond(Response),
    /// A step waits; the chain resumes behind it.
    Wait {
        /// The step's place.
        at: usize,
        /// What it waits for.
        on: Wait<'c>,
    },
}

/// What one step would say about a request.
#[derive(Debug)]
pub struct Explained<'c> {
    /// The named filter.
    pub filter: &'c str,
    /// What of the filter it is.
    pub check: &'static str,
    /// What it says.
    pub outcome: StepOutcome<'c>,
    /// The user, if the step found one.
    pub user: Option<String>,
}

impl Chain {
    /// Puts named filters one after another.
    ///
    /// # Errors
    /// The place of the named filter in `parts`, the path below it, and what is wrong there.
    pub fn assemble(parts: &[&NamedSteps]) -> Result<Self, (usize, PathError)> {
        let mut assembly = Assembly::default();
        let places = || {
            parts.iter().enumerate().flat_map(|(part, named)| {
                let steps = named.steps.iter().enumerate();
                steps.map(move |(index, step)| (part, index, &named.counter, step))
            })
        };
        for (part, index, _, step) in places() {
            step.announce(&mut assembly)
                .map_err(|error| (part, below(index, error)))?;
        }
        let mut steps = Vec::new();
        for (part, index, counter, step) in places() {
            let mut step = step.clone();
            step.assemble(&mut assembly)
                .map_err(|error| (part, below(index, error)))?;
            steps.push(ChainStep {
                counter: Arc::clone(counter),
                step,
            });
        }
        Ok(Self {
            steps: steps.into(),
            edits: assembly.edits,
            body_limit: assembly.body_limit,
        })
    }

    /// Runs the steps from one on that belong to the scope, until one does not let the request
    /// continue. Refusals by address lists and limits are counted.
    pub fn run<'c>(
        &'c self,
        from: usize,
        scope: Scope,
        request: &mut FilterRequest<'_>,
    ) -> Verdict<'c> {
        for (at, ChainStep { counter, step }) in self.steps.iter().enumerate().skip(from) {
            let class = step.class();
            if !scope.includes(class) {
                continue;
            }
            let count = || {
                if matches!(class, Class::Address | Class::Limit) {
                    counter.limited.fetch_add(1, Ordering::Relaxed);
                }
            };
            match step.on_request(request) {
                StepOutcome::Continue => {}
                StepOutcome::WouldRefuse => count(),
                StepOutcome::Refuse(refusal) => {
                    count();
                    return Verdict::Refuse(refusal);
                }
                StepOutcome::Respond(response) => return Verdict::Respond(response),
                StepOutcome::Wait(on) => return Verdict::Wait { at, on },
            }
        }
        Verdict::Pass
    }

    /// Settles a request by what the step at this place waited for.
    ///
    /// # Errors
    /// Why the request is refused.
    pub fn settle(
        &self,
        at: usize,
        result: WaitResult<'_>,
        context: &mut FilterContext,
    ) -> Result<(), Reason> {
        match self.steps.get(at) {
            Some(waiting) => waiting.step.settle(result, context),
            None => Err(Reason::AuthUnavailable),
        }
    }

    /// What each step that judges requests would say, without counting or using anything up.
    /// Limits of rate and steps that wait do not decide.
    pub fn explain<'c>(
        &'c self,
        scope: Scope,
        request: &mut FilterRequest<'_>,
    ) -> Vec<Explained<'c>> {
        let mut explained = Vec::new();
        for ChainStep { counter, step } in &self.steps {
            if !scope.includes(step.class()) {
                continue;
            }
            request.context.user.clear();
            let outcome = step.on_request(request);
            let user = &request.context.user;
            if step.class() != Class::Edit {
                explained.push(Explained {
                    filter: &counter.name,
                    check: step.check(),
                    outcome,
                    user: (!user.is_empty()).then(|| String::from_utf8_lossy(user).into_owned()),
                });
            }
        }
        explained
    }
}
