"""Signed requests (RFC 7515, as RFC 8555 §6.2 narrows it): ES256 by an account's key, nothing else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

Key = ec.EllipticCurvePrivateKey
_COORDINATE = 32


def new_key() -> Key:
    """A key on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: Key) -> str:
    """The key in PEM, unencrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def read_key(pem: str) -> Key:
    """What `key_pem` wrote; ValueError for anything else."""
    key = load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, Key) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("expected a key on P-256")
    return key


def base64url(content: bytes) -> str:
    """Without padding, as JOSE has it."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def public_jwk(key: Key) -> dict[str, str]:
    """The public key (RFC 7518 §6.2.1), its members in the order of their names."""
    numbers = key.public_key().public_numbers()
    return {
        "crv": "P-256",
        "kty": "EC",
        "x": base64url(numbers.x.to_bytes(_COORDINATE)),
        "y": base64url(numbers.y.to_bytes(_COORDINATE)),
    }


def thumbprint(key: Key) -> str:
    """The public key's name (RFC 7638)."""
    return base64url(hashlib.sha256(_json(public_jwk(key))).digest())


def key_authorization(token: str, key: Key) -> str:
    """What a challenge's answer is made of (RFC 8555 §8.1)."""
    return f"{token}.{thumbprint(key)}"


def signed(
    key: Key, payload: Mapping[str, object] | None, *, url: str, nonce: str, kid: str | None
) -> bytes:
    """A request's body; without `kid` it carries the key itself, without `payload` it only reads."""
    who: dict[str, object] = {"jwk": public_jwk(key)} if kid is None else {"kid": kid}
    protected = base64url(_json({"alg": "ES256", **who, "nonce": nonce, "url": url}))
    content = "" if payload is None else base64url(_json(payload))
    return _json(
        {
            "protected": protected,
            "payload": content,
            "signature": base64url(sign(key, f"{protected}.{content}".encode())),
        }
    )


def sign(key: Key, content: bytes) -> bytes:
    """An ES256 signature (RFC 7518 §3.4): both numbers, 32 bytes each."""
    r, s = decode_dss_signature(key.sign(content, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(_COORDINATE) + s.to_bytes(_COORDINATE)


def binding(key: Key, *, url: str, key_id: str, mac_key: bytes) -> dict[str, str]:
    """Proof that an account of the authority's own wants this key (RFC 8555 §7.3.4)."""
    protected = base64url(_json({"alg": "HS256", "kid": key_id, "url": url}))
    content = base64url(_json(public_jwk(key)))
    tag = hmac.digest(mac_key, f"{protected}.{content}".encode(), "sha256")
    return {"protected": protected, "payload": content, "signature": base64url(tag)}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
