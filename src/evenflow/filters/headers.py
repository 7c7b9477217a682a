"""`security_headers` and `headers`: edits of requests and of responses."""

from __future__ import annotations

from collections.abc import Mapping

from evenflow.config import FilterChain, Secret
from evenflow.config import HeaderEdit as HeaderEditConfig
from evenflow.config.types import revealed

from .steps import Filter, HeaderEdit

SECURITY_HEADERS = HeaderEditConfig(
    set={"X-Content-Type-Options": "nosniff"},
    default={
        "X-Frame-Options": "DENY",
        # The filters that this once switched on are gone from browsers, or did harm.
        "X-XSS-Protection": "0",
        "Referrer-Policy": "strict-origin-when-cross-origin",
        "Content-Security-Policy": "frame-ancestors 'none'; object-src 'none'; base-uri 'self'",
        "Strict-Transport-Security": "max-age=31536000",
    },
)
"""What `security_headers: true` means. What a backend says itself stays, but for `nosniff`. The
engine sends Strict-Transport-Security over TLS only."""


def compile_headers(chain: FilterChain) -> list[Filter]:
    """Response edits, security headers first, then request edits."""
    steps: list[Filter] = []
    if chain.security_headers is True:
        edit = _edit(SECURITY_HEADERS)
        steps.append({"response_headers": edit})
    elif chain.security_headers:
        edit = _edit(HeaderEditConfig(set=chain.security_headers))
        steps.append({"response_headers": edit})
    if chain.headers is not None and chain.headers.response is not None:
        steps.append({"response_headers": _edit(chain.headers.response)})
    if chain.headers is not None and chain.headers.request is not None:
        steps.append({"request_headers": _edit(chain.headers.request)})
    return steps


def _edit(edit: HeaderEditConfig) -> HeaderEdit:
    return {
        "remove": list(edit.remove),
        "set": _texts(edit.set),
        "add": _texts(edit.add),
        "default": _texts(edit.default),
    }


def _texts(fields: Mapping[str, str | Secret]) -> list[tuple[str, str]]:
    return [(name, revealed(value)) for name, value in fields.items()]
