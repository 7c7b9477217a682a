//! A stream as the h2 crate wants it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use evenflow_wire::http2::goaway::Watcher;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::buffer::Buffer;
use crate::stream::Stream;

/// A connection that HTTP/2 is spoken on.
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
    /// What was read of it before it was known to be HTTP/2.
    early: Buffer,
    /// Looks for `GOAWAY`, and who is told.
    watched: Option<(Watcher, Arc<AtomicU32>)>,
}

impl Socket {
    /// A connection of which `early` was read already.
    pub fn new(stream: Stream, early: Buffer) -> Self {
        Self {
            stream,
            early,
            watched: None,
        }
    }

    /// Has `last` hold the last stream that the other end may have worked on, once it says so.
    #[must_use]
    pub fn watched(mut self, last: &Arc<AtomicU32>) -> Self {
        self.watched = Some((Watcher::default(), Arc::clone(last)));
        self
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.early.is_empty() {
            let count = this.early.bytes().len().min(room.remaining());
            room.put_slice(&this.early.bytes()[..count]);
            this.early.consume(count);
            if this.early.is_empty() {
                this.early = Buffer::default();
            }
            return Poll::Ready(Ok(()));
        }
        let count = ready!(this.stream.poll_read(cx, room.initialize_unfilled()))?;
        if let Some((watcher, last)) = &mut this.watched
            && let Some(id) = watcher.look(&room.initialize_unfilled()[..count])
        {
            last.fetch_min(id, Ordering::Relaxed);
        }
        room.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// A write counts as done only when it is with the kernel.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_shutdown(cx)
    }
}
