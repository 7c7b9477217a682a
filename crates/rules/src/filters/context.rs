//! What the filters of a chain leave for later filters and for the rest of the request.

use evenflow_state::concurrency::Permit;

/// Kept in a worker's scratch space and cleared after each request, so that a request without such
/// filters pays for a few comparisons and one with them for no allocation.
#[derive(Debug, Default)]
pub struct FilterContext {
    /// Header lines, each with its CRLF, for the request to the endpoint: the fields that
    /// authentication sets, and header edits of these fields.
    pub request_lines: Vec<u8>,
    /// Header lines, each with its CRLF, for the response, whether evenflow or an endpoint makes it.
    pub response_lines: Vec<u8>,
    /// The user that authentication found; empty without one.
    pub user: Vec<u8>,
    /// Concurrency permits, held until the response is complete.
    pub permits: Vec<Permit>,
    /// The filter whose tokens are signed with a key that it does not have.
    pub unknown_key: Option<String>,
}

impl FilterContext {
    /// Forgets everything and gives the permits back.
    pub fn clear(&mut self) {
        self.request_lines.clear();
        self.response_lines.clear();
        self.user.clear();
        self.permits.clear();
        self.unknown_key = None;
    }

    /// Replaces the user's name.
    pub fn set_user(&mut self, name: &[u8]) {
        self.user.clear();
        self.user.extend_from_slice(name);
    }

    /// Adds a request field, unless the value contains control characters.
    pub fn add_field(&mut self, name: &str, value: &[u8]) {
        if value.iter().any(|&byte| byte < 0x20 || byte == 0x7f) {
            return;
        }
        self.request_lines.extend_from_slice(name.as_bytes());
        self.request_lines.extend_from_slice(b": ");
        self.request_lines.extend_from_slice(value);
        self.request_lines.extend_from_slice(b"\r\n");
    }

    /// The value of the first request field of this name, in any case, that filters added.
    pub fn field(&self, name: &[u8]) -> Option<&[u8]> {
        lines(&self.request_lines).find_map(|line| value_of(line, name))
    }

    /// Removes the request fields of these names, in any case, that earlier filters added.
    pub fn remove_fields<N: AsRef<[u8]>>(&mut self, names: &[N]) {
        if self.request_lines.is_empty() {
            return;
        }
        let removed = |line: &[u8]| {
            names
                .iter()
                .any(|name| value_of(line, name.as_ref()).is_some())
        };
        let mut rest = Vec::with_capacity(self.request_lines.len());
        for line in lines(&self.request_lines).filter(|line| !removed(line)) {
            rest.extend_from_slice(line);
        }
        self.request_lines = rest;
    }
}

/// The lines, each with its CRLF. Values contain no line breaks.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|&byte| byte == b'\n')
}

/// The value in a line of this name.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = line.split_at_checked(name.len())?;
    if !found.eq_ignore_ascii_case(name) {
        return None;
    }
    rest.strip_prefix(b": ").map(<[u8]>::trim_ascii_end)
}
