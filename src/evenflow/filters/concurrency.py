"""`concurrency`: at most so many requests of one key in flight."""

from __future__ import annotations

from evenflow.config import FilterChain

from .rate_limit import request_key
from .steps import Filter


def compile_concurrency(name: str, chain: FilterChain) -> list[Filter]:
    """One step that refuses with 429; what is in flight lives on under the chain's name."""
    bound = chain.concurrency
    if bound is None:
        return []
    return [
        {
            "concurrency": {
                "name": name,
                "key": request_key(bound.key),
                "max": bound.max_requests,
                "ipv6_prefix": bound.ipv6_prefix,
                "dry_run": bound.dry_run,
            }
        }
    ]
