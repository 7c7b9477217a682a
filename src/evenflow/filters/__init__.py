"""Filters: pure functions from a chain's configuration to the engine's filter primitives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evenflow.config import FilterChain

from .auth import compile_auth
from .body_limit import compile_body_limit
from .concurrency import compile_concurrency
from .cors import compile_cors
from .headers import compile_headers
from .ip_lists import compile_ip_lists
from .rate_limit import compile_rate_limit, request_key
from .steps import Filter, JwtKey

__all__ = ["compile_chain", "request_key"]


def compile_chain(
    name: str,
    chain: FilterChain,
    keys: Sequence[JwtKey] = (),
    lists: Mapping[str, Sequence[str]] | None = None,
    fleet_seed: bytes = b"",
) -> list[Filter]:
    """All steps of the filter called `name`, in the order they run.

    `keys` check its tokens, `lists` holds the networks of files that it names, `fleet_seed` is the
    secret of limits of scope fleet, where it is known.

    One filter is a mapping, which has no order: its steps run in this one. Address lists come
    first, so that a refused client uses up no rate limit, and authentication, which costs most,
    last. CORS precedes it, because browsers send preflight requests without credentials. Whoever
    wants another order writes several filters: they run as a listener and a route list them.
    """
    return [
        *compile_ip_lists(chain, lists or {}),
        *compile_headers(chain),
        *compile_rate_limit(name, chain, fleet_seed),
        *compile_concurrency(name, chain),
        *compile_body_limit(chain),
        *compile_cors(chain),
        *compile_auth(name, chain, keys),
    ]
