//! Edits of header fields, checked and put into the order of writing before any message is edited.
//!
//! Several edits that run one after another become one: what a later edit removes or sets is gone
//! from what an earlier one appended. So a message is walked once, however many filters there are.

use std::sync::Arc;

use crate::field::is_token;

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

type Bytes = Box<[u8]>;
/// Names in lower case, shared with the requests whose trailers they are kept out of.
pub type RemovedFields = Arc<Vec<Bytes>>;

/// Edits of one message's header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edit {
    removed: RemovedFields,
    /// Bit n stands for a removed name of n bytes, bit 63 for all that are longer.
    lengths: u64,
    appended: Vec<Appended>,
    /// Names of cookies that are taken out of `Cookie`.
    hidden_cookies: Vec<Bytes>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Appended {
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

/// Which part of a field is wrong, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldError {
    /// The name.
    Name(String),
    /// The value.
    Value(String),
}

impl Edit {
    /// Leaves the message's fields of a name out, and what was appended of it before.
    ///
    /// # Errors
    /// The name is none, or not one to be removed.
    pub fn remove(&mut self, name: &str) -> Result<(), String> {
        let name = checked_name(name)?;
        refuse_host(&name)?;
        self.leave_out(name);
        Ok(())
    }

    /// Makes a field the only one of its name.
    ///
    /// # Errors
    /// What is wrong with the name or the value.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), FieldError> {
        let field = Appended::checked(name, value)?;
        self.leave_out(field.name.clone());
        self.appended.push(field);
        Ok(())
    }

    /// Appends a field, whatever others of its name there are.
    ///
    /// # Errors
    /// As [`Edit::set`].
    pub fn add(&mut self, name: &str, value: &str) -> Result<(), FieldError> {
        let field = Appended::checked(name, value)?;
        refuse_host(&field.name).map_err(FieldError::Name)?;
        self.appended.push(field);
        Ok(())
    }

    /// Appends a field where there is none of its name.
    ///
    /// # Errors
    /// As [`Edit::set`].
    pub fn default_to(&mut self, name: &str, value: &str) -> Result<(), FieldError> {
        let mut field = Appended::checked(name, value)?;
        refuse_host(&field.name).map_err(FieldError::Name)?;
        if !self.appends(&field.name) {
            if !self.removes(&field.name) {
                field.when = When::Absent;
            }
            self.appended.push(field);
        }
        Ok(())
    }

    /// Whether this appends fields of a name, given in lower case.
    pub fn appends(&self, name: &[u8]) -> bool {
        self.appended.iter().any(|field| &*field.name == name)
    }

    /// The value of the first field of this name, given in lower case, that this appends.
    pub fn value_of(&self, name: &[u8]) -> Option<&[u8]> {
        let field = self.appended.iter().find(|field| &*field.name == name)?;
        let value = field.line.get(name.len() + 2..)?;
        Some(value.strip_suffix(b"\r\n").unwrap_or(value))
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

    fn leave_out(&mut self, name: Bytes) {
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

fn refuse_host(name: &[u8]) -> Result<(), String> {
    if name == b"host" {
        return Err("`host` can be set only".into());
    }
    Ok(())
}

impl Appended {
    fn checked(name: &str, value: &str) -> Result<Self, FieldError> {
        let lower = checked_name(name).map_err(FieldError::Name)?;
        check_value(value).map_err(FieldError::Value)?;
        Ok(Self {
            name: lower,
            line: format!("{name}: {value}\r\n").into_bytes().into(),
            when: When::Always,
        })
    }
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
