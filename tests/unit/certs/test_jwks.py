"""Key sets and single keys: what is taken, what is passed over and why, and what is no key set."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from evenflow.certs.jwks import read_jwks, read_public_key
from evenflow.certs.key_set import KeysError

# RFC 7515 A.3 and RFC 8037 A.2.
EC: dict[str, Any] = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
OKP: dict[str, Any] = {
    "kty": "OKP",
    "crv": "Ed25519",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
}


def keys(*listed: object) -> bytes:
    """A key set."""
    return json.dumps({"keys": listed}).encode()


def test_the_keys_of_the_rfcs_are_read() -> None:
    found = read_jwks(keys({**EC, "kid": "1"}, OKP))
    assert [(key.kid, key.algorithms, len(key.key)) for key in found.keys] == [
        ("1", ("ES256",), 65),
        (None, ("EdDSA",), 32),
    ]
    assert found.keys[0].key[0] == 4
    assert found.ignored == ()


@pytest.mark.parametrize(
    ("jwk", "why"),
    [
        ({"kty": "oct", "k": "c2VjcmV0"}, "a shared secret"),
        ({**EC, "d": "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"}, "a private key"),
        ({**EC, "use": "enc"}, "not for signatures"),
        ({**EC, "key_ops": ["sign"]}, "not for checking"),
        ({**EC, "alg": "HS256"}, "names an algorithm"),
        ({**EC, "alg": "RS256"}, "names an algorithm"),
        ({**EC, "alg": 7}, "`alg` to be a text"),
        ({**EC, "alg": "none"}, "names an algorithm"),
        ({**EC, "y": EC["x"]}, "make no key"),
        ({**EC, "x": "AAAA"}, "coordinates of 32 bytes"),
        ({**EC, "x": EC["x"] + "="}, "`x` in base64url"),
        ({**EC, "crv": "secp256k1"}, "curve that is not used"),
        ({**EC, "crv": ["P-256"]}, "curve that is not used"),
        ({**EC, "kid": "a\nb"}, "expected `kid`"),
        ({**EC, "kid": 7}, "expected `kid`"),
        ({**OKP, "crv": "X25519"}, "curve that is not used"),
        ({**OKP, "x": "AAAA"}, "make no key"),
        ({"kty": "RSA", "n": "AQAB", "e": "AQAB"}, "key"),
        ({"kty": "RSA", "e": "AQAB"}, "`n` in base64url"),
        ({"kty": ["RSA"]}, "kind that is not used"),
        ({}, "kind that is not used"),
    ],
)
def test_what_is_of_no_use_is_passed_over(jwk: dict[str, Any], why: str) -> None:
    found = read_jwks(keys(jwk, OKP))
    assert len(found.keys) == 1
    (said,) = found.ignored
    assert why in said
    assert "870MB6" not in said
    with pytest.raises(KeysError, match="no key that can be used"):
        read_jwks(keys(jwk))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "in JSON"),
        (b"<html>secret</html>", "in JSON"),
        (b"\xff\xfe", "in JSON"),
        (b"[]", "expected a key set"),
        (b'{"keys": {}}', "expected a key set"),
        (b'{"keys": [1]}', "expected a key set"),
        (b'{"keys": []}', "no key"),
        (b'{"keys": [], "keys": []}', "given twice"),
        (b"[" * 100_000, "nested too deeply"),
        (b" " * 300_000, "at most 256 KiB"),
        (keys(*[OKP] * 65), "at most 64 keys"),
    ],
)
def test_what_is_no_key_set_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(KeysError, match=why) as caught:
        read_jwks(content)
    assert "secret" not in str(caught.value)


def test_a_single_key_must_be_public_and_long_enough() -> None:
    short = rsa.generate_private_key(65537, 1024)
    pem = short.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(KeysError, match="2048 to 8192 bits, got 1024"):
        read_public_key(pem)
    private = ec.generate_private_key(ec.SECP256R1())
    text = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(KeysError, match="got a private one"):
        read_public_key(text)
    with pytest.raises(KeysError, match="BEGIN PUBLIC KEY"):
        read_public_key(b"nothing")
    other = ec.generate_private_key(ec.SECP256K1()).public_key()
    with pytest.raises(KeysError, match="secp256k1 is not used"):
        read_public_key(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
