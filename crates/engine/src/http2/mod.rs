//! HTTP/2 (RFC 9113) on both sides, translated at the edge.
//!
//! [`evenflow_wire::http2`] is the protocol. One stream of it, a request and its answer, is made to
//! look like a [`Stream`](crate::stream::Stream) of HTTP/1.1 that carries this one exchange, so that
//! routes, filters, retries and records are the same code for both: [`downstream_stream`] is a client's
//! stream, [`upstream_stream`] one to an endpoint. [`accept`] serves a client's connection, [`links`]
//! holds those to endpoints; [`session`] is what both are made of. [`inbound`] and [`outbound`] turn
//! messages from one form into the other.

pub mod accept;
pub mod downstream_stream;
mod inbound;
mod keepalive;
pub mod links;
mod outbound;
pub mod session;
pub mod upstream_stream;

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use evenflow_wire::proxy_protocol::AddressPair;

use crate::stream::Gone;
use downstream_stream::DownstreamStream;
use upstream_stream::UpstreamStream;

/// How many bytes of one stream's body the peer may send before they are read here, to begin with…
const STREAM_WINDOW: u32 = 64 * 1024;
/// …and once the reader has shown that it is fast enough.
const WINDOW_LIMIT: u32 = 256 * 1024;
/// The largest window while memory is short.
const SHORT_WINDOW: u32 = 16 * 1024;
/// How many bytes of a connection may be on their way. They count until they have come, not until they
/// are read: only the windows of streams bound what is held, so a stream that nobody reads stops no
/// other.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

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
    pub fn close(&mut self) {
        match self {
            Self::Downstream(served) => served.close(),
            Self::Upstream(_) => {}
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
