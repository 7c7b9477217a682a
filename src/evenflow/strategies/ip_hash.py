"""The same client address always goes to the same endpoint."""

from __future__ import annotations

from collections.abc import Sequence

from .helpers import hash_by
from .picker import Endpoint, Picker, Strategy


def ip_hash(endpoints: Sequence[Endpoint]) -> Picker:
    """Consistent hashing of the client's address, in proportion to weight."""
    return hash_by("client_ip", endpoints)


def bounded_ip_hash(load_bound: float) -> Strategy:
    """`ip_hash` that steps over an endpoint with more than `load_bound` times the average load."""

    def strategy(endpoints: Sequence[Endpoint]) -> Picker:
        return hash_by("client_ip", endpoints, load_bound=load_bound)

    return strategy
