//! Edits of header fields, checked and put into the order of writing when a plan is compiled.
//!
//! Several edits that run one after another become one: what a later edit removes or sets is gone
//! from what an earlier one appended. So a message is walked once, however many filters there are.

use std::sync::Arc;

use crate::plan::HeaderEdit;

/// Fields that say how a message is framed or concern one connection only: the engine's own.
const RESERVED: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];
/// Fields by which the engine tells the control plane whom it serves.
const RESERVED_PREFIX: &str = "evenflow-";

/// Where a plan is wrong, and what is wrong there.
type Wrong = (String, String);
type Bytes = Box<[u8]>;
/// Names in lower case, shared with the requests whose trailers they are kept out of.
pub type RemovedFields = Arc<Vec<Bytes>>;

/// Edits of one message's header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edit {
    removed: RemovedFields,
    /// Bit n stands for a removed name of n bytes, bit 63 for all that are longer.
    lengths: u64,
    appended: Vec<Field>,
    /// Names of cookies that are taken out of `Cookie`.
    hidden_cookies: Vec<Bytes>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    /// Lower case.
    name: Bytes,
    /// `name: value` and CRLF.
    line: Bytes,
    when: When,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    /// Only where the message has none of that name.
    Absent,
}

impl Edit {
    /// Checks an edit.
    ///
    /// # Errors
    /// The path of what is wrong, such as `set[0][1]`, and what is wrong with it.
    pub fn compile(edit: &HeaderEdit) -> Result<Self, (String, String)> {
        let mut compiled = Self::default();
        compiled.extend(edit)?;
        Ok(compiled)
    }

    /// Makes this the edit that does first what it does now and then what `next` says.
    ///
    /// # Errors
    /// As [`Edit::compile`]; this edit is then of no use any more.
    pub fn extend(&mut self, next: &HeaderEdit) -> Result<(), (String, String)> {
        for (index, name) in next.remove.iter().enumerate() {
            let name = checked_name(name).map_err(|error| (format!("remove[{index}]"), error))?;
            if &*name == b"host" {
                return Err((format!("remove[{index}]"), "`host` can be set only".into()));
            }
            self.remove(name);
        }
        for (index, field) in next.set.iter().enumerate() {
            let (name, line) = checked_field("set", index, field)?;
            let earlier = &next.set[..index];
            if earlier
                .iter()
                .any(|(earlier, _)| earlier.as_bytes().eq_ignore_ascii_case(&name))
            {
                let message = "set twice; use `add` for a further field of the same name";
                return Err((format!("set[{index}][0]"), message.into()));
            }
            self.remove(name.clone());
            self.appended.push(Field {
                name,
                line,
                when: When::Always,
            });
        }
        for (index, field) in next.add.iter().enumerate() {
            let (name, line) = checked_field("add", index, field)?;
            refuse_host("add", index, &name)?;
            self.appended.push(Field {
                name,
                line,
                when: When::Always,
            });
        }
        for (index, field) in next.default.iter().enumerate() {
            let (name, line) = checked_field("default", index, field)?;
            refuse_host("default", index, &name)?;
            if self.appended.iter().any(|field| field.name == name) {
                continue;
            }
            let when = if self.removes(&name) {
                When::Always
            } else {
                When::Absent
            };
            self.appended.push(Field { name, line, when });
        }
        Ok(())
    }

    /// Whether this appends fields of a name, given in lower case.
    pub fn appends(&self, name: &[u8]) -> bool {
        self.appended.iter().any(|field| &*field.name == name)
    }

    /// Takes back what this appends of a name, given in lower case.
    pub fn withhold(&mut self, name: &[u8]) {
        self.appended.retain(|field| &*field.name != name);
    }

    /// Takes the cookie of this name, and no other, out of `Cookie` fields.
    pub fn hide_cookie(&mut self, name: &str) {
        self.hidden_cookies.push(name.as_bytes().into());
    }

    /// Whether `Cookie` fields have to be written by [`Edit::push_cookies`].
    #[inline]
    pub fn hides_cookies(&self) -> bool {
        !self.hidden_cookies.is_empty()
    }

    /// Writes a `Cookie` field without the hidden cookies; nothing where no other is in it.
    pub fn push_cookies(&self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        let begin = out.len();
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        let empty = out.len();
        let kept = value.split(|&byte| byte == b';').filter(|pair| {
            let equals = memchr::memchr(b'=', pair);
            !equals.is_some_and(|at| {
                let name = pair[..at].trim_ascii();
                self.hidden_cookies.iter().any(|hidden| **hidden == *name)
            })
        });
        for pair in kept {
            if out.len() == empty {
                out.extend_from_slice(pair.trim_ascii_start());
            } else {
                out.push(b';');
                out.extend_from_slice(pair);
            }
        }
        if out.len() == empty {
            out.truncate(begin);
        } else {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Whether this changes nothing.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.appended.is_empty() && self.hidden_cookies.is_empty()
    }

    /// Whether the message's fields of this name, in any case, are to be left out.
    #[inline]
    pub fn removes(&self, name: &[u8]) -> bool {
        self.lengths & length_bit(name) != 0
            && self
                .removed
                .iter()
                .any(|removed| removed.eq_ignore_ascii_case(name))
    }

    /// As [`Edit::removes`], `_` in the name counting as `-` as well: servers that take them for the
    /// same must not get from a client what a rule takes away or sets.
    #[inline]
    pub fn removes_alike(&self, name: &[u8]) -> bool {
        self.lengths & length_bit(name) != 0 && alike(&self.removed, name)
    }

    /// The removed names, where there are any.
    pub fn removed(&self) -> Option<RemovedFields> {
        (!self.removed.is_empty()).then(|| Arc::clone(&self.removed))
    }

    /// Writes the fields to append, each with its CRLF. `present` tells whether the message as it
    /// was received has a field of a name, given in lower case.
    pub fn append(&self, out: &mut Vec<u8>, present: impl Fn(&[u8]) -> bool) {
        for field in &self.appended {
            if field.when == When::Always || !present(&field.name) {
                out.extend_from_slice(&field.line);
            }
        }
    }

    fn remove(&mut self, name: Bytes) {
        self.appended.retain(|field| field.name != name);
        if !self.removes(&name) {
            self.lengths |= length_bit(&name);
            Arc::make_mut(&mut self.removed).push(name);
        }
    }
}

/// Whether a name is one of these in any case, with `_` or `-`.
pub fn alike(names: &[Bytes], name: &[u8]) -> bool {
    let dashed = |byte: u8| if byte == b'_' { b'-' } else { byte };
    names.iter().any(|known| {
        known.len() == name.len()
            && known
                .iter()
                .zip(name)
                .all(|(&a, &b)| dashed(a) == dashed(b.to_ascii_lowercase()))
    })
}

fn length_bit(name: &[u8]) -> u64 {
    1 << name.len().min(63)
}

fn refuse_host(list: &str, index: usize, name: &[u8]) -> Result<(), Wrong> {
    if name == b"host" {
        return Err((
            format!("{list}[{index}][0]"),
            "`host` can be set only".into(),
        ));
    }
    Ok(())
}

/// The name in lower case and the whole line.
fn checked_field(
    list: &str,
    index: usize,
    (name, value): &(String, String),
) -> Result<(Bytes, Bytes), Wrong> {
    let lower = checked_name(name).map_err(|error| (format!("{list}[{index}][0]"), error))?;
    check_value(value).map_err(|error| (format!("{list}[{index}][1]"), error))?;
    Ok((lower, format!("{name}: {value}\r\n").into_bytes().into()))
}

/// A field name in lower case.
fn checked_name(name: &str) -> Result<Bytes, String> {
    if !is_token(name.as_bytes()) {
        return Err(format!("{name:?} is not a header field's name"));
    }
    let lower = name.to_ascii_lowercase();
    if RESERVED.contains(&lower.as_str()) || lower.starts_with(RESERVED_PREFIX) {
        return Err(format!(
            "`{lower}` is the balancer's own and cannot be edited"
        ));
    }
    Ok(lower.into_bytes().into())
}

fn check_value(value: &str) -> Result<(), String> {
    if value
        .bytes()
        .any(|byte| byte.is_ascii_control() && byte != b'\t')
    {
        return Err("a header field's value cannot contain control characters".into());
    }
    if value.trim_matches([' ', '\t']).len() != value.len() {
        return Err("a header field's value cannot begin or end with white space".into());
    }
    Ok(())
}

/// RFC 9110's `token`.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}
