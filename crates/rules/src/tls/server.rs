//! A listener's TLS, compiled from the plan.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};

use crate::plan::{Certificate, ClientAuth, ListenerTls, TlsVersion};
use crate::tls::certificates::{
    ACME_TLS, Chooser, Wrong, read_certificates, read_crls, read_pair, read_proof, read_roots,
};
use crate::tls::provider::provider;
use crate::tls::special::{Clients, Trust};

/// What of TLS outlives plans, so that sessions survive them and unchanged certificates are not
/// read again.
#[derive(Debug, Default)]
pub struct TlsState {
    pairs: HashMap<String, (Certificate, Arc<CertifiedKey>)>,
    /// One set of ticket keys for all listeners that ask clients for the same proof: a session
    /// begun without a certificate must not be resumed where one is required.
    tickets: Vec<(Option<ClientAuth>, Arc<dyn ProducesTickets>)>,
}

impl TlsState {
    /// A certificate ready for use.
    ///
    /// # Errors
    /// Which field of it is wrong.
    pub fn pair(&mut self, wanted: &Certificate) -> Result<Arc<CertifiedKey>, Wrong> {
        if let Some((known, pair)) = self.pairs.get(&wanted.name)
            && known == wanted
        {
            return Ok(Arc::clone(pair));
        }
        if let Some(at) = wanted.domains.iter().position(|domain| !is_name(domain)) {
            let message =
                format!("domains[{at}]: expected a name such as example.org or *.example.org");
            return Err(("domains", message));
        }
        let mut pair = read_pair(&wanted.chain_pem, &wanted.key_pem)?;
        pair.ocsp.clone_from(&wanted.ocsp);
        let pair = Arc::new(pair);
        self.pairs
            .insert(wanted.name.clone(), (wanted.clone(), Arc::clone(&pair)));
        Ok(pair)
    }

    fn tickets(
        &mut self,
        proof: Option<&ClientAuth>,
    ) -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
        let known = self
            .tickets
            .iter()
            .find(|(known, _)| known.as_ref() == proof);
        if let Some((_, tickets)) = known {
            return Ok(Arc::clone(tickets));
        }
        let tickets = Ticketer::new()?;
        self.tickets.push((proof.cloned(), Arc::clone(&tickets)));
        Ok(tickets)
    }

    /// Forgets what the plan in force does not use.
    pub fn prune<'p>(
        &mut self,
        certificates: &[Certificate],
        listeners: impl Iterator<Item = &'p ListenerTls>,
    ) {
        let proofs: Vec<_> = listeners.map(|tls| &tls.client_auth).collect();
        self.pairs
            .retain(|name, _| certificates.iter().any(|kept| kept.name == *name));
        self.tickets.retain(|(proof, _)| proofs.contains(&proof));
    }
}

fn is_name(domain: &str) -> bool {
    let name = domain.strip_prefix("*.").unwrap_or(domain);
    !name.is_empty()
        && name.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}

/// The plan's certificates by name, ready for use.
pub type Certificates<'p> = HashMap<&'p str, (&'p Certificate, Arc<CertifiedKey>)>;

/// A listener's TLS.
///
/// # Errors
/// The field that is wrong, below the listener's `tls`.
pub fn compile(
    wanted: &ListenerTls,
    certificates: &Certificates<'_>,
    kept: &mut TlsState,
) -> Result<Arc<ServerConfig>, (String, String)> {
    let mut chooser = Chooser::default();
    if wanted.certificates.is_empty() {
        return Err(("certificates".into(), "expected at least one".into()));
    }
    for (at, name) in wanted.certificates.iter().enumerate() {
        let Some((certificate, pair)) = certificates.get(name.as_str()) else {
            return Err((
                format!("certificates[{at}]"),
                format!("no certificate {name:?}"),
            ));
        };
        chooser.add(&certificate.domains, pair);
    }
    if !wanted.proofs.is_empty() && wanted.alpn.is_empty() {
        // With this as the only protocol, clients that want another would be turned away.
        let message = "expected none where no application protocol is offered";
        return Err(("proofs".into(), message.into()));
    }
    for (at, proof) in wanted.proofs.iter().enumerate() {
        let key = read_proof(proof)
            .map_err(|(field, message)| (format!("proofs[{at}].{field}"), message))?;
        chooser.prove(&proof.domain, key);
    }
    let versions: &[&rustls::SupportedProtocolVersion] = match wanted.min_version {
        TlsVersion::V12 => &[&TLS13, &TLS12],
        TlsVersion::V13 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(|error| ("min_version".to_owned(), error.to_string()))?;
    let builder = match &wanted.client_auth {
        None => builder.with_no_client_auth(),
        Some(proof) => {
            let below = |field: &str, message| (format!("client_auth.{field}"), message);
            let roots = read_roots(&proof.ca_pem).map_err(|message| below("ca_pem", message))?;
            let crls = read_crls(&proof.crl_pem).map_err(|message| below("crl_pem", message))?;
            let roots = Arc::new(roots);
            let pinned = read_certificates(&proof.ca_pem).map_err(|text| below("ca_pem", text))?;
            let algorithms = provider().signature_verification_algorithms;
            let trust = Trust::new(Arc::clone(&roots), pinned, crls.clone(), algorithms)
                .map_err(|message| below("crl_pem", message))?;
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                .with_crls(crls)
                // A list of the client's own issuer is enough, but there must be one.
                .only_check_end_entity_revocation();
            let verifier = if proof.required {
                verifier
            } else {
                verifier.allow_unauthenticated()
            };
            let inner = verifier
                .build()
                .map_err(|error| below("crl_pem", format!("cannot be used: {error}")))?;
            builder.with_client_cert_verifier(Arc::new(Clients { inner, trust }))
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(chooser));
    config.alpn_protocols = wanted
        .alpn
        .iter()
        .map(|name| name.clone().into_bytes())
        .collect();
    if !wanted.proofs.is_empty() {
        config.alpn_protocols.push(ACME_TLS.to_vec());
    }
    // Sessions live in tickets alone: any worker can resume them, and there is nothing to fill up.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = kept
        .tickets(wanted.client_auth.as_ref())
        .map_err(|error| (String::new(), error.to_string()))?;
    Ok(Arc::new(config))
}
