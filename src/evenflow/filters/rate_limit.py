"""`rate_limit`: at most so many requests per key."""

from __future__ import annotations

from math import ceil
from typing import cast

from evenflow.config import FilterChain

from .steps import Filter, RequestKey


def compile_rate_limit(name: str, chain: FilterChain, fleet_seed: bytes = b"") -> list[Filter]:
    """One step that refuses with 429; its counts live on under the chain's name.

    A limit of scope fleet holds for this node alone until the fleet's secret is known.
    """
    limit = chain.rate_limit
    if limit is None:
        return []
    burst = limit.burst_size
    return [
        {
            "limit": {
                "name": name,
                "key": request_key(limit.key),
                "requests_per_second": float(limit.requests_per_second),
                "burst": max(1, ceil(limit.requests_per_second)) if burst is None else burst,
                "max_keys": limit.max_keys,
                "dry_run": limit.dry_run,
                "ipv6_prefix": limit.ipv6_prefix,
                "headers": limit.headers,
                "fleet_seed": list(fleet_seed) if limit.scope == "fleet" and fleet_seed else None,
            }
        }
    ]


def request_key(text: str) -> RequestKey:
    """The plan's form of `client_ip`, `header:NAME` and so on."""
    kind, separator, name = text.partition(":")
    return cast(RequestKey, {kind: name} if separator else kind)
