//! A handshake with an endpoint, within the time for connecting.

use std::future::poll_fn;
use std::task::Poll;

use evenflow_rules::tls::client::EndpointTls;
use rustls::{CertificateError, Error};

use super::stream::{HandshakeError, TlsStream};
use crate::buffer::{Buffers, HEAD_BYTES};
use crate::stream::Stream;
use crate::timer::Slot;

/// Carries a handshake with an endpoint through, until the slot's deadline. `switching` asks for
/// HTTP/1.1 alone.
///
/// # Errors
/// Why there is no encrypted connection; `None` for the deadline.
pub async fn handshake(
    upstream: &EndpointTls,
    stream: Stream,
    slot: &Slot,
    buffers: &Buffers,
    switching: bool,
) -> Result<Stream, Option<HandshakeError>> {
    let session = upstream
        .session(switching)
        .map_err(|error| Some(HandshakeError::Tls(error)))?;
    let mut stream = Box::new(TlsStream::new(stream, session));
    poll_fn(|cx| {
        if slot.fired() {
            return Poll::Ready(Err(None));
        }
        // Lent for the time of this call only.
        let mut buffer = buffers.take(HEAD_BYTES);
        let polled = stream.poll_handshake(cx, buffer.spare());
        buffers.give(buffer);
        polled.map_err(Some)
    })
    .await?;
    Ok(Stream::Tls(stream))
}

/// A failed handshake in words.
pub fn explain_handshake(error: &HandshakeError) -> &'static str {
    match error {
        HandshakeError::Closed => "The backend closed the connection during the TLS handshake.",
        HandshakeError::PlainText => "The backend does not speak TLS.",
        HandshakeError::Tls(error) => explain(error),
    }
}

/// The word for a failed handshake in metrics; `None` is one that was not over in time.
pub fn label(error: Option<&HandshakeError>) -> &'static str {
    let error = match error {
        None => return "timeout",
        Some(HandshakeError::Closed) => return "closed",
        Some(HandshakeError::PlainText) => return "plain_text",
        Some(HandshakeError::Tls(error)) => error,
    };
    match error {
        Error::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer => "unknown_issuer",
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired",
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "name"
            }
            _ => "certificate_refused",
        },
        Error::AlertReceived(_) => "backend_alert",
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => "parameters",
        _ => "protocol",
    }
}

fn explain(error: &Error) -> &'static str {
    match error {
        Error::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer => {
                "The backend's certificate leads to no root that is trusted."
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "The backend's certificate has expired."
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "The backend's certificate is for another name."
            }
            CertificateError::ApplicationVerificationFailure => {
                "The backend's certificate is not the pinned one."
            }
            _ => "The backend's certificate does not hold.",
        },
        Error::AlertReceived(_) => "The backend refused the TLS handshake.",
        Error::PeerIncompatible(_) => "The backend and this side have no TLS in common.",
        Error::InvalidMessage(_) => "The backend does not speak TLS.",
        _ => "The TLS handshake with the backend failed.",
    }
}
