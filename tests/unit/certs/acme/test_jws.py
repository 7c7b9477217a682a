"""Signed requests, held against RFC 7515's key and another implementation."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from evenflow.certs.acme.jws import (
    Key,
    base64url,
    binding,
    key_authorization,
    key_pem,
    new_key,
    public_jwk,
    read_key,
    signed,
    thumbprint,
)
from evenflow.certs.self_signed import self_signed

# RFC 7515, appendix A.3.1.
RFC_KEY = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
RFC_D = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.fixture
def key() -> Key:
    return ec.derive_private_key(int.from_bytes(decoded(RFC_D)), ec.SECP256R1())


def verified(body: bytes, key: Key) -> tuple[dict[str, Any], bytes]:
    """Header and payload, as another implementation takes them."""
    parts = json.loads(body)
    assert parts.keys() == {"protected", "payload", "signature"}
    compact = f"{parts['protected']}.{parts['payload']}.{parts['signature']}"
    found = jwt.PyJWS().decode_complete(compact, key.public_key(), algorithms=["ES256"])
    return found["header"], found["payload"]


def test_the_public_key_is_told_as_in_rfc_7515(key: Key) -> None:
    assert public_jwk(key) == RFC_KEY
    # RFC 7638 §3: the members needed, in the order of their names, without blanks.
    text = json.dumps(RFC_KEY, sort_keys=True, separators=(",", ":"))
    assert thumbprint(key) == base64url(hashlib.sha256(text.encode()).digest())
    assert key_authorization("token", key) == f"token.{thumbprint(key)}"


def test_a_request_is_signed_for_its_address_and_nonce(key: Key) -> None:
    url, nonce = "https://ca.test/new-order", "oFvnlFP1wIhRlYS2jTaXbA"
    body = signed(key, {"a": [1]}, url=url, nonce=nonce, kid="https://ca.test/acct/1")
    header, payload = verified(body, key)
    assert header == {
        "alg": "ES256",
        "kid": "https://ca.test/acct/1",
        "nonce": nonce,
        "url": url,
    }
    assert json.loads(payload) == {"a": [1]}


def test_before_there_is_an_account_a_request_names_the_key(key: Key) -> None:
    body = signed(key, {}, url="https://ca.test/a", nonce="n", kid=None)
    header, payload = verified(body, key)
    assert header == {"alg": "ES256", "jwk": RFC_KEY, "nonce": "n", "url": "https://ca.test/a"}
    assert payload == b"{}"


def test_reading_has_an_empty_payload(key: Key) -> None:
    body = signed(key, None, url="https://ca.test/a", nonce="n", kid="k")
    assert json.loads(body)["payload"] == ""
    assert verified(body, key)[1] == b""


def test_a_binding_is_made_with_the_other_accounts_key(key: Key) -> None:
    # RFC 8555 §7.3.4.
    parts = binding(key, url="https://ca.test/new-account", key_id="kid-1", mac_key=b"0" * 32)
    compact = f"{parts['protected']}.{parts['payload']}.{parts['signature']}"
    found = jwt.PyJWS().decode_complete(compact, b"0" * 32, algorithms=["HS256"])
    assert found["header"] == {
        "alg": "HS256",
        "kid": "kid-1",
        "url": "https://ca.test/new-account",
    }
    assert json.loads(found["payload"]) == RFC_KEY


def test_keys_are_kept_as_they_are_and_no_others_are_taken() -> None:
    key = new_key()
    assert public_jwk(read_key(key_pem(key))) == public_jwk(key)
    _, rsa = self_signed(["a.test"], kind="rsa")
    for wrong in (rsa, "none"):
        with pytest.raises(ValueError, match=r"P-256|PEM|deserialize"):
            read_key(wrong)
