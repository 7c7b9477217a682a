"""Whether the parts of `auth.jwt` make sense together."""

from __future__ import annotations

from collections.abc import Iterator

from .jwt import SOURCES, JwtAuth
from .problems import Problem

_OF_URLS = ("ca_file", "refresh_interval", "refresh_timeout", "refresh_after_unknown")


def jwt_problems(path: str, jwt: JwtAuth) -> Iterator[Problem]:
    """Every contradiction in one filter for tokens."""
    given = [name for name in SOURCES if getattr(jwt, name) is not None]
    if len(given) != 1:
        yield Problem(path, f"expected one of {', '.join(SOURCES)}, got {len(given)}")
    elif jwt.jwks_url is None:
        for name in _OF_URLS:
            if getattr(jwt, name) != JwtAuth.model_fields[name].default:
                yield Problem(
                    f"{path}.{name}", f"has no effect without `jwks_url`; `{given[0]}` is given"
                )
    if not jwt.algorithms:
        yield Problem(f"{path}.algorithms", "expected at least one")
    if jwt.ca_file is not None and (jwt.jwks_url or "").startswith("http:"):
        yield Problem(f"{path}.ca_file", "has no effect on an address with http://")
    if jwt.header is not None and jwt.cookie is not None:
        yield Problem(f"{path}.cookie", "a token comes by `header` or by `cookie`, not by both")
    fields: dict[str, str] = {}
    for claim, field in jwt.claims_to_headers.items():
        at = f"{path}.claims_to_headers"
        if (other := fields.setdefault(field.lower(), claim)) != claim:
            yield Problem(at, f"the field {field!r} is given to the claims {other!r} and {claim!r}")
        if field.lower() == (jwt.header or "authorization").lower():
            yield Problem(at, f"the field {field!r} is where the token comes from")
