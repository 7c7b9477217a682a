"""One certificate with its key: whether the two belong together, for whom and until when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from evenflow.config.tls import parse_domain


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
    ocsp: bytes | None
    """What is stapled, in DER; `None` where there is nothing, or it is out of date."""
    ocsp_until: float | None
    """Until when the response that was given holds, in Unix seconds, where it says so."""
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
    now: float = 0.0,
) -> Pair:
    """The pair in two PEM texts, as of `now` (Unix seconds); raises `PairError`, which never repeats any of the key."""
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
    until = _check_ocsp(ocsp, leaf.serial_number) if ocsp is not None else None
    return Pair(
        name=name,
        domains=tuple(domains) or _domains(leaf),
        chain_pem=chain_bytes.decode("ascii", "replace"),
        key_pem=key_bytes.decode("ascii", "replace"),
        ocsp=None if until is not None and until <= now else ocsp,
        ocsp_until=until,
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


def check_lists(content: bytes) -> None:
    """Raises ValueError where this holds no revocation list in PEM."""
    from cryptography import x509

    try:
        x509.load_pem_x509_crl(content)
    except ValueError as error:
        raise ValueError(f"holds no revocation list in PEM ({error})") from None


def day(seconds: float) -> str:
    """A moment as people write it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


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


def _check_ocsp(response: bytes, serial: int) -> float | None:
    """Until when a response (RFC 6960) for the certificate of this number holds."""
    from cryptography.x509 import ocsp

    try:
        read = ocsp.load_der_ocsp_response(response)
    except ValueError:
        raise PairError("ocsp", "is no OCSP response in DER") from None
    if read.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise PairError("ocsp", f"says {read.response_status.name.lower()}")
    try:
        single = next(each for each in read.responses if each.serial_number == serial)
    except (StopIteration, ValueError):
        raise PairError("ocsp", "is for another certificate") from None
    if single.certificate_status is not ocsp.OCSPCertStatus.GOOD:
        raise PairError("ocsp", f"says that it is {single.certificate_status.name.lower()}")
    until = single.next_update_utc
    return until.timestamp() if until is not None else None
