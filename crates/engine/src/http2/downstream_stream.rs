//! A client's stream: its request is read, and its answer written, as HTTP/1.1.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use bytes::Bytes;
use evenflow_wire::http1::head::Length;
use evenflow_wire::http2::translate::{request_lines, response};
use evenflow_wire::proxy_protocol::AddressPair;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Method, Request};

use super::broken;
use super::inbound::Inbound;
use super::outbound::{Head, Outbound};

/// What a stream tells of the connection that it came by.
#[derive(Debug, Clone, Copy)]
pub struct DownstreamInfo {
    /// Both ends' addresses.
    pub ends: Option<AddressPair>,
    /// It is encrypted.
    pub tls: bool,
}

/// One request and the way for its answer.
#[derive(Debug)]
pub struct DownstreamStream {
    request: Inbound,
    answer: Answer,
    head_request: bool,
    below: DownstreamInfo,
}

#[derive(Debug)]
enum Answer {
    /// The head of an answer is to come.
    Head(SendResponse<Bytes>, Head),
    /// Its body follows.
    Body(Outbound),
}

impl DownstreamStream {
    /// A request that has come in. `None`: it is malformed, and its stream is reset.
    pub fn new(
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        below: DownstreamInfo,
    ) -> Option<Self> {
        let (parts, frames) = request.into_parts();
        let mut head = Vec::with_capacity(512);
        let Ok(chunked) = request_lines(&parts, frames.is_end_stream(), &mut head) else {
            respond.send_reset(Reason::PROTOCOL_ERROR);
            return None;
        };
        Some(Self {
            request: Inbound::new(head, frames, chunked),
            answer: Answer::Head(respond, Head::default()),
            head_request: parts.method == Method::HEAD,
            below,
        })
    }

    /// The connection it came by.
    pub fn below(&self) -> DownstreamInfo {
        self.below
    }

    /// Waits until there is something to read; `false` is the end.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.request.poll_ready(cx)
    }

    /// Reads of the request.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.request.poll_read(cx, buffer)
    }

    /// Writes of the answer.
    pub fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let (respond, head) = match &mut self.answer {
            Answer::Body(body) => return body.poll_write(cx, slices),
            Answer::Head(respond, head) => (respond, head),
        };
        let (taken, whole) = head.take(slices)?;
        if let Some(text) = whole {
            let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
            let (answer, length) = response(&text, self.head_request).map_err(invalid)?;
            if answer.status().is_informational() {
                respond
                    .send_informational(answer)
                    .map_err(|error| broken(&error))?;
            } else {
                let frames = respond
                    .send_response(answer, length == Length::None)
                    .map_err(|error| broken(&error))?;
                self.answer = Answer::Body(Outbound::new(frames, length));
            }
        }
        Poll::Ready(Ok(taken))
    }

    /// Nothing more is written.
    pub fn close(&mut self) -> io::Result<()> {
        match &mut self.answer {
            Answer::Head(..) => Ok(()),
            Answer::Body(body) => body.close(),
        }
    }

    /// Waits until the client gives the stream up.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.answer {
            Answer::Head(respond, _) => respond.poll_reset(cx).map(|_| ()),
            Answer::Body(body) => body.poll_reset(cx),
        }
    }
}

impl Drop for DownstreamStream {
    /// An answer that breaks off must not look complete. One that is whole before the request is
    /// makes the h2 crate tell the client to stop sending, which is no error (RFC 9113 §8.1).
    fn drop(&mut self) {
        match &mut self.answer {
            Answer::Head(respond, _) => respond.send_reset(Reason::INTERNAL_ERROR),
            Answer::Body(body) if !body.is_ended() => body.reset(Reason::INTERNAL_ERROR),
            Answer::Body(_) => {}
        }
    }
}
