"""`auth.jwt`: who may come in, by a token that somebody trusted has signed."""

from __future__ import annotations

from collections.abc import Sequence

from evenflow.config import JwtAuth

from .steps import Filter, JwtKey


def compile_jwt(name: str, jwt: JwtAuth, keys: Sequence[JwtKey]) -> list[Filter]:
    """One step that refuses with 401, or with 503 while there is no key."""
    return [
        {
            "jwt": {
                "name": name,
                "realm": jwt.realm,
                "keys": list(keys),
                "issuers": list(jwt.issuer),
                "audiences": list(jwt.audience),
                "leeway_s": round(jwt.leeway),
                "required_claims": list(jwt.required_claims),
                "user_claim": jwt.user_claim,
                "claims_to_headers": list(jwt.claims_to_headers.items()),
                "header": jwt.header,
                "cookie": jwt.cookie,
                "forward": jwt.forward,
            }
        }
    ]
