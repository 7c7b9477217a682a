//! Bytes both ways between two streams, as they are: what tunnels and TCP sessions do. An end of one
//! side is passed on while the other goes on; the second is told by closing, unless TLS has a word
//! for it.

use std::task::{Context, Poll};

use evenflow_rules::reason::Reason;
use evenflow_wire::http1::head::Length;

use crate::buffer::{Buffer, Buffers};
use crate::relay::Relay;
use crate::stream::Stream;

/// The state of a two-way transfer.
#[derive(Debug)]
pub struct BothWays {
    /// From the client to the endpoint.
    up: Relay,
    /// From the endpoint to the client.
    down: Relay,
    up_ended: bool,
    down_ended: bool,
}

impl BothWays {
    /// A transfer that begins with what was received of the client, and for the client with `lead`
    /// and what was received of the endpoint.
    pub fn new(from_client: Buffer, lead: Vec<u8>, from_server: Buffer) -> Self {
        let relay = |lead, buffer| Relay::new(Length::UntilClose, false, lead, buffer, None);
        Self {
            up: relay(Vec::new(), from_client),
            down: relay(lead, from_server),
            up_ended: false,
            down_ended: false,
        }
    }

    /// Moves what can be moved. Ready when both sides have ended, or one is broken: then with the
    /// reason, if anybody is to blame.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &Buffers,
        client: &mut Stream,
        server: &mut Stream,
    ) -> Poll<Option<Reason>> {
        let (from_client, from_server) = (Reason::ClientGone, Reason::UpstreamReset);
        if !self.up_ended
            && let Poll::Ready(result) = self.up.poll(cx, buffers, client, server)
        {
            if let Err(broken) = result {
                return Poll::Ready(broken.reason(self.is_at_rest(), from_client, from_server));
            }
            let told = self.down_ended && !server.is_tls();
            self.up_ended = told || server.poll_shutdown(cx).is_ready();
        }
        if !self.down_ended
            && let Poll::Ready(result) = self.down.poll(cx, buffers, server, client)
        {
            if let Err(broken) = result {
                return Poll::Ready(broken.reason(self.is_at_rest(), from_server, from_client));
            }
            let told = self.up_ended && !client.is_tls();
            self.down_ended = told || client.poll_shutdown(cx).is_ready();
        }
        if self.up_ended && self.down_ended {
            return Poll::Ready(None);
        }
        Poll::Pending
    }

    fn is_at_rest(&self) -> bool {
        self.up.is_at_rest() && self.down.is_at_rest()
    }

    /// Whether a byte has moved since this was last asked.
    pub fn has_moved(&mut self) -> bool {
        let up = std::mem::take(&mut self.up.moved);
        std::mem::take(&mut self.down.moved) || up
    }

    /// Bytes received from the client and from the endpoint.
    pub fn received(&self) -> (u64, u64) {
        (self.up.received, self.down.received)
    }

    /// Gives the buffers back.
    pub fn give_back(self, buffers: &Buffers) {
        for relay in [self.up, self.down] {
            let (buffer, _) = relay.into_buffers();
            buffers.give(buffer);
        }
    }
}
