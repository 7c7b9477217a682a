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
) -> Result<Stream, Option<&'static str>> {
    let session = upstream
        .session(switching)
        .map_err(|error| Some(explain(&error)))?;
    let mut stream = Box::new(TlsStream::new(stream, session));
    poll_fn(|cx| {
        if slot.fired() {
            return Poll::Ready(Err(None));
        }
        // Lent for the time of this call only.
        let mut buffer = buffers.take(HEAD_BYTES);
        let polled = stream.poll_handshake(cx, buffer.spare());
        buffers.give(buffer);
        polled.map_err(|error| Some(explain_handshake(&error)))
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
