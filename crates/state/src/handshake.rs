//! TLS handshakes by how they ended.

use std::sync::atomic::AtomicU64;

/// How a handshake can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum End {
    /// A new session.
    Full,
    /// A session gone on with.
    Resumed,
    /// A name was proven to who is to issue a certificate; that was all.
    Proof,
    /// Not over in time.
    Timeout,
    /// The client closed the connection.
    Closed,
    /// The client spoke plain HTTP.
    PlainText,
    /// The client speaks none of the versions.
    Version,
    /// No cipher, signature or application protocol in common.
    Parameters,
    /// The client has to show a certificate and did not.
    CertificateMissing,
    /// The client's certificate does not hold.
    CertificateRefused,
    /// The client turned the server's certificate down, or said so of something else.
    Alert,
    /// What the client sent is not TLS as it should be.
    Protocol,
}

/// The words for [`End`], in its order.
pub const ENDS: [&str; 12] = [
    "full",
    "resumed",
    "proof",
    "timeout",
    "closed",
    "plain_text",
    "version",
    "parameters",
    "certificate_missing",
    "certificate_refused",
    "client_alert",
    "protocol",
];

/// Handshakes by how they ended.
pub type Handshakes = [AtomicU64; ENDS.len()];
