"""What a strategy is given and what it returns: endpoints in, one of the engine's pickers out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

TABLE_SLOTS = 65_537
"""The longest table: a prime, so that a hash spreads evenly over it."""

Score = Literal["in_flight", "latency"]


class Endpoint(NamedTuple):
    """One server as a strategy sees it.

    `weight` is the configured weight times `ramp`, and `ramp` the share (0 to 1) that slow start
    has reached. `max_connections` of 0 is no bound.
    """

    id: str
    weight: float = 100
    max_connections: int = 0
    labels: Mapping[str, str] = {}
    url: str = ""
    ramp: float = 1.0


@dataclass(frozen=True, slots=True)
class Cycle:
    """Walk `table` over and over.

    Its indices are into `of`, which is some of the endpoints that the strategy was given, or all
    of them where it is None.
    """

    table: Sequence[int]
    of: Sequence[Endpoint] | None = None


@dataclass(frozen=True, slots=True)
class Hash:
    """Index `table` by a hash of the request's `key`.

    The table's indices are into `of`, as those of `Cycle`.
    `key` is client_ip, header:NAME, cookie:NAME, query:NAME, path, random or all. With
    `load_bound`, an endpoint over so many times the average in flight is stepped over.
    """

    key: str
    table: Sequence[int]
    load_bound: float | None = None
    of: Sequence[Endpoint] | None = None


@dataclass(frozen=True, slots=True)
class Least:
    """The lowest score of `choices` random endpoints of the pool, or of all where it is 0."""

    score: Score
    choices: int = 0


Picker = Cycle | Hash | Least
Strategy = Callable[[Sequence[Endpoint]], Picker]
Weigh = Callable[[Endpoint], float]
