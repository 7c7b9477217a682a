//! A stream to an endpoint: a request is written, and its answer read, as HTTP/1.1.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use evenflow_wire::http1::head::Length;
use evenflow_wire::http2::translate::{request, response_lines};
use h2::RecvStream;
use h2::client::{ResponseFuture, SendRequest};
use http::{Method, Response};

use super::broken;
use super::inbound::Inbound;
use super::links::Link;
use super::outbound::{Head, Outbound};

/// One request and its answer.
#[derive(Debug)]
pub struct UpstreamStream {
    link: Arc<Link>,
    request: Asking,
    answer: Answer,
    head_request: bool,
}

#[derive(Debug)]
enum Asking {
    /// The head of a request is to come.
    Head(SendRequest<Bytes>, Head),
    /// Its body follows.
    Body(Outbound),
}

#[derive(Debug)]
enum Answer {
    /// Nothing was asked yet.
    None,
    /// The head of an answer is waited for; heads in between are read before it.
    Head(ResponseFuture, Bytes),
    /// It is here, and its body follows.
    Body(Inbound),
}

impl UpstreamStream {
    /// A stream on a connection; it is begun with the request's head.
    pub fn new(link: &Arc<Link>, client: SendRequest<Bytes>) -> Self {
        link.entered();
        Self {
            link: Arc::clone(link),
            request: Asking::Head(client, Head::default()),
            answer: Answer::None,
            head_request: false,
        }
    }

    fn broken(&self, error: &h2::Error) -> io::Error {
        if error.is_remote() && error.is_reset() {
            self.link.answered();
        }
        match &self.answer {
            Answer::Head(waiting, _) if waiting.stream_id().as_u32() > self.link.last_stream() => {
                io::ErrorKind::NotConnected.into()
            }
            _ => broken(error),
        }
    }

    /// Notes that the exchange's deadline has passed; see
    /// [`Stream::note_timeout`](crate::stream::Stream::note_timeout).
    pub fn note_timeout(&self) {
        if matches!(self.answer, Answer::Head(..)) {
            self.link.timed_out();
        }
    }

    /// Writes of the request.
    pub fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let (client, head) = match &mut self.request {
            Asking::Body(body) => return body.poll_write(cx, slices),
            Asking::Head(client, head) => (client, head),
        };
        if let Err(error) = ready!(client.poll_ready(cx)) {
            return Poll::Ready(Err(self.broken(&error)));
        }
        let (taken, whole) = head.take(slices)?;
        if let Some(text) = whole {
            let cannot = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
            let (request, length) = request(&text, &self.link.scheme).map_err(cannot)?;
            self.head_request = request.method() == Method::HEAD;
            match client.send_request(request, length == Length::None) {
                Ok((answer, frames)) => {
                    self.answer = Answer::Head(answer, Bytes::new());
                    self.request = Asking::Body(Outbound::new(frames, length));
                }
                Err(error) => return Poll::Ready(Err(self.broken(&error))),
            }
        }
        Poll::Ready(Ok(taken))
    }

    /// Waits until there is something to read; `false` is the end.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            let (waiting, text) = match &mut self.answer {
                Answer::None => return Poll::Pending,
                Answer::Body(body) => return body.poll_ready(cx),
                Answer::Head(waiting, text) => (waiting, text),
            };
            if !text.is_empty() {
                return Poll::Ready(Ok(true));
            }
            match waiting.poll_informational(cx) {
                Poll::Ready(Some(Ok(interim))) => {
                    let (parts, ()) = interim.into_parts();
                    let mut lines = Vec::new();
                    response_lines(&parts, false, self.head_request, &mut lines)
                        .map_err(invalid)?;
                    *text = lines.into();
                    self.link.answered();
                    continue;
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(self.broken(&error))),
                Poll::Ready(None) | Poll::Pending => {}
            }
            match ready!(std::pin::Pin::new(waiting).poll(cx)) {
                Ok(answer) => self.begin(answer)?,
                Err(error) => return Poll::Ready(Err(self.broken(&error))),
            }
        }
    }

    fn begin(&mut self, answer: Response<RecvStream>) -> io::Result<()> {
        self.link.answered();
        let (parts, frames) = answer.into_parts();
        let mut head = Vec::with_capacity(512);
        let ended = frames.is_end_stream();
        let chunked =
            response_lines(&parts, ended, self.head_request, &mut head).map_err(invalid)?;
        self.answer = Answer::Body(Inbound::new(head, frames, chunked));
        Ok(())
    }

    /// Reads of the answer.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if !ready!(self.poll_ready(cx))? {
            return Poll::Ready(Ok(0));
        }
        match &mut self.answer {
            Answer::None => Poll::Pending,
            Answer::Body(body) => body.poll_read(cx, buffer),
            Answer::Head(_, text) => {
                let count = text.len().min(buffer.len());
                buffer[..count].copy_from_slice(&text.split_to(count));
                Poll::Ready(Ok(count))
            }
        }
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Drop for UpstreamStream {
    /// What is not over is given up: dropping its parts makes the h2 crate reset the stream.
    fn drop(&mut self) {
        self.link.left();
    }
}
