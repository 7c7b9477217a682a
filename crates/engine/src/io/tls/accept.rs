//! A client's handshake, within the time for a request's head.

use std::future::poll_fn;
use std::io::IoSlice;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use evenflow_rules::plan::Protocol;
use evenflow_rules::tls::certificates::{ACME_TLS, fingerprint};
use evenflow_state::handshake::{ENDS, End};
use evenflow_wire::identity::Identity;
use rustls::{
    Connection as Session, HandshakeKind, PeerIncompatible, ServerConfig, ServerConnection,
};

use super::stream::{HandshakeError, TlsStream};
use crate::buffer::HEAD_BYTES;
use crate::connection::Connection;
use crate::events::Event;
use crate::stream::Stream;

/// How a handshake ended that failed with this error.
fn end_of(error: &rustls::Error) -> End {
    use rustls::Error;
    match error {
        Error::NoCertificatesPresented => End::CertificateMissing,
        Error::InvalidCertificate(_) | Error::InvalidCertRevocationList(_) => {
            End::CertificateRefused
        }
        Error::AlertReceived(_) => End::Alert,
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        ) => End::Version,
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol | Error::General(_) => {
            End::Parameters
        }
        _ => End::Protocol,
    }
}

/// What a client that speaks plain HTTP to a TLS port is told.
const PLAIN_TEXT: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
content-length: 50\r\nconnection: close\r\n\r\n400 Bad Request: this port speaks HTTPS, not HTTP\n";

/// Wraps an accepted stream; the handshake is still to come.
pub fn wrap(stream: Stream, config: &Arc<ServerConfig>) -> Option<Stream> {
    let session = ServerConnection::new(Arc::clone(config)).ok()?;
    Some(Stream::Tls(Box::new(TlsStream::new(stream, session))))
}

/// Carries a client's handshake through; `false` when the connection is over.
pub async fn handshake(connection: &mut Connection) -> bool {
    let worker = Rc::clone(&connection.worker);
    let Some((state, head_ms, http)) = connection.rules(|listener| {
        let http = listener.protocol == Protocol::Http;
        (Arc::clone(&listener.state), listener.timeouts.head_ms, http)
    }) else {
        return false;
    };
    connection.slot.arm(worker.coarse_ms.get() + head_ms);
    // Where no HTTP is spoken, nothing is said to whom speaks it.
    let mut plain = if http { PLAIN_TEXT } else { b"" };
    let mut cause = None;
    let end = poll_fn(|cx| {
        let Stream::Tls(stream) = &mut connection.stream else {
            return Poll::Ready(End::Closed);
        };
        // Lent for the time of this call only: many handshakes may be under way.
        let mut buffer = worker.buffers.take(HEAD_BYTES);
        let polled = stream.poll_handshake(cx, buffer.spare());
        worker.buffers.give(buffer);
        match polled {
            Poll::Ready(Ok(())) => Poll::Ready(match stream.connection() {
                session if session.alpn_protocol() == Some(ACME_TLS) => End::Proof,
                session if session.handshake_kind() == Some(HandshakeKind::Resumed) => End::Resumed,
                _ => End::Full,
            }),
            Poll::Ready(Err(HandshakeError::Closed)) => Poll::Ready(End::Closed),
            Poll::Ready(Err(HandshakeError::PlainText)) => {
                while !plain.is_empty() {
                    match stream.poll_write_vectored(cx, &[IoSlice::new(plain)]) {
                        Poll::Ready(Ok(count)) if count > 0 => plain = &plain[count..],
                        _ => break,
                    }
                }
                Poll::Ready(End::PlainText)
            }
            Poll::Ready(Err(HandshakeError::Tls(error))) => {
                let end = end_of(&error);
                cause = Some(error);
                Poll::Ready(end)
            }
            Poll::Pending if connection.slot.fired() => Poll::Ready(End::Timeout),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    state.handshakes[end as usize].fetch_add(1, Ordering::Relaxed);
    let fine = matches!(end, End::Full | End::Resumed | End::Proof);
    if !fine
        && worker
            .shared
            .events
            .may_tell_handshake(worker.coarse_ms.get())
    {
        let peer = connection.peer;
        worker.shared.events.push(Event::HandshakeFailed {
            listener: Some(state.name.clone()),
            pool: None,
            backend: None,
            peer: peer.map_or_else(String::new, |peer| peer.to_string()),
            reason: ENDS[end as usize],
            detail: cause.map_or_else(String::new, |cause| cause.to_string()),
        });
    }
    match end {
        End::Full | End::Resumed => {
            connection.identity = identity(&connection.stream);
            true
        }
        End::Closed | End::Timeout => false,
        _ => {
            // Closing with unread input would reset the connection under the alert.
            connection.linger().await;
            false
        }
    }
}

/// Who the client is, if it has shown a certificate. rustls has verified it.
fn identity(stream: &Stream) -> Option<Rc<Identity>> {
    let Stream::Tls(stream) = stream else {
        return None;
    };
    let Session::Server(session) = stream.connection() else {
        return None;
    };
    let certificate = session.peer_certificates()?.first()?;
    Some(Rc::new(Identity::of(certificate, fingerprint(certificate))))
}
