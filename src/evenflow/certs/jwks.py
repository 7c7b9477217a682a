"""Public keys of those who sign tokens: key sets (RFC 7517, 7518, 8037) and single keys in PEM.

What comes out is what the engine takes: an algorithm and the key's bytes. Symmetric keys have no
place here, nor have private ones: a set that shows one is not to be trusted with it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from .key_set import MAX_BYTES, KeysError, KeySet, SigningKey

MAX_KEYS: Final = 64

_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final[Mapping[str, tuple[str, ec.EllipticCurve]]] = {
    "P-256": ("ES256", ec.SECP256R1()),
    "P-384": ("ES384", ec.SECP384R1()),
    "P-521": ("ES512", ec.SECP521R1()),
}
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_KID = re.compile(r"[^\x00-\x1f\x7f]{0,256}")

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


def read_jwks(content: bytes) -> KeySet:
    """The keys of a set; raises `KeysError` where it is none, or holds no key that can be used."""
    if len(content) > MAX_BYTES:
        raise KeysError(f"expected a key set of at most {MAX_BYTES // 1024} KiB")
    try:
        document = json.loads(content, object_pairs_hook=_once)
    except RecursionError:
        raise KeysError("expected a key set, got JSON that is nested too deeply") from None
    except ValueError as error:
        # A JSON error's own text shows none of the content.
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise KeysError(f"expected a key set in JSON: {reason}") from None
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise KeysError('expected a key set: {"keys": [{"kty": ...}, ...]}')
    if len(listed) > MAX_KEYS:
        raise KeysError(f"expected at most {MAX_KEYS} keys, got {len(listed)}")
    keys = list[SigningKey]()
    ignored = list[str]()
    for index, jwk in enumerate(listed):
        try:
            keys.append(_key_of(jwk))
        except KeysError as error:
            kid = jwk.get("kid")
            shown = f" ({kid})" if isinstance(kid, str) and _KID.fullmatch(kid) else ""
            ignored.append(f"keys[{index}]{shown}: {error}")
    if not keys:
        why = f": {'; '.join(ignored[:3])}" if ignored else ""
        raise KeysError(f"there is no key that can be used{why}")
    return KeySet(tuple(keys), tuple(ignored))


def read_public_key(pem: bytes) -> KeySet:
    """The one key of a PEM text; raises `KeysError`."""
    if b"PRIVATE KEY" in pem:
        raise KeysError("expected a public key, got a private one")
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise KeysError("expected a public key in PEM (BEGIN PUBLIC KEY)") from None
    if not isinstance(key, PublicKey):
        raise KeysError("expected an RSA, elliptic curve or Ed25519 key")
    return KeySet((_signing_key(None, key, None),))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is given twice in an object")
    return found


def _key_of(jwk: Mapping[str, Any]) -> SigningKey:
    kid = jwk.get("kid")
    if kid is not None and not (isinstance(kid, str) and _KID.fullmatch(kid)):
        raise KeysError("expected `kid` to be a text of at most 256 characters")
    kty = jwk.get("kty")
    if kty == "oct":
        raise KeysError("a shared secret, which checks no signatures here")
    if "d" in jwk:
        raise KeysError("a private key, which everybody knows by now")
    if jwk.get("use", "sig") != "sig":
        raise KeysError("not for signatures")
    operations = jwk.get("key_ops")
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        raise KeysError("not for checking signatures")
    alg = jwk.get("alg")
    if alg is not None and not isinstance(alg, str):
        raise KeysError("expected `alg` to be a text")
    makers: Mapping[object, Callable[[Mapping[str, Any]], PublicKey]] = {
        "RSA": _rsa,
        "EC": _curve,
        "OKP": _edwards,
    }
    make = makers.get(kty) if isinstance(kty, str) else None
    if make is None:
        raise KeysError("of a kind that is not used")
    try:
        public = make(jwk)
    except (ValueError, UnsupportedAlgorithm) as error:
        if isinstance(error, KeysError):
            raise
        raise KeysError("its numbers make no key") from None
    return _signing_key(kid, public, alg)


def _signing_key(kid: str | None, key: PublicKey, alg: str | None) -> SigningKey:
    algorithms: tuple[str, ...]
    match key:
        case rsa.RSAPublicKey():
            if not 2048 <= key.key_size <= 8192:
                raise KeysError(f"expected an RSA key of 2048 to 8192 bits, got {key.key_size}")
            algorithms = _RSA
            content = key.public_bytes(Encoding.DER, PublicFormat.PKCS1)
        case ec.EllipticCurvePublicKey():
            named = [name for name, curve in _CURVES.values() if curve.name == key.curve.name]
            if not named:
                raise KeysError(f"the curve {key.curve.name} is not used")
            algorithms = tuple(named)
            content = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        case _:
            algorithms = ("EdDSA",)
            content = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    if alg is not None:
        if alg not in algorithms:
            raise KeysError("`alg` names an algorithm that such keys are not used with")
        algorithms = (alg,)
    return SigningKey(kid, algorithms, content)


def _rsa(jwk: Mapping[str, Any]) -> PublicKey:
    modulus, exponent = _bytes(jwk, "n"), _bytes(jwk, "e")
    numbers = rsa.RSAPublicNumbers(int.from_bytes(exponent), int.from_bytes(modulus))
    return numbers.public_key()


def _curve(jwk: Mapping[str, Any]) -> PublicKey:
    name = jwk.get("crv")
    if not isinstance(name, str) or name not in _CURVES:
        raise KeysError("of a curve that is not used")
    _, curve = _CURVES[name]
    x, y = _bytes(jwk, "x"), _bytes(jwk, "y")
    size = (curve.key_size + 7) // 8
    if len(x) != size or len(y) != size:
        raise KeysError(f"expected coordinates of {size} bytes")
    return ec.EllipticCurvePublicKey.from_encoded_point(curve, b"\x04" + x + y)


def _edwards(jwk: Mapping[str, Any]) -> PublicKey:
    if jwk.get("crv") != "Ed25519":
        raise KeysError("of a curve that is not used")
    return ed25519.Ed25519PublicKey.from_public_bytes(_bytes(jwk, "x"))


def _bytes(jwk: Mapping[str, Any], member: str) -> bytes:
    text = jwk.get(member)
    if not isinstance(text, str) or not _BASE64URL.fullmatch(text):
        raise KeysError(f"expected `{member}` in base64url")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
