"""Short ways to the pickers, for the built-in strategies and for your own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ._table import consistent_table
from .picker import TABLE_SLOTS, Cycle, Endpoint, Hash, Least, Score, Weigh
from .tables import smooth_order, whole_weights

TableBuilder = Callable[[Sequence[str], Sequence[int], int], Sequence[int]]
_MAX_WEIGHT = 65_535


def by_weight(endpoint: Endpoint) -> float:
    """The endpoint's weight."""
    return endpoint.weight


def by_ramp(endpoint: Endpoint) -> float:
    """All alike, except that slow start still holds some back."""
    return endpoint.ramp


def cycle(endpoints: Sequence[Endpoint], weight: Weigh = by_ramp) -> Cycle:
    """Take turns, each as often as its weight says and evenly spread."""
    weights = whole_weights([weight(endpoint) for endpoint in endpoints])
    return Cycle(smooth_order(weights), endpoints)


def hash_by(
    key: str,
    endpoints: Sequence[Endpoint],
    weight: Weigh = by_weight,
    load_bound: float | None = None,
    table: TableBuilder = consistent_table,
) -> Hash:
    """The same endpoint for the same key; removing one endpoint moves only its own keys."""
    if not endpoints:
        return Hash(key, (), load_bound, endpoints)
    weights = whole_weights([weight(endpoint) for endpoint in endpoints], _MAX_WEIGHT)
    ids = [endpoint.id for endpoint in endpoints]
    return Hash(key, table(ids, weights, TABLE_SLOTS), load_bound, endpoints)


def scatter(endpoints: Sequence[Endpoint], weight: Weigh = by_weight) -> Hash:
    """Any endpoint, at random in proportion to weight."""
    return Hash("random", cycle(endpoints, weight).table, of=endpoints)


def least(score: Score = "in_flight", choices: int = 0) -> Least:
    """The endpoint with the lowest score of `choices` random ones, or of all where it is 0.

    The engine looks at all usable endpoints of the pool, so this takes no selection of them.
    """
    return Least(score, choices)
