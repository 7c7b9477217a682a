"""`auth`: who may come in, by password, token, or another service's word."""

from __future__ import annotations

from collections.abc import Sequence

from evenflow.config import FilterChain

from .jwt import compile_jwt
from .steps import Filter, JwtKey


def compile_auth(name: str, chain: FilterChain, keys: Sequence[JwtKey] = ()) -> list[Filter]:
    """One step that refuses with 401 or 403."""
    auth = chain.auth
    if auth is None:
        return []
    if (basic := auth.basic) is not None:
        return [
            {
                "basic": {
                    "realm": basic.realm,
                    "users": [(user, secret.value) for user, secret in basic.users.items()],
                    "user_header": basic.user_header,
                    "forward": basic.forward,
                }
            }
        ]
    if (bearer := auth.bearer) is not None:
        return [
            {
                "bearer": {
                    "realm": bearer.realm,
                    "tokens": [(each.name, each.token.value) for each in bearer.tokens],
                    "user_header": bearer.user_header,
                    "forward": bearer.forward,
                }
            }
        ]
    if auth.jwt is not None:
        return compile_jwt(name, auth.jwt, keys)
    if (external := auth.external) is not None:
        return [
            {
                "external": {
                    "pool": external.pool,
                    "path": external.path,
                    "request_headers": list(external.request_headers),
                    "response_headers": list(external.response_headers),
                    "user_header": external.user_header,
                    "timeout_ms": round(external.timeout * 1000),
                    "fail_open": external.on_failure == "allow",
                }
            }
        ]
    return []
