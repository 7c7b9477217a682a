"""Public keys as the rest of the program knows them; reading them is `jwks`'s matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from evenflow.config import Config
from evenflow.config.jwt import JwtAuth

MAX_BYTES: Final = 256 * 1024
"""A longer key set is not read."""

Address = tuple[str, str | None]
"""A key set's URL, and the file with the roots for it."""


class KeysError(ValueError):
    """What is wrong with keys; no key's text is in it."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key, and the algorithms that it may be used with."""

    kid: str | None
    algorithms: tuple[str, ...]
    key: bytes
    """RSA: `RSAPublicKey` in DER; curves: the uncompressed point; Ed25519: the key."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """What a source holds."""

    keys: tuple[SigningKey, ...] = ()
    ignored: tuple[str, ...] = ()
    """Keys that are of no use here, and why."""


def address_of(jwt: JwtAuth) -> Address | None:
    """Where the filter's keys are fetched, if they are."""
    return None if jwt.jwks_url is None else (jwt.jwks_url, jwt.ca_file)


def jwt_filters(config: Config) -> dict[str, JwtAuth]:
    """The filters for tokens in a configuration's full form."""
    return {
        name: chain.auth.jwt
        for name, chain in config.filters.items()
        if chain.auth is not None and chain.auth.jwt is not None
    }


def usable(keys: KeySet, jwt: JwtAuth) -> tuple[SigningKey, ...]:
    """The keys as far as the filter's algorithms go."""
    narrowed = (
        SigningKey(each.kid, tuple(a for a in each.algorithms if a in jwt.algorithms), each.key)
        for each in keys.keys
    )
    return tuple(each for each in narrowed if each.algorithms)
