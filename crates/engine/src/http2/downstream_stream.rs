//! A client's stream: its request is read, and its answer written, as HTTP/1.1.

use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll};

use evenflow_wire::http1::head::Length;
use evenflow_wire::http2::Key;
use evenflow_wire::http2::translate::{Message, response_block};
use evenflow_wire::proxy_protocol::AddressPair;

use super::inbound;
use super::outbound::{Head, Outbound};
use super::session::Session;

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
    session: Rc<Session>,
    key: Key,
    answer: Answer,
    head_request: bool,
    below: DownstreamInfo,
}

#[derive(Debug)]
enum Answer {
    /// The head of an answer is to come.
    Head(Head),
    /// Its body follows.
    Body(Outbound),
}

impl DownstreamStream {
    /// A request whose head has come in.
    pub fn new(session: &Rc<Session>, key: Key, head_request: bool, below: DownstreamInfo) -> Self {
        Self {
            session: Rc::clone(session),
            key,
            answer: Answer::Head(Head::default()),
            head_request,
            below,
        }
    }

    /// The connection it came by.
    pub fn below(&self) -> DownstreamInfo {
        self.below
    }

    /// Waits until there is something to read; `false` is the end.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        inbound::poll_ready(&self.session, self.key, cx)
    }

    /// Reads of the request.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        inbound::poll_read(&self.session, self.key, cx, buffer)
    }

    /// Writes of the answer.
    pub fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let (session, key, head_request) = (&self.session, self.key, self.head_request);
        let head = match &mut self.answer {
            Answer::Body(body) => return body.poll_write(session, key, cx, slices),
            Answer::Head(head) => head,
        };
        let ready = session.change(|protocol| {
            if let Some(error) = session.error(protocol, key) {
                return Poll::Ready(Err(error));
            }
            if protocol.room() == 0 {
                session.wait_for_connection(protocol, key, cx);
                return Poll::Pending;
            }
            Poll::Ready(Ok(()))
        });
        std::task::ready!(ready)?;
        let mut body = None;
        let taken = head.take(slices, |text| {
            let message = send_head(session, key, text, head_request)?;
            body = (message.status >= 200).then(|| Outbound::new(message.length));
            Ok(())
        })?;
        if let Some(body) = body {
            self.answer = Answer::Body(body);
        }
        Poll::Ready(Ok(taken))
    }

    /// Nothing more is written.
    pub fn close(&mut self) {
        if let Answer::Body(body) = &mut self.answer {
            body.close(&self.session, self.key);
        }
    }

    /// Waits until the client gives the stream up.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.session.change(|protocol| {
            if self.session.error(protocol, self.key).is_some() {
                return Poll::Ready(());
            }
            self.session.wait(protocol, self.key, cx);
            Poll::Pending
        })
    }
}

fn send_head(session: &Session, key: Key, text: &[u8], head_request: bool) -> io::Result<Message> {
    session.change_with_block(|protocol, block| {
        let message = response_block(text, head_request, block)
            .map_err(|what| io::Error::new(io::ErrorKind::InvalidData, what))?;
        let write = |out: &mut Vec<u8>| out.extend_from_slice(block);
        let sent = if message.status < 200 {
            protocol.send_interim(key, write)
        } else {
            protocol.send_head(key, message.length == Length::None, write)
        };
        if sent {
            Ok(message)
        } else {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    })
}

impl Drop for DownstreamStream {
    /// An answer that breaks off must not look complete. One that is whole before the request is
    /// makes the client stop sending, which is no error (RFC 9113 §8.1).
    fn drop(&mut self) {
        match &self.answer {
            Answer::Body(body) if body.is_ended() => self.session.finish(self.key),
            _ => self.session.close(self.key),
        }
    }
}
