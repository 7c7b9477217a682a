"""SCRAM-SHA-256 (RFC 5802, RFC 7677), the client's side. It does no I/O.

Without channel binding. Passwords that are not ASCII are normalised as NFKC, which is what SASLprep
comes to for those that people use.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import unicodedata
from dataclasses import dataclass, field
from typing import Final

MAX_ITERATIONS: Final = 100_000
"""More would let a server under check keep the event loop busy."""


class ScramError(ValueError):
    """The server's message is not one of this exchange, or the server does not know the secret."""


@dataclass(slots=True)
class Scram:
    """One exchange: `first`, then `final` for the server's first message, then `verify`."""

    password: str
    user: str = ""
    """Left empty for PostgreSQL, which takes the user from its start-up message."""
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    _signature: bytes = b""

    @property
    def _bare(self) -> str:
        return f"n={self.user},r={self.nonce}"

    def first(self) -> bytes:
        """The client's first message."""
        return f"n,,{self._bare}".encode()

    def final(self, message: bytes) -> bytes:
        """The client's final message."""
        given = _attributes(message)
        nonce = given.get("r", "")
        if not nonce.startswith(self.nonce) or len(nonce) == len(self.nonce):
            raise ScramError("the server's nonce does not continue ours")
        try:
            salt = base64.b64decode(given.get("s", ""), validate=True)
            iterations = int(given.get("i", ""))
        except (binascii.Error, ValueError):
            raise ScramError("the server's salt or iteration count is not valid") from None
        if not salt or not 1 <= iterations <= MAX_ITERATIONS:
            raise ScramError(f"expected a salt and 1 to {MAX_ITERATIONS} iterations")
        plain = unicodedata.normalize("NFKC", self.password).encode()
        salted = hashlib.pbkdf2_hmac("sha256", plain, salt, iterations)
        bare_final = f"c=biws,r={nonce}"
        signed = f"{self._bare},{message.decode()},{bare_final}".encode()
        key = _hmac(salted, b"Client Key")
        proof = bytes(
            a ^ b for a, b in zip(key, _hmac(hashlib.sha256(key).digest(), signed), strict=True)
        )
        self._signature = _hmac(_hmac(salted, b"Server Key"), signed)
        return f"{bare_final},p={base64.b64encode(proof).decode()}".encode()

    def verify(self, message: bytes) -> None:
        """Check that the server knows the secret too; ScramError where it does not."""
        given = _attributes(message).get("v", "")
        if not hmac.compare_digest(given.encode(), base64.b64encode(self._signature)):
            raise ScramError("the server does not know the password")


def _attributes(message: bytes) -> dict[str, str]:
    try:
        parts = [part.partition("=") for part in message.decode().split(",")]
    except UnicodeDecodeError:
        raise ScramError("the server's message is not text") from None
    return {name: value for name, _, value in parts}


def _hmac(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")
