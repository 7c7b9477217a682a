"""Secrets of which only a hash is kept: who presents the secret is checked, nobody is told it.

A configuration gives such a secret as it is, by `${NAME}` or `file:/path`, or as a hash. What the
model holds, and what is stored, is the hash, or the reference where it was given by one.
"""

from __future__ import annotations

import hashlib
import re

from pydantic import GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema

from .types import Secret

SHA256 = "sha256:"
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_ARGON2 = re.compile(
    r"\$argon2(?:i|d|id)\$v=19\$m=([0-9]{1,10}),t=([0-9]{1,5}),p=([0-9]{1,3})"
    r"\$[A-Za-z0-9+/]{11,88}\$[A-Za-z0-9+/]{16,88}"
)
_BCRYPT = re.compile(r"\$2[abxy]\$([0-9]{2})\$[./A-Za-z0-9]{53}")
_MAX_MEMORY_KIB = 1 << 20
_MAX_PASSES = 64
_MAX_BCRYPT_COST = 16


def hash_token(secret: str) -> str:
    """The hash of a token of high entropy, in the form in which configurations take it."""
    return SHA256 + hashlib.sha256(secret.encode()).hexdigest()


def is_slow(hashed: str) -> bool:
    """Whether a hash is one for passwords, which takes milliseconds to check."""
    return not hashed.startswith(SHA256)


def _checked(text: str, *, bcrypt: bool) -> str | None:
    """The hash that `text` is, if it is one; ValueError for one that would take too long."""
    if _SHA256.fullmatch(text):
        return text
    if match := _ARGON2.fullmatch(text):
        memory, passes = int(match[1]), int(match[2])
        if not 8 <= memory <= _MAX_MEMORY_KIB or not 1 <= passes <= _MAX_PASSES:
            raise ValueError("expected an argon2 hash of at most 1 GiB and 64 passes")
        return text
    if bcrypt and (match := _BCRYPT.fullmatch(text)):
        if not 4 <= int(match[1]) <= _MAX_BCRYPT_COST:
            raise ValueError("expected a bcrypt hash with a cost from 4 to 16")
        return text
    if text.startswith((SHA256, "$argon2", "$2")):
        kinds = "sha256:<64 hex digits>, $argon2id$..." + (" or $2b$..." if bcrypt else "")
        raise ValueError(f"this looks like a hash but is none; expected {kinds}")
    return None


class TokenSecret(Secret):
    """A token: `sha256:...`, `$argon2id$...`, or the token itself, which is hashed at once."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object, info: ValidationInfo) -> Secret:
        """Reads a secret as `Secret` does, and keeps its hash."""
        if isinstance(value, cls):
            return value
        secret = Secret.parse(value, info)
        if secret.hidden:
            return cls(secret.value)
        hashed = _checked(secret.value, bcrypt=False) or hash_token(secret.value)
        return cls(hashed, secret.reference)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, object]:
        return {
            "type": "string",
            "description": "A token or its hash, `sha256:…` or `$argon2id$…`; also by `${NAME}` or "
            "`file:/path`. Only the hash is kept.",
        }


class PasswordHash(Secret):
    """A password's hash: `$argon2id$...`, `$2b$...` (bcrypt), or `sha256:...`."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object, info: ValidationInfo) -> Secret:
        """Reads a secret as `Secret` does; ValueError where it is not a hash."""
        if isinstance(value, cls):
            return value
        secret = Secret.parse(value, info)
        if secret.hidden:
            return cls(secret.value)
        hashed = _checked(secret.value, bcrypt=True)
        if hashed is None:
            raise ValueError(
                "expected a password's hash, not the password: $argon2id$..., $2b$... or "
                "sha256:...; `evenflow token hash` makes one"
            )
        return cls(hashed, secret.reference)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, object]:
        return {
            "type": "string",
            "description": "`$argon2id$…`, `$2b$…` or `sha256:…`; also by `${NAME}` or "
            "`file:/path`.",
        }
