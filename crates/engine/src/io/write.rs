//! Writing everything out: the one loop for heads, small messages and the parts of a relayed body.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use crate::stream::Stream;
use crate::timer::Slot;

/// Writes the parts one behind the other, in as few calls as the stream takes. `written` counts
/// over all of them, and what it counts already is skipped.
pub fn poll_write_all<const N: usize>(
    cx: &mut Context<'_>,
    stream: &mut Stream,
    parts: [&[u8]; N],
    written: &mut usize,
) -> Poll<io::Result<()>> {
    loop {
        let mut skip = *written;
        let mut slices = [IoSlice::new(&[]); N];
        let mut count = 0;
        for part in parts {
            let skipped = skip.min(part.len());
            skip -= skipped;
            if skipped < part.len() {
                slices[count] = IoSlice::new(&part[skipped..]);
                count += 1;
            }
        }
        if count == 0 {
            return Poll::Ready(Ok(()));
        }
        match stream.poll_write_vectored(cx, &slices[..count]) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(more)) => *written += more,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// Writes all bytes, until the slot's deadline.
///
/// # Errors
/// What the stream says; `TimedOut` for the deadline.
pub async fn write_all(stream: &mut Stream, bytes: &[u8], slot: &Slot) -> io::Result<()> {
    let mut written = 0;
    poll_fn(
        |cx| match poll_write_all(cx, stream, [bytes], &mut written) {
            Poll::Pending if slot.fired() => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            polled => polled,
        },
    )
    .await
}
