"""`auth`: who may come in, by password, token, or another service's word."""

from __future__ import annotations

from evenflow.config import FilterChain

from .steps import Filter


def compile_auth(chain: FilterChain) -> list[Filter]:
    """One step that refuses with 401 or 403."""
    auth = chain.auth
    if auth is None:
        return []
    if (basic := auth.basic) is not None:
        return [
            {
                "basic": {
                    "realm": basic.realm,
                    "users": [(name, secret.value) for name, secret in basic.users.items()],
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
