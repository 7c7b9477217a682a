//! TLS in the plan. Certificates and keys are PEM text: files are the control plane's.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Text that never shows in logs, errors or debugging output.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

/// A certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// Unique among certificates.
    pub name: String,
    /// Names it is shown for: `example.org` or `*.example.org`.
    pub domains: Vec<String>,
    /// The certificate and those that link it to a root, in PEM.
    pub chain_pem: String,
    /// Its private key, in PEM.
    pub key_pem: Secret,
    /// A stapled OCSP response, in DER.
    pub ocsp: Option<Vec<u8>>,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3
    #[serde(rename = "1.3")]
    V13,
}

/// TLS on a listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// Certificates by name; the first is shown to clients that ask for no name or an unknown one.
    pub certificates: Vec<String>,
    /// The lowest version spoken.
    pub min_version: TlsVersion,
    /// Application protocols offered, the preferred first.
    pub alpn: Vec<String>,
    /// Certificates asked of clients; `null` asks for none.
    pub client_auth: Option<ClientAuth>,
    /// Certificates for those who are to issue one (RFC 8737). While there are any, `acme-tls/1` is
    /// offered after the other protocols, so there must be others.
    pub proofs: Vec<TlsProof>,
}

/// A certificate that proves a name to clients that speak `acme-tls/1` and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsProof {
    /// The name that they ask for.
    pub domain: String,
    /// The certificate, in PEM.
    pub chain_pem: String,
    /// Its private key, in PEM.
    pub key_pem: Secret,
}

/// Certificates asked of clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientAuth {
    /// A client without one is turned away.
    pub required: bool,
    /// The roots that client certificates must lead to, in PEM.
    pub ca_pem: String,
    /// Revocation lists, in PEM; empty checks none.
    pub crl_pem: String,
}

/// TLS to a pool's endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTls {
    /// Whether the endpoint must prove who it is.
    pub verify: bool,
    /// The roots to trust, in PEM; `null` trusts those of the system.
    pub ca_pem: Option<String>,
    /// SHA-256 of the only certificates accepted, in lower-case hexadecimal digits; where there are
    /// any, roots and names do not count.
    pub fingerprints: Vec<String>,
    /// The name asked for and verified; `null` takes each endpoint's own.
    pub server_name: Option<String>,
    /// The lowest version spoken.
    pub min_version: TlsVersion,
    /// Application protocols asked for, the preferred first.
    pub alpn: Vec<String>,
    /// The certificate shown to endpoints that ask for one.
    pub client_cert: Option<ClientCert>,
}

/// The certificate shown to endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCert {
    /// The certificate and its chain, in PEM.
    pub chain_pem: String,
    /// Its private key, in PEM.
    pub key_pem: Secret,
}
