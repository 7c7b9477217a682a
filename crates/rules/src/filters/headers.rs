//! The plan's lists of header edits as one [`Edit`].

use evenflow_wire::edit::{Edit, FieldError};

use crate::plan::HeaderEdit;

/// Makes `edit` do first what it does now and then what `next` says.
///
/// # Errors
/// The path of what is wrong, such as `set[0][1]`, and what is wrong with it; the edit is then of no
/// use any more.
pub fn extend(edit: &mut Edit, next: &HeaderEdit) -> Result<(), (String, String)> {
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

fn at(list: &str, index: usize) -> impl Fn(FieldError) -> (String, String) {
    move |error| match error {
        FieldError::Name(message) => (format!("{list}[{index}][0]"), message),
        FieldError::Value(message) => (format!("{list}[{index}][1]"), message),
    }
}
