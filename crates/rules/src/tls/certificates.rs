//! Certificates with their keys, from PEM, and the choice among them: by the name that the client
//! asks for, then by the signatures that it understands. Who is to issue one is shown another.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, SignatureAlgorithm};

use crate::plan;
use crate::tls::provider::provider;

/// What is wrong: the field, and in words. Never repeats any of the text.
pub type Wrong = (&'static str, String);

/// SHA-256 of a certificate in lower-case hexadecimal digits.
pub fn fingerprint(certificate: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(64);
    for byte in digest(&SHA256, certificate).as_ref() {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// Reads a chain and its key and sees that they belong together.
///
/// # Errors
/// Which of the two is wrong.
pub fn read_pair(chain_pem: &str, key_pem: &plan::Secret) -> Result<CertifiedKey, Wrong> {
    let (chain, key) = read_parts(chain_pem, key_pem)?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            ("key_pem", "does not belong to the certificate".to_owned())
        }
        rustls::Error::InvalidCertificate(_) => {
            ("chain_pem", "the first certificate is not valid".to_owned())
        }
        _ => ("key_pem", "is of no kind that can be used".to_owned()),
    })
}

/// Reads what proves a name. That certificate and key belong together is not seen to: the
/// certificate has a critical extension that is for whoever asked for it, and would be refused.
///
/// # Errors
/// Which of the two is wrong.
pub fn read_proof(proof: &plan::TlsProof) -> Result<CertifiedKey, Wrong> {
    let (chain, key) = read_parts(&proof.chain_pem, &proof.key_pem)?;
    let key = provider()
        .key_provider
        .load_private_key(key)
        .map_err(|_| ("key_pem", "is of no kind that can be used".to_owned()))?;
    Ok(CertifiedKey::new(chain, key))
}

type Parts = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read_parts(chain_pem: &str, key_pem: &plan::Secret) -> Result<Parts, Wrong> {
    let chain = read_certificates(chain_pem).map_err(|message| ("chain_pem", message))?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.0.as_bytes())
        .map_err(|_| ("key_pem", "holds no private key in PEM".to_owned()))?;
    Ok((chain, key))
}

/// All certificates in a text.
///
/// # Errors
/// That there are none, or that one cannot be read.
pub fn read_certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match read {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err("holds no certificate in PEM".into()),
        Err(_) => Err("is not valid PEM".into()),
    }
}

/// Certificates as roots of trust.
///
/// # Errors
/// That there are none, or that one is not a certificate.
pub fn read_roots(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for (at, certificate) in read_certificates(pem)?.into_iter().enumerate() {
        roots
            .add(certificate)
            .map_err(|_| format!("certificate {} is not valid as a root", at + 1))?;
    }
    Ok(roots)
}

/// All revocation lists in a text.
///
/// # Errors
/// That one cannot be read.
pub fn read_crls(pem: &str) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    CertificateRevocationListDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| "is not valid PEM".to_owned())
}

/// The protocol of those who want a name proven (RFC 8737 §6.2). Nothing is ever said in it.
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// Certificates of one name, ECDSA and the like before RSA: they are cheaper to prove.
type Kinds = Vec<Arc<CertifiedKey>>;

/// Chooses a certificate for a client.
#[derive(Debug, Default)]
pub struct Chooser {
    exact: HashMap<String, Kinds>,
    /// `*.example.org` under `example.org`.
    wildcard: HashMap<String, Kinds>,
    default: Kinds,
    /// What proves a name to clients that speak [`ACME_TLS`].
    proofs: HashMap<String, Arc<CertifiedKey>>,
}

impl Chooser {
    /// Adds what proves a name.
    pub fn prove(&mut self, domain: &str, key: CertifiedKey) {
        self.proofs
            .insert(domain.to_ascii_lowercase(), Arc::new(key));
    }

    /// Adds a certificate; those added first with the first's domains are the default.
    pub fn add(&mut self, domains: &[String], key: &Arc<CertifiedKey>) {
        let first = self.default.is_empty();
        let mut also_default = first;
        for domain in domains {
            let domain = domain.to_ascii_lowercase();
            let kinds = match domain.strip_prefix("*.") {
                Some(parent) => self.wildcard.entry(parent.to_owned()).or_default(),
                None => self.exact.entry(domain).or_default(),
            };
            // The other kind of the default's name is as good a default.
            also_default |= kinds
                .first()
                .is_some_and(|other| self.default.iter().any(|d| Arc::ptr_eq(d, other)));
            insert(kinds, key);
        }
        if also_default {
            insert(&mut self.default, key);
        }
    }

    /// The certificates for a name.
    fn named(&self, name: &str) -> &Kinds {
        if let Some(kinds) = self.exact.get(name) {
            return kinds;
        }
        // A wildcard stands for one label.
        name.split_once('.')
            .and_then(|(_, parent)| self.wildcard.get(parent))
            .unwrap_or(&self.default)
    }
}

fn insert(kinds: &mut Kinds, key: &Arc<CertifiedKey>) {
    let rsa = key.key.algorithm() == SignatureAlgorithm::RSA;
    let at = if rsa {
        kinds.len()
    } else {
        kinds
            .iter()
            .position(|other| other.key.algorithm() == SignatureAlgorithm::RSA)
            .unwrap_or(kinds.len())
    };
    kinds.insert(at, Arc::clone(key));
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if hello.alpn().is_some_and(|mut offered| {
            // It must be offered alone (RFC 8737 §3), and goes with no other certificate.
            offered.next() == Some(ACME_TLS) && offered.next().is_none()
        }) {
            let name = hello.server_name()?.to_ascii_lowercase();
            return self.proofs.get(&name).cloned();
        }
        let kinds = hello
            .server_name()
            .map_or(&self.default, |name| self.named(&name.to_ascii_lowercase()));
        let schemes = hello.signature_schemes();
        kinds
            .iter()
            .find(|key| key.key.choose_scheme(schemes).is_some())
            .cloned()
    }
}
