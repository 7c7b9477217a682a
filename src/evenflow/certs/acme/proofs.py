"""What shows an authority that a name is ours: a page (http-01) or a certificate (RFC 8737)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True, slots=True)
class HttpProof:
    """A page below `/.well-known/acme-challenge/` (RFC 8555 §8.3)."""

    domain: str
    token: str
    answer: str

    @property
    def path(self) -> str:
        """Where it is asked for."""
        return f"/.well-known/acme-challenge/{self.token}"


@dataclass(frozen=True, slots=True)
class TlsProof:
    """A certificate for clients that speak `acme-tls/1` and nothing else (RFC 8737 §3)."""

    domain: str
    chain_pem: str
    key_pem: str = field(repr=False)


Proof = HttpProof | TlsProof


def tls_proof(domain: str, answer: str) -> TlsProof:
    """The certificate that carries an answer's hash."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    from .jws import key_pem, new_key

    key = new_key()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, domain[:64])])
    now = datetime.now(UTC)
    # acmeIdentifier is an octet string of 32 bytes in DER.
    identifier = b"\x04\x20" + hashlib.sha256(answer.encode()).digest()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=7))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(domain)]), critical=False)
        .add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31"), identifier),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )
    return TlsProof(domain, certificate.public_bytes(Encoding.PEM).decode(), key_pem(key))
