//! Connecting to one of several addresses of the same endpoint: Happy Eyeballs (RFC 8305 §4–5).
//!
//! Attempts begin 250 ms apart, or at once when one fails, and go on side by side; the first that
//! succeeds wins. Families take turns, so that a network without one of them costs one attempt. The
//! address that worked is remembered and tried first. How long all of it may take is the caller's
//! concern: whoever drops the future gives all attempts up.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use evenflow_state::address::{Address, Preferred};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep, sleep};

use crate::stream::Stream;
use crate::upstream::is_ours;

/// Between the beginnings of two attempts.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// A new connection.
#[derive(Debug)]
pub enum Connected {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix stream socket.
    Unix(UnixStream),
}

impl From<Connected> for Stream {
    fn from(connected: Connected) -> Self {
        match connected {
            Connected::Tcp(stream) => Self::Tcp(stream),
            Connected::Unix(stream) => Self::Unix(stream),
        }
    }
}

/// The addresses in the order in which they are tried: the preferred one, then the families in
/// turns, beginning with that of the first.
pub fn attempts<'a>(addresses: &'a [Address], preferred: &Preferred) -> Vec<&'a Address> {
    let is_v6 = |address: &Address| matches!(address, Address::Ip(ip) if ip.is_ipv6());
    let first = addresses
        .iter()
        .find(|address| preferred.is(address))
        .or_else(|| addresses.first());
    let Some(first) = first else {
        return Vec::new();
    };
    let rest = |v6: bool| {
        let others = addresses.iter().filter(move |other| *other != first);
        others.filter(move |address| is_v6(address) == v6)
    };
    let (mut same, mut other) = (rest(is_v6(first)), rest(!is_v6(first)));
    let mut order = vec![first];
    loop {
        let before = order.len();
        order.extend(other.next());
        order.extend(same.next());
        if order.len() == before {
            return order;
        }
    }
}

/// Connects to the first address that answers, and remembers it.
///
/// # Errors
/// The last attempt's error, or that this machine has no descriptor or memory left, which ends all.
pub async fn connect(addresses: &[Address], preferred: &Preferred) -> io::Result<Connected> {
    if let [address] = addresses {
        return open(address).await;
    }
    let mut race = Race {
        waiting: attempts(addresses, preferred).into_iter(),
        running: Vec::new(),
        delay: Box::pin(sleep(ATTEMPT_DELAY)),
        failed: io::ErrorKind::AddrNotAvailable.into(),
    };
    let (address, connected) = poll_fn(|cx| race.poll(cx)).await?;
    if !preferred.is(address) {
        preferred.remember(address);
    }
    Ok(connected)
}

type Attempt<'a> = Pin<Box<dyn Future<Output = io::Result<Connected>> + Send + 'a>>;

/// The attempts of one connection.
struct Race<'a> {
    waiting: std::vec::IntoIter<&'a Address>,
    running: Vec<(&'a Address, Attempt<'a>)>,
    /// Until the next one begins.
    delay: Pin<Box<Sleep>>,
    failed: io::Error,
}

impl<'a> Race<'a> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(&'a Address, Connected)>> {
        loop {
            let before = self.running.len();
            let mut at = 0;
            while let Some((address, attempt)) = self.running.get_mut(at) {
                match attempt.as_mut().poll(cx) {
                    Poll::Ready(Ok(connected)) => return Poll::Ready(Ok((*address, connected))),
                    Poll::Ready(Err(error)) if is_ours(&error) => return Poll::Ready(Err(error)),
                    Poll::Ready(Err(error)) => {
                        self.failed = error;
                        drop(self.running.swap_remove(at));
                    }
                    Poll::Pending => at += 1,
                }
            }
            let one_failed = self.running.len() < before;
            if !self.running.is_empty() && !one_failed && self.delay.as_mut().poll(cx).is_pending()
            {
                return Poll::Pending;
            }
            let Some(address) = self.waiting.next() else {
                return if self.running.is_empty() {
                    let failed = io::ErrorKind::AddrNotAvailable.into();
                    Poll::Ready(Err(std::mem::replace(&mut self.failed, failed)))
                } else {
                    Poll::Pending
                };
            };
            self.running.push((address, Box::pin(open(address))));
            self.delay.as_mut().reset(Instant::now() + ATTEMPT_DELAY);
        }
    }
}

async fn open(address: &Address) -> io::Result<Connected> {
    match address {
        Address::Ip(ip) => {
            let stream = TcpStream::connect(ip).await?;
            // Heads and small bodies are written whole; waiting to fill a segment only delays.
            stream.set_nodelay(true)?;
            Ok(Connected::Tcp(stream))
        }
        Address::Unix(path) => Ok(Connected::Unix(UnixStream::connect(path).await?)),
    }
}
