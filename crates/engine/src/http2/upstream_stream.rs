//! A stream to an endpoint: a request is written, and its answer read, as HTTP/1.1.

use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll};

use evenflow_wire::http1::head::Length;
use evenflow_wire::http2::Key;
use evenflow_wire::http2::translate::request_block;

use super::inbound;
use super::links::Link;
use super::outbound::{Head, Outbound};
use super::session::{Protocol, StreamState};

/// One request and its answer.
#[derive(Debug)]
pub struct UpstreamStream {
    link: Rc<Link>,
    request: Request,
}

#[derive(Debug)]
enum Request {
    /// The head of a request is to come.
    Head(Head),
    /// Its body follows.
    Body(Key, Outbound),
}

impl UpstreamStream {
    /// A stream on a connection; it is begun with the request's head.
    pub fn new(link: &Rc<Link>) -> Self {
        link.entered();
        Self {
            link: Rc::clone(link),
            request: Request::Head(Head::default()),
        }
    }

    fn key(&self) -> Option<Key> {
        match &self.request {
            Request::Head(_) => None,
            Request::Body(key, _) => Some(*key),
        }
    }

    /// Notes that the exchange's deadline has passed; see
    /// [`Stream::note_timeout`](crate::stream::Stream::note_timeout).
    pub fn note_timeout(&self) {
        let Some(key) = self.key() else { return };
        let session = &self.link.session;
        let answered = session.change(|protocol| {
            let state = protocol.user(key);
            state.is_some_and(|state| state.answered)
        });
        if !answered {
            self.link.timed_out();
        }
    }

    /// Writes of the request.
    pub fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let link = &self.link;
        let session = &link.session;
        let head = match &mut self.request {
            Request::Body(key, body) => return body.poll_write(session, *key, cx, slices),
            Request::Head(head) => head,
        };
        if session.is_over() || session.look(Protocol::is_leaving) {
            // Nothing of the request was sent.
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        }
        if !session.look(|protocol| protocol.can_open() && protocol.room() > 0) {
            session.wait_to_open(cx);
            return Poll::Pending;
        }
        let mut begun = None;
        let taken = head.take(slices, |text| {
            begun = Some(begin(link, text)?);
            Ok(())
        })?;
        if let Some((key, body)) = begun {
            self.request = Request::Body(key, body);
        }
        Poll::Ready(Ok(taken))
    }

    /// Waits until there is something to read; `false` is the end.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let Some(key) = self.key() else {
            return Poll::Pending;
        };
        let polled = inbound::poll_ready(&self.link.session, key, cx);
        if let Poll::Ready(Err(_)) = &polled {
            self.note_failure(key);
        }
        polled
    }

    /// Reads of the answer.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Some(key) = self.key() else {
            return Poll::Pending;
        };
        let polled = inbound::poll_read(&self.link.session, key, cx, buffer);
        if let Poll::Ready(Err(_)) = &polled {
            self.note_failure(key);
        }
        polled
    }

    /// A stream that the backend resets is a sign that it is there.
    fn note_failure(&self, key: Key) {
        let failure = self.link.session.look(|protocol| protocol.failure(key));
        if failure.is_some_and(|failure| failure.remote) {
            self.link.answered();
        }
    }
}

/// Sends a request's head.
fn begin(link: &Link, text: &[u8]) -> io::Result<(Key, Outbound)> {
    let session = &link.session;
    session.change_with_block(|protocol, block| {
        let message = request_block(text, link.scheme, block)
            .map_err(|what| io::Error::new(io::ErrorKind::InvalidInput, what))?;
        let state = StreamState::default();
        let end = message.length == Length::None;
        let key = protocol.open(state, message.head_request, end, 0, |out| {
            out.extend_from_slice(block);
        });
        let key = key.ok_or(io::ErrorKind::NotConnected)?;
        Ok((key, Outbound::new(message.length)))
    })
}

impl Drop for UpstreamStream {
    /// What is not over is given up.
    fn drop(&mut self) {
        self.link.left();
        if let Some(key) = self.key() {
            self.link.session.close(key);
        }
    }
}
