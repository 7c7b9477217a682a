//! TLS to an endpoint, compiled from the plan: whom to trust, what to show, which name to ask for.

use std::fmt;
use std::sync::{Arc, LazyLock};

use evenflow_wire::http2::ALPN;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};

use crate::plan::{TlsVersion, UpstreamTls};
use crate::tls::certificates::fingerprint;
use crate::tls::certificates::{Wrong, read_certificates, read_roots};
use crate::tls::provider::provider;
use crate::tls::special::{Servers, Trust};

/// Sessions kept to go on with, per endpoint: enough for the connections of many workers.
const SESSIONS: usize = 64;

/// The system's roots, read once: they change rarely, and reading takes a while.
static SYSTEM_ROOTS: LazyLock<Result<Arc<RootCertStore>, String>> = LazyLock::new(|| {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found
            .errors
            .first()
            .map_or_else(String::new, |error| format!(": {error}"));
        return Err(format!(
            "the system has no root certificates{why}; give a ca_file"
        ));
    }
    Ok(Arc::new(roots))
});

/// The rules of a pool, ready to be given to its endpoints.
#[derive(Debug, Clone)]
pub struct Rules {
    config: ClientConfig,
    name: Option<ServerName<'static>>,
}

/// TLS to one endpoint; its sessions are its own.
#[derive(Clone)]
pub struct EndpointTls {
    /// Never used again in this process: connections made by other rules are not taken for these.
    pub uid: u32,
    host: Arc<str>,
    config: Arc<ClientConfig>,
    /// The same, but HTTP/2 is not offered.
    http1: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl fmt::Debug for EndpointTls {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("EndpointTls").field(&self.name).finish()
    }
}

impl Rules {
    /// Compiles a pool's rules.
    ///
    /// # Errors
    /// Which field is wrong.
    pub fn compile(wanted: &UpstreamTls) -> Result<Self, Wrong> {
        let versions: &[&rustls::SupportedProtocolVersion] = match wanted.min_version {
            TlsVersion::V12 => &[&TLS13, &TLS12],
            TlsVersion::V13 => &[&TLS13],
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .map_err(|error| ("min_version", error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier(wanted)?);
        let mut config = match &wanted.client_cert {
            None => builder.with_no_client_auth(),
            Some(shown) => {
                let wrong = |message: String| ("client_cert", message);
                let chain = read_certificates(&shown.chain_pem).map_err(wrong)?;
                let key = PrivateKeyDer::from_pem_slice(shown.key_pem.0.as_bytes())
                    .map_err(|_| wrong("holds no private key in PEM".into()))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|_| wrong("the key does not belong to the certificate".into()))?
            }
        };
        let alpn = wanted.alpn.iter();
        config.alpn_protocols = alpn.map(|name| name.clone().into_bytes()).collect();
        let name = match &wanted.server_name {
            None => None,
            Some(name) => Some(server_name(name).map_err(|error| ("server_name", error))?),
        };
        Ok(Self { config, name })
    }

    /// TLS to the endpoint of this host.
    ///
    /// # Errors
    /// That the host is no name TLS can ask for.
    pub fn endpoint(&self, host: &str, uid: u32) -> Result<EndpointTls, String> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => server_name(host)?,
        };
        let mut config = self.config.clone();
        // Another endpoint of the same name may know nothing of this one's sessions.
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        let config = Arc::new(config);
        let mut http1 = Arc::clone(&config);
        if config.alpn_protocols.len() > 1 && config.alpn_protocols.iter().any(|name| name == ALPN)
        {
            let protocols = &mut Arc::make_mut(&mut http1).alpn_protocols;
            protocols.retain(|name| name != ALPN);
        }
        Ok(EndpointTls {
            uid,
            host: Arc::from(host),
            config,
            http1,
            name,
        })
    }
}

impl EndpointTls {
    /// Whether this was made for a host.
    pub fn is_for(&self, host: &str) -> bool {
        *self.host == *host
    }

    /// A session that is to begin. `http1` does not offer HTTP/2 where there is a choice.
    ///
    /// # Errors
    /// That no handshake can be made with these rules.
    pub fn session(&self, http1: bool) -> Result<ClientConnection, Error> {
        let config = if http1 { &self.http1 } else { &self.config };
        ClientConnection::new(Arc::clone(config), self.name.clone())
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(bare.to_owned())
        .map_err(|_| format!("expected a host name or an IP address, got {host:?}"))
}

fn verifier(wanted: &UpstreamTls) -> Result<Arc<dyn ServerCertVerifier>, Wrong> {
    if !wanted.verify {
        return Ok(Arc::new(Pinned::default()));
    }
    if !wanted.fingerprints.is_empty() {
        let accepted = wanted.fingerprints.clone();
        return Ok(Arc::new(Pinned {
            accepted: Some(accepted),
        }));
    }
    let wrong = |message: String| ("ca_pem", message);
    let (roots, pinned) = match &wanted.ca_pem {
        Some(pem) => (
            Arc::new(read_roots(pem).map_err(wrong)?),
            read_certificates(pem).map_err(wrong)?,
        ),
        None => (SYSTEM_ROOTS.clone().map_err(wrong)?, Vec::new()),
    };
    let algorithms = provider().signature_verification_algorithms;
    let trust = Trust::new(Arc::clone(&roots), pinned, Vec::new(), algorithms).map_err(wrong)?;
    let inner = WebPkiServerVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    Ok(Arc::new(Servers { inner, trust }))
}

/// Accepts certain certificates whatever their names and roots, or any where verification is off.
/// That the other end holds the certificate's key is checked in any case.
#[derive(Debug, Default)]
struct Pinned {
    accepted: Option<Vec<String>>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let known = self
            .accepted
            .as_ref()
            .is_none_or(|accepted| accepted.contains(&fingerprint(end_entity)));
        if known {
            Ok(ServerCertVerified::assertion())
        } else {
            let error = CertificateError::ApplicationVerificationFailure;
            Err(Error::InvalidCertificate(error))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
