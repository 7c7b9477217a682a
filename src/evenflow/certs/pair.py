"""One certificate with its key: whether the two belong together, for whom and until when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from evenflow.config.tls import parse_domain

from .ocsp import Staple, read_staple


class PairError(ValueError):
    """A pair that cannot be used; `part` is `cert`, `key` or `ocsp`."""

    def __init__(self, part: str, message: str) -> None:
        super().__init__(message)
        self.part = part


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its key."""

    name: str
    domains: tuple[str, ...]
    chain_pem: str
    key_pem: str = field(repr=False)
    staple: Staple | None
    subject: str
    issuer: str
    not_before: float
    not_after: float
    """Unix seconds."""
    fingerprint: str
    """SHA-256 of the certificate, lower-case hexadecimal digits."""
    key_kind: str

    def expired(self, now: float) -> bool:
        """Whether it no longer holds."""
        return now >= self.not_after


def read_pair(
    name: str,
    chain: bytes | str,
    key: bytes | str,
    *,
    domains: Sequence[str] = (),
    ocsp: bytes | None = None,
) -> Pair:
    """The pair in two PEM texts; raises `PairError`, which never repeats any of the key."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_private_key,
    )

    chain_bytes, key_bytes = _bytes(chain), _bytes(key)
    try:
        leaf = x509.load_pem_x509_certificates(chain_bytes)[0]
    except ValueError as error:
        raise PairError("cert", f"holds no certificate in PEM ({error})") from None
    try:
        private = load_pem_private_key(key_bytes, password=None)
    except TypeError:
        raise PairError("key", "is encrypted; give the key without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise PairError("key", "holds no private key in PEM") from None
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        certified = leaf.public_key().public_bytes(*spki)
    except (ValueError, UnsupportedAlgorithm):
        raise PairError("cert", "certifies a kind of key that is not supported") from None
    if private.public_key().public_bytes(*spki) != certified:
        raise PairError("key", "does not belong to the certificate")
    try:
        staple = read_staple(ocsp, leaf) if ocsp is not None else None
    except ValueError as error:
        raise PairError("ocsp", str(error)) from None
    return Pair(
        name=name,
        domains=tuple(domains) or _domains(leaf),
        chain_pem=chain_bytes.decode("ascii", "replace"),
        key_pem=key_bytes.decode("ascii", "replace"),
        staple=staple,
        subject=leaf.subject.rfc4514_string(),
        issuer=leaf.issuer.rfc4514_string(),
        not_before=leaf.not_valid_before_utc.timestamp(),
        not_after=leaf.not_valid_after_utc.timestamp(),
        fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
        key_kind=type(private).__name__.removeprefix("_").removesuffix("PrivateKey").lower(),
    )


def check_roots(content: bytes) -> None:
    """Raises ValueError where this holds no certificates in PEM."""
    from cryptography import x509

    try:
        x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise ValueError(f"holds no certificates in PEM ({error})") from None


def _bytes(text: bytes | str) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _domains(leaf: object) -> tuple[str, ...]:
    from cryptography import x509

    assert isinstance(leaf, x509.Certificate)
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = extension.value.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, ValueError):
        names = [
            str(each.value)
            for each in leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        ]
    found = []
    for name in names:
        try:
            found.append(parse_domain(name))
        except ValueError:
            # An address or a person's name: nobody asks for it by SNI.
            continue
    return tuple(dict.fromkeys(found))
