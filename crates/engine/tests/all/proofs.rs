//! Names proven to who is to issue a certificate (RFC 8737): to whom, with what, and nothing more.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;

use evenflow_rules::tls::certificates::read_certificates;

use crate::support::net::{Balancer, GET, Origin, PATIENCE, wait_for};
use crate::support::{endpoint, plan, pool};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use serde_json::{Value, json};

const ACME: &str = "acme-tls/1";
/// acmeIdentifier, critical, with a hash that does not matter here.
const IDENTIFIER: &str = "1.3.6.1.5.5.7.1.31=critical,DER:0420\
    0000000000000000000000000000000000000000000000000000000000000000";

/// A certificate and its key in PEM.
fn made(name: &str, extension: Option<&str>) -> (String, String) {
    let subject = format!("/CN={name}");
    let names = format!("subjectAltName=DNS:{name}");
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt"]);
    command.args(["ec_paramgen_curve:P-256", "-nodes", "-days", "1"]);
    command.args(["-subj", &subject, "-addext", &names]);
    if let Some(extension) = extension {
        command.args(["-addext", extension]);
    }
    let out = command
        .args(["-keyout", "-"])
        .output()
        .expect("this test needs openssl");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let text = String::from_utf8(out.stdout).unwrap();
    let at = text.find("-----BEGIN CERTIFICATE").unwrap();
    (text[at..].to_owned(), text[..at].to_owned())
}

/// A listener that encrypts with a certificate for `site.test`, and these proofs.
fn plan_with(origin: &Origin, proofs: &[Value], alpn: &[&str]) -> (Value, String) {
    let (chain, key) = made("site.test", None);
    let mut plan = plan(&[pool("p", &[endpoint("e0", &origin.address.to_string())])]);
    plan["certificates"] = json!([{
        "name": "site", "domains": ["site.test"], "chain_pem": chain, "key_pem": key, "ocsp": null,
    }]);
    plan["listeners"][0]["tls"] = json!({
        "certificates": ["site"], "min_version": "1.2", "alpn": alpn, "client_auth": null,
        "proofs": proofs,
    });
    (plan, chain)
}

fn proof(name: &str) -> Value {
    let (chain, key) = made(name, Some(IDENTIFIER));
    json!({"domain": name, "chain_pem": chain, "key_pem": key})
}

/// Takes any certificate, and is told it later.
#[derive(Debug)]
struct Anything;

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A client after its handshake, or why that failed.
fn client(balancer: &Balancer, name: &str, alpn: &[&str]) -> Result<Stream, std::io::Error> {
    let mut config = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let socket = TcpStream::connect(balancer.address("web")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut stream = StreamOwned::new(session, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// Whether the client was shown this certificate.
fn was_shown(stream: &Stream, chain: &str) -> bool {
    stream.conn.peer_certificates().unwrap()[0] == read_certificates(chain).unwrap()[0]
}

fn handshakes(balancer: &Balancer, end: &str) -> u64 {
    let ends = &balancer.snapshot()["listeners"][0]["handshakes"];
    ends[end].as_u64().unwrap_or(0)
}

#[test]
fn who_is_to_issue_a_certificate_is_shown_the_proof_and_nothing_else() {
    let origin = Origin::saying("served");
    let proofs = [proof("site.test"), proof("www.site.test")];
    let (plan, _) = plan_with(&origin, &proofs, &["http/1.1"]);
    let balancer = Balancer::start(1, &plan);
    for proof in &proofs {
        let name = proof["domain"].as_str().unwrap().to_uppercase();
        let mut stream = client(&balancer, &name, &[ACME]).unwrap();
        assert!(was_shown(&stream, proof["chain_pem"].as_str().unwrap()));
        assert_eq!(stream.conn.alpn_protocol(), Some(ACME.as_bytes()));
        // What is said now is not listened to.
        let _ = stream.write_all(GET.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, b"");
    }
    wait_for("the count", || handshakes(&balancer, "proof") == 2);
    assert_eq!(handshakes(&balancer, "full"), 0);
    assert_eq!(origin.connections(), 0);
}

#[test]
fn others_are_served_as_ever_while_there_are_proofs() {
    let origin = Origin::saying("served");
    let (plan, chain) = plan_with(&origin, &[proof("site.test")], &["http/1.1"]);
    let balancer = Balancer::start(1, &plan);
    let offers: [&[&str]; 3] = [&[], &["http/1.1"], &[ACME, "http/1.1"]];
    for offered in offers {
        let mut stream = client(&balancer, "site.test", offered).unwrap();
        assert!(was_shown(&stream, &chain), "{offered:?}");
        stream.write_all(GET.as_bytes()).unwrap();
        let mut status = [0; 15];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200 OK", "{offered:?}");
    }
    // Offered with one that is not spoken here, it is negotiated, but shows no proof.
    let mut stream = client(&balancer, "site.test", &["h2", ACME]).unwrap();
    assert!(was_shown(&stream, &chain));
    let _ = stream.write_all(GET.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert_eq!(answer, b"");
}

#[test]
fn without_a_proof_for_the_name_there_is_no_handshake() {
    let origin = Origin::saying("served");
    let (plan, _) = plan_with(&origin, &[proof("site.test")], &["http/1.1"]);
    let mut balancer = Balancer::start(1, &plan);
    assert!(client(&balancer, "other.test", &[ACME]).is_err());
    let mut after = plan.clone();
    after["listeners"][0]["tls"]["proofs"] = json!([]);
    balancer.apply(&after);
    assert!(client(&balancer, "site.test", &[ACME]).is_err());
    assert!(client(&balancer, "site.test", &["http/1.1"]).is_ok());
}

#[test]
fn proofs_that_cannot_be_shown_are_refused() {
    let origin = Origin::saying("served");
    let (plan, _) = plan_with(&origin, &[proof("site.test")], &["http/1.1"]);
    let balancer = Balancer::start(1, &plan);
    for (field, value) in [("chain_pem", "none"), ("key_pem", "none")] {
        let mut wrong = plan.clone();
        wrong["listeners"][0]["tls"]["proofs"][0][field] = json!(value);
        let refusal = balancer.refusal(&wrong);
        let place = format!("listeners[0].tls.proofs[0].{field}");
        assert!(refusal.contains(&place), "{refusal}");
    }
    // As the only protocol it would turn away clients that want another.
    let mut alone = plan.clone();
    alone["listeners"][0]["tls"]["alpn"] = json!([]);
    let refusal = balancer.refusal(&alone);
    assert!(refusal.contains("listeners[0].tls.proofs"), "{refusal}");
}
