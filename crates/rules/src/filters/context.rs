//! What filters leave behind for the rest of a request they let pass.

use evenflow_state::concurrency::Permit;

/// Kept in a worker's scratch space and emptied after each request, so that a request without such
/// filters pays for a few comparisons and one with them for no allocation.
#[derive(Debug, Default)]
pub struct FilterContext {
    /// Header lines, each with its CRLF, for the request to the endpoint.
    pub request_lines: Vec<u8>,
    /// Header lines, each with its CRLF, for the answer, whoever makes it.
    pub response_lines: Vec<u8>,
    /// Who asks, as authentication found it; empty where nobody asked.
    pub user: Vec<u8>,
    /// Places taken until the answer is complete.
    pub permits: Vec<Permit>,
}

impl FilterContext {
    /// Forgets everything and gives back the places.
    pub fn clear(&mut self) {
        self.request_lines.clear();
        self.response_lines.clear();
        self.user.clear();
        self.permits.clear();
    }

    /// Adds a line for the request, unless the value cannot stand in a header.
    pub fn tell(&mut self, name: &str, value: &[u8]) {
        if value.iter().any(|&byte| byte < 0x20 || byte == 0x7f) {
            return;
        }
        self.request_lines.extend_from_slice(name.as_bytes());
        self.request_lines.extend_from_slice(b": ");
        self.request_lines.extend_from_slice(value);
        self.request_lines.extend_from_slice(b"\r\n");
    }
}
