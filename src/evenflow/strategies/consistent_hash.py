"""Requests with the same key (a header, cookie, query parameter or path) go to one endpoint."""

from __future__ import annotations

from collections.abc import Sequence

from .helpers import hash_by
from .picker import Endpoint, Picker, Strategy


def consistent_hash(key: str = "client_ip", load_bound: float | None = None) -> Strategy:
    """Consistent hashing of `key`, in proportion to weight, with an optional bound on load."""

    def strategy(endpoints: Sequence[Endpoint]) -> Picker:
        return hash_by(key, endpoints, load_bound=load_bound)

    return strategy
