//! HTTP/2 (RFC 9113) on both sides, translated at the edge.
//!
//! The h2 crate speaks the protocol: frames, header compression, streams, windows. One stream of it,
//! a request and its answer, is made to look like a [`Stream`](crate::stream::Stream) of HTTP/1.1
//! that carries this one exchange, so that routes, filters, retries and records are the same code for
//! both: [`downstream_stream`] is a client's stream, [`upstream_stream`] one to an endpoint. [`accept`] serves a client's
//! connection, [`links`] holds those to endpoints. [`translate`](evenflow_wire::http2::translate)
//! turns heads from one form into the other; [`inbound`] and [`outbound`] do so with bodies.

pub mod accept;
pub mod downstream_stream;
mod inbound;
pub mod links;
mod outbound;
mod socket;
pub mod upstream_stream;

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use evenflow_wire::proxy_protocol::AddressPair;

use crate::stream::Gone;
use downstream_stream::DownstreamStream;
use upstream_stream::UpstreamStream;

/// What a client that knows of it begins with (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How many bytes of one stream's body the peer may send before they are read here.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for a connection: the largest window there is (RFC 9113 §6.9.1). Only the windows of its
/// streams bound what is received, because a smaller one would be used up by streams that nobody
/// reads and would then stop every other stream of the connection.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// What one stream may have waiting to be sent.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that this side may reset for errors of the other's before the connection ends.
const ERROR_RESETS: usize = 256;

/// One stream of HTTP/2 with the face of a connection of HTTP/1.1.
#[derive(Debug)]
pub enum Exchange {
    /// A client's.
    Downstream(DownstreamStream),
    /// One to an endpoint.
    Upstream(UpstreamStream),
}

impl Exchange {
    /// See [`Stream::poll_read`](crate::stream::Stream::poll_read).
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Downstream(served) => served.poll_read(cx, buffer),
            Self::Upstream(asked) => asked.poll_read(cx, buffer),
        }
    }

    /// See [`Stream::poll_read_ready`](crate::stream::Stream::poll_read_ready).
    pub fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = match self {
            Self::Downstream(served) => served.poll_ready(cx),
            Self::Upstream(asked) => asked.poll_ready(cx),
        };
        polled.map_ok(|_| ())
    }

    /// See [`Stream::poll_write_vectored`](crate::stream::Stream::poll_write_vectored).
    pub fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Downstream(served) => served.poll_write(cx, slices),
            Self::Upstream(asked) => asked.poll_write(cx, slices),
        }
    }

    /// See [`Stream::poll_shutdown`](crate::stream::Stream::poll_shutdown).
    pub fn close(&mut self) -> io::Result<()> {
        match self {
            Self::Downstream(served) => served.close(),
            Self::Upstream(_) => Ok(()),
        }
    }

    /// See [`Stream::note_timeout`](crate::stream::Stream::note_timeout).
    pub fn note_timeout(&self) {
        match self {
            Self::Downstream(_) => {}
            Self::Upstream(asked) => asked.note_timeout(),
        }
    }

    /// See [`Stream::poll_gone`](crate::stream::Stream::poll_gone).
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        match self {
            Self::Downstream(served) => served.poll_reset(cx).map(|()| Gone::Reset),
            Self::Upstream(_) => Poll::Pending,
        }
    }

    /// Whether the connection below is encrypted.
    pub fn is_tls(&self) -> bool {
        match self {
            Self::Downstream(served) => served.below().tls,
            Self::Upstream(_) => false,
        }
    }

    /// Both ends' addresses, as those of the connection below.
    pub fn ends(&self) -> Option<AddressPair> {
        match self {
            Self::Downstream(served) => served.below().ends,
            Self::Upstream(_) => None,
        }
    }
}

/// An error of the h2 crate's as one of a stream. `NotConnected` says that the other end has done
/// nothing with the request, `ConnectionAborted` that it reset this stream alone.
fn broken(error: &h2::Error) -> io::Error {
    let reset = error.is_reset() && error.is_remote();
    match error.reason() {
        Some(h2::Reason::REFUSED_STREAM) if reset => io::ErrorKind::NotConnected.into(),
        _ if reset => io::ErrorKind::ConnectionAborted.into(),
        _ => io::ErrorKind::ConnectionReset.into(),
    }
}
