//! Certificates that webpki refuses for their form, although what is configured proves them:
//!
//! - the very certificate that is configured as a root, presented by its owner. webpki takes no
//!   certificate that calls itself an authority for a server's or client's own, but that is what
//!   most tools make when they are asked for a certificate that vouches for itself;
//! - version 1 certificates of clients, signed by a configured root itself. They have no extensions,
//!   so nothing in them could be overlooked; they are never taken for an issuer.
//!
//! Dates, purposes and revocation lists are seen to as they are for all others. Everything else is
//! webpki's to judge.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use webpki::{CertRevocationList, OwnedCertRevocationList};

use super::x509::{CLIENT_AUTH, Certificate, SERVER_AUTH, Signed};

/// What certificates are proven by.
#[derive(Debug)]
pub struct Trust {
    roots: Arc<RootCertStore>,
    /// The roots as they were configured.
    pinned: Vec<CertificateDer<'static>>,
    /// Each list with its own bytes, for its signature.
    lists: Vec<(
        CertRevocationList<'static>,
        CertificateRevocationListDer<'static>,
    )>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Trust {
    /// Roots, the certificates they were made of, and the revocation lists of their issuers.
    ///
    /// # Errors
    /// A list cannot be read.
    pub fn new(
        roots: Arc<RootCertStore>,
        pinned: Vec<CertificateDer<'static>>,
        lists: Vec<CertificateRevocationListDer<'static>>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<Self, String> {
        let read = |list: CertificateRevocationListDer<'static>| {
            let parsed = OwnedCertRevocationList::from_der(&list)
                .map_err(|error| format!("cannot be used: {error}"))?;
            Ok((CertRevocationList::Owned(parsed), list))
        };
        Ok(Self {
            roots,
            pinned,
            lists: lists.into_iter().map(read).collect::<Result<_, String>>()?,
            algorithms,
        })
    }

    fn is_pinned(&self, certificate: &CertificateDer<'_>) -> bool {
        self.pinned.iter().any(|pinned| pinned == certificate)
    }

    /// That a certificate whose issuer is seen to holds now, and for this purpose.
    fn holds(
        &self,
        certificate: &Certificate<'_>,
        issuer_key: &[u8],
        usage: &[u8],
        now: UnixTime,
    ) -> Result<(), CertificateError> {
        if now.as_secs() < certificate.not_before {
            return Err(CertificateError::NotValidYet);
        }
        if now.as_secs() > certificate.not_after {
            return Err(CertificateError::Expired);
        }
        if !certificate.permits(usage) {
            return Err(CertificateError::InvalidPurpose);
        }
        if self.lists.is_empty() {
            return Ok(());
        }
        // A list for some of an issuer's certificates says nothing of the others.
        let of_issuer = |list: &CertRevocationList<'_>| {
            list.issuer() == certificate.issuer && list.issuing_distribution_point().is_none()
        };
        let mut known = false;
        for (list, der) in self.lists.iter().filter(|(list, _)| of_issuer(list)) {
            let signed = Signed::read(der);
            if !signed.is_some_and(|signed| signed.is_by(issuer_key, &self.algorithms)) {
                return Err(CertificateError::UnknownRevocationStatus);
            }
            match list.find_serial(certificate.serial) {
                Ok(None) => known = true,
                Ok(Some(_)) => return Err(CertificateError::Revoked),
                Err(_) => return Err(CertificateError::UnknownRevocationStatus),
            }
        }
        if known {
            Ok(())
        } else {
            Err(CertificateError::UnknownRevocationStatus)
        }
    }

    /// That a root has signed a version 1 certificate, and that it holds.
    fn proves(&self, certificate: &Certificate<'_>, now: UnixTime) -> Result<(), CertificateError> {
        let mut refused = CertificateError::UnknownIssuer;
        for root in &self.roots.roots {
            // A root that is for certain names only says so of names that version 1 cannot hold.
            if *root.subject != *certificate.issuer || root.name_constraints.is_some() {
                continue;
            }
            let key = &root.subject_public_key_info;
            if certificate.signed.is_by(key, &self.algorithms) {
                return self.holds(certificate, key, CLIENT_AUTH, now);
            }
            refused = CertificateError::BadSignature;
        }
        Err(refused)
    }
}

/// Judges the certificates of clients.
#[derive(Debug)]
pub struct Clients {
    /// For all but the special ones.
    pub inner: Arc<dyn ClientCertVerifier>,
    /// For those.
    pub trust: Trust,
}

impl ClientCertVerifier for Clients {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let judged = match Certificate::read(end_entity) {
            Some(own) if self.trust.is_pinned(end_entity) => {
                self.trust.holds(&own, own.key_content(), CLIENT_AUTH, now)
            }
            Some(old) if old.version == 1 => self.trust.proves(&old, now),
            _ => {
                let inner = &self.inner;
                return inner.verify_client_cert(end_entity, intermediates, now);
            }
        };
        judged
            .map(|()| ClientCertVerified::assertion())
            .map_err(Error::InvalidCertificate)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let Some(old) = Certificate::read(certificate).filter(|read| read.version == 1) else {
            let inner = &self.inner;
            return inner.verify_tls12_signature(message, certificate, signed);
        };
        let scheme = signed.scheme;
        let mut fitting = self.trust.algorithms.mapping.iter();
        let Some((_, algorithms)) = fitting.find(|(offered, _)| *offered == scheme) else {
            return Err(Error::General("a signature of an unknown kind".into()));
        };
        let key = old.key_content();
        if algorithms
            .iter()
            .any(|algorithm| Signed::message_is_by(key, *algorithm, message, signed.signature()))
        {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::BadSignature))
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match Certificate::read(certificate).filter(|read| read.version == 1) {
            Some(old) => {
                let key = SubjectPublicKeyInfoDer::from(old.key);
                verify_tls13_signature_with_raw_key(message, &key, signed, &self.trust.algorithms)
            }
            None => self
                .inner
                .verify_tls13_signature(message, certificate, signed),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Judges the certificates of backends.
#[derive(Debug)]
pub struct Servers {
    /// For all but the special ones.
    pub inner: Arc<WebPkiServerVerifier>,
    /// For those.
    pub trust: Trust,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match Certificate::read(end_entity) {
            Some(own) if self.trust.is_pinned(end_entity) => {
                let held = self.trust.holds(&own, own.key_content(), SERVER_AUTH, now);
                held.map_err(Error::InvalidCertificate)?;
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            _ => self
                .inner
                .verify_server_cert(end_entity, intermediates, name, ocsp, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
