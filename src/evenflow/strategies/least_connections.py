"""The endpoint with the fewest requests in flight for its weight."""

from __future__ import annotations

from collections.abc import Sequence

from .helpers import least
from .picker import Endpoint, Picker, Strategy

COMPARED_AT_MOST = 64
"""Larger pools compare so many random endpoints, which keeps the cost of a request bounded."""


def least_connections(endpoints: Sequence[Endpoint]) -> Picker:
    """All endpoints compared, or 64 random ones of a larger pool."""
    return least("in_flight", 0 if len(endpoints) <= COMPARED_AT_MOST else COMPARED_AT_MOST)


def least_of(choices: int) -> Strategy:
    """`least_connections` that compares `choices` random endpoints; 0 compares all."""
    return lambda _endpoints: least("in_flight", choices)
