//! One byte stream, whatever carries it.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use evenflow_wire::proxy_protocol::AddressPair;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::http2::Exchange;
use crate::tls::stream::TlsStream;

/// Keep-alive probes without an answer after which the kernel ends a connection.
const KEEPALIVE_PROBES: u32 = 3;

/// A connected stream.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix stream socket.
    Unix(UnixStream),
    /// TLS over one of the others.
    Tls(Box<TlsStream>),
    /// One stream of an HTTP/2 connection, translated.
    Http2(Box<Exchange>),
}

impl Stream {
    /// The other end's address; `None` for a Unix socket.
    pub fn peer_ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok().map(|peer| peer.ip().to_canonical()),
            Self::Unix(_) | Self::Http2(_) => None,
            Self::Tls(stream) => stream.inner().peer_ip(),
        }
    }

    /// Both ends' addresses; `None` for a Unix socket.
    pub fn ends(&self) -> Option<AddressPair> {
        match self {
            Self::Tcp(stream) => Some(AddressPair {
                source: stream.peer_addr().ok()?,
                destination: stream.local_addr().ok()?,
            }),
            Self::Unix(_) => None,
            Self::Tls(stream) => stream.inner().ends(),
            Self::Http2(stream) => stream.ends(),
        }
    }

    /// Has the kernel probe whether the other host is still there after so long without a packet, in
    /// milliseconds, and end the connection after [`KEEPALIVE_PROBES`] without an answer; 0 does
    /// nothing. A connection that cannot be set so works without.
    pub fn set_keepalive(&self, after_ms: u64) {
        if let Self::Tcp(stream) = self
            && after_ms > 0
        {
            // The kernel counts in seconds.
            let after = Duration::from_millis(after_ms).max(Duration::from_secs(1));
            let keepalive = TcpKeepalive::new()
                .with_time(after)
                .with_interval(after)
                .with_retries(KEEPALIVE_PROBES);
            let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
        }
    }

    /// Reads into `buffer`. `Ok(0)` is the end of the stream.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(buffer);
        let polled = match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut room),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, &mut room),
            Self::Tls(stream) => return stream.poll_read(cx, buffer),
            Self::Http2(stream) => return stream.poll_read(cx, buffer),
        };
        polled.map_ok(|()| room.filled().len())
    }

    /// Waits until a read would not block; costs no system call.
    pub fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
            Self::Tls(stream) => stream.poll_read_ready(cx),
            Self::Http2(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Writes from several slices at once. While this is `Pending`, the caller must come back with the
    /// same bytes or more behind them.
    pub fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            // The kernel takes one slice at less cost than a vector of one.
            Self::Tcp(stream) if let [slice] = slices => Pin::new(stream).poll_write(cx, slice),
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => stream.poll_write_vectored(cx, slices),
            Self::Http2(stream) => stream.poll_write_vectored(cx, slices),
        }
    }

    /// Ends the sending side.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => stream.poll_shutdown(cx),
            Self::Http2(stream) => {
                stream.close();
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Looks whether the other end is gone without taking anything from the stream.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        let stream = match self {
            Self::Tcp(stream) => stream,
            Self::Unix(_) => return Poll::Pending,
            Self::Tls(stream) => return stream.poll_gone(cx),
            Self::Http2(stream) => return stream.poll_gone(cx),
        };
        let mut byte = [0; 1];
        stream
            .poll_peek(cx, &mut ReadBuf::new(&mut byte))
            .map(|peeked| match peeked {
                Ok(0) => Gone::HalfClosed,
                Ok(_) => Gone::Data,
                Err(_) => Gone::Reset,
            })
    }

    /// Whether the other end has ended its side, however much of it is still to be read, as far as
    /// the kernel has said. Costs no system call.
    pub fn is_read_closed(&self) -> bool {
        // Tokio reports the end alone to who waits for priority data.
        let interest = Interest::PRIORITY;
        let mut cx = Context::from_waker(Waker::noop());
        let polled = match self {
            Self::Tcp(stream) => pin!(stream.ready(interest)).poll(&mut cx),
            Self::Unix(stream) => pin!(stream.ready(interest)).poll(&mut cx),
            Self::Tls(stream) => return stream.inner().is_read_closed(),
            Self::Http2(_) => return false,
        };
        matches!(polled, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// Notes that an endpoint let the deadline of an exchange on this stream pass. A connection of
    /// HTTP/2 outlives its exchanges: after several such notes in a row it gets no more of them.
    pub fn note_timeout(&self) {
        if let Self::Http2(stream) = self {
            stream.note_timeout();
        }
    }

    /// Whether nothing came on a connection nobody waits on: neither an end nor bytes. Costs a
    /// system call only where something may have come.
    pub fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        if self.poll_read_ready(&mut cx).is_pending() {
            return true;
        }
        // Readiness may be left over from a read that filled its buffer exactly: ask the kernel.
        let mut byte = [0; 1];
        let read = match self {
            Self::Tcp(stream) => stream.try_read(&mut byte),
            Self::Unix(stream) => stream.try_read(&mut byte),
            Self::Tls(stream) => return stream.is_quiet(&mut cx),
            // It carries one exchange and is never kept.
            Self::Http2(_) => return false,
        };
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Whether what is sent is encrypted.
    pub fn is_tls(&self) -> bool {
        match self {
            Self::Tls(_) => true,
            Self::Http2(stream) => stream.is_tls(),
            Self::Tcp(_) | Self::Unix(_) => false,
        }
    }

    /// Whether this is a stream of HTTP/2.
    pub fn is_http2(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    /// The application protocol that TLS has agreed on.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Tls(stream) => stream.connection().alpn_protocol(),
            _ => None,
        }
    }
}

/// What [`Stream::poll_gone`] saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// Bytes wait to be read: it is there.
    Data,
    /// It will send no more, but may still read (a half-closed connection is served).
    HalfClosed,
    /// It is gone.
    Reset,
}
