//! A probe's connection, encrypted as those of the traffic are.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use evenflow_rules::tls::client::EndpointTls;
use evenflow_wire::http2::ALPN;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::trial::Failure;
use crate::stream::Stream;
use crate::tls::connect::explain_handshake;
use crate::tls::stream::TlsStream;

const HANDSHAKE_READ: usize = 4096;

/// An encrypted stream as the HTTP probe wants it.
pub(super) struct Encrypted(Box<TlsStream>);

/// Carries the handshake through.
pub(super) async fn connect(
    upstream: &EndpointTls,
    stream: TcpStream,
) -> Result<Encrypted, Failure> {
    let session = upstream
        .session(false)
        .map_err(|error| Failure::protocol(format!("TLS: {error}")))?;
    let mut stream = Box::new(TlsStream::new(Stream::Tcp(stream), session));
    let mut buffer = vec![0; HANDSHAKE_READ];
    poll_fn(|cx| stream.poll_handshake(cx, &mut buffer))
        .await
        .map_err(|error| Failure::protocol(explain_handshake(&error)))?;
    Ok(Encrypted(stream))
}

impl Encrypted {
    /// Whether both sides have agreed on HTTP/2.
    pub(super) fn agreed_on_http2(&self) -> bool {
        self.0.connection().alpn_protocol() == Some(ALPN)
    }

    /// The server has closed: nothing is left to be reset.
    pub(super) fn close_in_order(&self) {
        if let Stream::Tcp(stream) = self.0.inner() {
            let _ = SockRef::from(stream).set_linger(None);
        }
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = ready!(self.0.poll_read(cx, room.initialize_unfilled()))?;
        room.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_shutdown(cx)
    }
}
