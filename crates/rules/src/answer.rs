//! Answers of the balancer's own.

use evenflow_wire::http1::encode::{self, Delivery};

/// An answer ready to be written.
#[derive(Debug)]
pub struct Answer<'a> {
    /// The status.
    pub status: u16,
    /// Further header lines, each with its CRLF.
    pub lines: &'a [u8],
    /// Media type and body.
    pub content: Option<(&'a str, &'a [u8])>,
    /// The connection closes afterwards.
    pub close: bool,
}

impl<'a> Answer<'a> {
    /// An answer without a body.
    pub fn empty(status: u16, lines: &'a [u8]) -> Self {
        Self {
            status,
            lines,
            content: None,
            close: false,
        }
    }

    /// Writes the answer.
    pub fn encode(&self, out: &mut Vec<u8>, date: &[u8], delivery: Delivery, head_request: bool) {
        let content = self.content.map(|(kind, body)| (kind, body.len()));
        encode::own_head(out, self.status, date, content, delivery);
        out.extend_from_slice(self.lines);
        out.extend_from_slice(b"\r\n");
        if let Some((_, body)) = self.content
            && !head_request
        {
            out.extend_from_slice(body);
        }
    }
}
