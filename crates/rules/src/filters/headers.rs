//! Header edits of requests and of responses.
//!
//! The edits of a chain are compiled into one [`Edit`] each, so a head is walked once, however many
//! steps edit it. Fields that authentication of the same chain sets are the exception: their values
//! differ by request, so edits of them run at their place in the chain.

use std::sync::Arc;

use evenflow_wire::edit::{Edit, FieldError};

use crate::filters::context::FilterContext;
use crate::filters::primitive::{
    Assembly, Class, FilterRequest, PathError, Primitive, Setup, StepOutcome,
};
use crate::plan::HeaderEdit;

/// Edits of the request before it is forwarded.
#[derive(Debug, Clone)]
pub struct RequestHeaders {
    rules: Arc<HeaderEdit>,
    /// The edits of fields that authentication sets.
    of_set_fields: Option<Arc<HeaderEdit>>,
}

impl Primitive for RequestHeaders {
    type Rules = HeaderEdit;
    const NAME: &'static str = "request_headers";
    const CLASS: Class = Class::Edit;

    fn compile(rules: &Self::Rules, _: &mut Setup<'_>) -> Result<Self, PathError> {
        extend(&mut Edit::default(), rules)?;
        Ok(Self {
            rules: Arc::new(rules.clone()),
            of_set_fields: None,
        })
    }

    fn assemble(&mut self, assembly: &mut Assembly) -> Result<(), PathError> {
        let (set, others) = split(&self.rules, |name| assembly.is_set_by_filters(name));
        self.of_set_fields = (set != HeaderEdit::default()).then(|| Arc::new(set));
        extend(&mut assembly.edited, &others)?;
        extend(&mut assembly.edits.request, &others)
    }

    fn on_request(&self, request: &mut FilterRequest<'_>) -> StepOutcome<'_> {
        if let Some(edit) = &self.of_set_fields {
            run(edit, request.context);
        }
        StepOutcome::Continue
    }
}

/// Edits of every response, whether evenflow or an endpoint makes it.
#[derive(Debug, Clone)]
pub struct ResponseHeaders(Arc<HeaderEdit>);

impl Primitive for ResponseHeaders {
    type Rules = HeaderEdit;
    const NAME: &'static str = "response_headers";
    const CLASS: Class = Class::Edit;

    fn compile(rules: &Self::Rules, _: &mut Setup<'_>) -> Result<Self, PathError> {
        extend(&mut Edit::default(), rules)?;
        Ok(Self(Arc::new(rules.clone())))
    }

    fn assemble(&mut self, assembly: &mut Assembly) -> Result<(), PathError> {
        extend(&mut assembly.edits.response, &self.0)
    }
}

/// Makes `edit` do first what it does now and then what `next` says.
///
/// # Errors
/// The path of what is wrong, such as `set[0][1]`, and what is wrong with it; the edit is then of no
/// use any more.
pub fn extend(edit: &mut Edit, next: &HeaderEdit) -> Result<(), PathError> {
    for (index, name) in next.remove.iter().enumerate() {
        edit.remove(name)
            .map_err(|error| (format!("remove[{index}]"), error))?;
    }
    for (index, (name, value)) in next.set.iter().enumerate() {
        edit.set(name, value).map_err(at("set", index))?;
        let mut earlier = next.set[..index].iter();
        if earlier.any(|(earlier, _)| earlier.eq_ignore_ascii_case(name)) {
            let message = "set twice; use `add` for a further field of the same name";
            return Err((format!("set[{index}][0]"), message.into()));
        }
    }
    for (index, (name, value)) in next.add.iter().enumerate() {
        edit.add(name, value).map_err(at("add", index))?;
    }
    for (index, (name, value)) in next.default.iter().enumerate() {
        edit.default_to(name, value).map_err(at("default", index))?;
    }
    Ok(())
}

fn at(list: &str, index: usize) -> impl Fn(FieldError) -> PathError {
    move |error| match error {
        FieldError::Name(message) => (format!("{list}[{index}][0]"), message),
        FieldError::Value(message) => (format!("{list}[{index}][1]"), message),
    }
}

/// The edits of the names that `chosen` takes, and those of all others.
fn split(edit: &HeaderEdit, chosen: impl Fn(&[u8]) -> bool) -> (HeaderEdit, HeaderEdit) {
    let names = |list: &[String], wanted: bool| -> Vec<String> {
        let of_kind = list.iter().filter(|name| chosen(name.as_bytes()) == wanted);
        of_kind.cloned().collect()
    };
    let fields = |list: &[(String, String)], wanted: bool| -> Vec<(String, String)> {
        let of_kind = list
            .iter()
            .filter(|(name, _)| chosen(name.as_bytes()) == wanted);
        of_kind.cloned().collect()
    };
    let part = |wanted| HeaderEdit {
        remove: names(&edit.remove, wanted),
        set: fields(&edit.set, wanted),
        add: fields(&edit.add, wanted),
        default: fields(&edit.default, wanted),
    };
    (part(true), part(false))
}

/// Edits the fields that earlier steps set for this request.
fn run(edit: &HeaderEdit, context: &mut FilterContext) {
    context.remove_fields(&edit.remove);
    for (name, value) in &edit.set {
        context.remove_fields(&[name]);
        context.add_field(name, value.as_bytes());
    }
    for (name, value) in &edit.add {
        context.add_field(name, value.as_bytes());
    }
    for (name, value) in &edit.default {
        if context.field(name.as_bytes()).is_none() {
            context.add_field(name, value.as_bytes());
        }
    }
}
