//! An encrypted stream with the face of a plain one.
//!
//! Reads: what comes from the socket is read into the caller's own buffer, decrypted by rustls, and
//! the plaintext put in its place, so that one system call takes as much as there is and no buffer
//! is held while a connection is idle. Writes: a write counts as done only when its last encrypted
//! byte is with the kernel, so callers need no separate flush.

use std::io::{self, IoSlice, Read, Write};
use std::task::{Context, Poll, ready};

use rustls::Connection;

use crate::stream::{Gone, Stream};

/// A TLS connection over another stream.
#[derive(Debug)]
pub struct TlsStream {
    inner: Stream,
    connection: Connection,
    /// Plaintext bytes taken from the caller and encrypted, but not reported as written yet.
    taken: usize,
    /// `close_notify` was queued.
    closing: bool,
    /// The handshake failed: nothing more is encrypted or decrypted.
    failed: bool,
}

/// Why a handshake came to nothing.
#[derive(Debug)]
pub enum HandshakeError {
    /// The other end closed or reset the connection.
    Closed,
    /// It spoke plain HTTP.
    PlainText,
    /// TLS says no.
    Tls(rustls::Error),
}

impl TlsStream {
    /// A connection whose handshake has not begun.
    pub fn new(inner: Stream, connection: impl Into<Connection>) -> Self {
        Self {
            inner,
            connection: connection.into(),
            taken: 0,
            closing: false,
            failed: false,
        }
    }

    /// The stream below.
    pub fn inner(&self) -> &Stream {
        &self.inner
    }

    /// The state of TLS.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Goes on with the handshake; `buffer` is room to read into.
    pub fn poll_handshake(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<Result<(), HandshakeError>> {
        let mut first = true;
        loop {
            if !self.connection.is_handshaking() {
                // Session tickets wait to be sent. A request that is here already takes them along
                // in its answer's first write.
                if self.connection.wants_read() {
                    let _ = self.poll_flush(cx);
                }
                return Poll::Ready(Ok(()));
            }
            if ready!(self.poll_flush(cx)).is_err() {
                return Poll::Ready(Err(HandshakeError::Closed));
            }
            let count = match ready!(self.inner.poll_read(cx, buffer)) {
                Ok(count) if count > 0 => count,
                _ => return Poll::Ready(Err(HandshakeError::Closed)),
            };
            let server = matches!(self.connection, Connection::Server(_));
            if std::mem::take(&mut first) && server && buffer[0].is_ascii_uppercase() {
                self.failed = true;
                return Poll::Ready(Err(HandshakeError::PlainText));
            }
            let mut fed = 0;
            while fed < count {
                let (used, error) = self.feed(&buffer[fed..count]);
                fed += used;
                if let Some(error) = error {
                    // The alert that tells the other end why, as far as the kernel takes it.
                    let _ = self.poll_flush(cx);
                    self.failed = true;
                    return Poll::Ready(Err(HandshakeError::Tls(error)));
                }
                if used == 0 {
                    break;
                }
            }
        }
    }

    /// Hands received bytes to rustls: how many it took, and what was wrong with them. It takes none
    /// after the other end's `close_notify`.
    fn feed(&mut self, mut bytes: &[u8]) -> (usize, Option<rustls::Error>) {
        match self.connection.read_tls(&mut bytes) {
            Ok(used) => (used, self.connection.process_new_packets().err()),
            Err(error) => (0, Some(rustls::Error::General(error.to_string()))),
        }
    }

    /// Decrypted bytes that wait in rustls; `None` when there are none now.
    fn take_plain(&mut self, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        if buffer.is_empty() {
            return None;
        }
        match self.connection.reader().read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            done => Some(done),
        }
    }

    /// See [`Stream::poll_read`].
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.failed {
            return self.inner.poll_read(cx, buffer);
        }
        loop {
            if let Some(done) = self.take_plain(buffer) {
                return Poll::Ready(done);
            }
            let count = ready!(self.inner.poll_read(cx, buffer))?;
            if count == 0 {
                // Without a `close_notify` before it, this is an error to whoever reads on.
                let _ = self.connection.read_tls(&mut io::empty());
                continue;
            }
            let (mut fed, mut filled) = (0, 0);
            while fed < count {
                let (used, error) = self.feed(&buffer[fed..count]);
                if let Some(error) = error {
                    let _ = self.poll_flush(cx);
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
                fed += used;
                // What rustls has taken makes room for what it gives. It holds no more than one
                // record beyond that, and takes more for as long as it holds no more than that.
                if let Some(Ok(more)) = self.take_plain(&mut buffer[filled..fed]) {
                    filled += more;
                }
                if used == 0 {
                    break;
                }
            }
            if let Some(Ok(more)) = self.take_plain(&mut buffer[filled..]) {
                filled += more;
            }
            if self.connection.wants_write() && self.taken == 0 {
                // An answer to a key update, say.
                let _ = self.poll_flush(cx);
            }
            if filled > 0 {
                return Poll::Ready(Ok(filled));
            }
        }
    }

    /// See [`Stream::poll_read_ready`].
    pub fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // After the handshake, rustls wants nothing while plaintext or the other end's
        // `close_notify` waits to be taken.
        if !self.failed && !self.connection.wants_read() {
            return Poll::Ready(Ok(()));
        }
        self.inner.poll_read_ready(cx)
    }

    /// See [`Stream::poll_write_vectored`]. While this is `Pending`, the caller must come back with
    /// the same bytes: some are encrypted already.
    pub fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.failed {
            return self.inner.poll_write_vectored(cx, slices);
        }
        if self.taken == 0 {
            self.taken = self.connection.writer().write_vectored(slices)?;
            if self.taken == 0 {
                // Earlier records fill the room; there is no more until they are sent.
                ready!(self.poll_flush(cx))?;
                self.taken = self.connection.writer().write_vectored(slices)?;
            }
        }
        let mut moved = 0;
        while self.connection.wants_write() {
            match self.poll_send(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => moved += count,
                // What went out before is told first, and the error when the caller comes back.
                Poll::Ready(Err(error)) if moved == 0 => return Poll::Ready(Err(error)),
                Poll::Ready(Err(_)) | Poll::Pending => {
                    // A slow receiver's progress is told as it is made, but the last byte is not
                    // told before everything is out, so that the caller comes back.
                    let told = moved.min(self.taken.saturating_sub(1));
                    if told == 0 {
                        return Poll::Pending;
                    }
                    self.taken -= told;
                    return Poll::Ready(Ok(told));
                }
            }
        }
        Poll::Ready(Ok(std::mem::take(&mut self.taken)))
    }

    /// See [`Stream::poll_shutdown`].
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.failed {
            if !std::mem::replace(&mut self.closing, true) {
                self.connection.send_close_notify();
            }
            ready!(self.poll_flush(cx))?;
        }
        self.inner.poll_shutdown(cx)
    }

    /// See [`Stream::poll_gone`].
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        if !self.connection.wants_read() {
            return Poll::Ready(Gone::Data);
        }
        self.inner.poll_gone(cx)
    }

    /// See [`Stream::is_quiet`]. Session tickets may come at any time and are taken in.
    pub fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        let mut buffer = [0; 1024];
        self.poll_read(cx, &mut buffer).is_pending()
    }

    /// Sends all that is encrypted.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.connection.wants_write() {
            if ready!(self.poll_send(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// One write to the socket.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut sink = Sink {
            stream: &mut self.inner,
            cx,
        };
        match self.connection.write_tls(&mut sink) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            done => Poll::Ready(done),
        }
    }
}

/// The stream below as rustls wants to write to it.
struct Sink<'a, 'b> {
    stream: &'a mut Stream,
    cx: &'a mut Context<'b>,
}

impl Write for Sink<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.stream.poll_write_vectored(self.cx, slices) {
            Poll::Ready(done) => done,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
