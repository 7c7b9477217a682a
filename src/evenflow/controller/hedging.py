"""How long hedged routes wait: as configured, or a percentile of the times to the first byte.

Percentiles are learnt once a second from the histograms that the engine keeps for every backend;
of large pools some backends stand for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from time import monotonic
from typing import Final

import structlog

from evenflow.config import Config, Pool, Route
from evenflow.controller.window import Window
from evenflow.engine import Engine, EngineError

WINDOW_S: Final = 60.0
ENOUGH: Final = 100
"""Fewer answers tell nothing: then those of a longer time are looked at, or nothing is hedged."""
ASKED: Final = 32
"""Backends of a pool that are asked at the most."""
_CHANGE: Final = 0.05

_log = structlog.get_logger("evenflow.hedging")


def quantile(counts: Sequence[int], bounds_s: Sequence[float], share: float) -> float:
    """Where in a histogram a share of all is reached, as if each bucket were evenly filled.

    What lies above the last bound counts as just there.
    """
    wanted = share * sum(counts)
    below = 0.0
    for count, (low, high) in zip(counts, pairwise((0.0, *bounds_s)), strict=False):
        if count and below + count >= wanted:
            return low + (high - low) * (wanted - below) / count
        below += count
    return bounds_s[-1]


@dataclass(slots=True)
class _Learnt:
    share: float
    backends: tuple[tuple[str, str], ...]
    window: Window = field(default_factory=Window)


class HedgeDelays:
    """The delays in force, by route, in seconds; those still to be learnt are absent."""

    def __init__(self, engine: Engine) -> None:
        self.delays: dict[str, float] = {}
        self._engine = engine
        self._learnt: dict[str, _Learnt] = {}
        self._bounds_s: Sequence[float] = ()

    def follow(self, config: Config) -> None:
        """Take over a configuration in its full form that has come into force."""
        known, learnt = self.delays, self._learnt
        self.delays, self._learnt = {}, {}
        pools = {pool.name: pool for pool in config.pools}
        for route in config.routes:
            name, hedge = route.name, route.hedge
            if hedge is None or not hedge.max:
                continue
            if not isinstance(hedge.after, str):
                self.delays[name] = hedge.after
                continue
            fresh = _Learnt(float(hedge.after[1:]) / 100, _some_of(route, pools))
            before = learnt.get(name)
            if before is not None and before.share == fresh.share:
                # Of other members what is known holds until they are known.
                self._learnt[name] = before if before.backends == fresh.backends else fresh
                if name in known:
                    self.delays[name] = known[name]
                    self._send(name)
            else:
                self._learnt[name] = fresh
        if self._learnt.keys() - learnt.keys():
            # What there is by now is where they begin.
            self.learn()

    def learn(self) -> None:
        """Look at the times of late; called once a second."""
        if not self._learnt:
            return
        now = monotonic()
        try:
            if not self._bounds_s:
                self._bounds_s = self._engine.snapshot()["bounds_s"]
            for name, learnt in self._learnt.items():
                counts = self._counts(learnt.backends)
                late = learnt.window.add(now, counts, WINDOW_S, enough=ENOUGH)
                if sum(late) >= ENOUGH:
                    self._take(name, quantile(late, self._bounds_s, learnt.share))
        except EngineError as error:
            _log.debug("delays not learnt", reason=str(error))

    def _counts(self, backends: Sequence[tuple[str, str]]) -> tuple[int, ...]:
        sums = [0] * (len(self._bounds_s) + 1)
        for pool, id in backends:
            counts = self._engine.endpoint_snapshot(pool, id)["first_byte"]["counts"]
            sums = [total + count for total, count in zip(sums, counts, strict=True)]
        return tuple(sums)

    def _take(self, route: str, delay: float) -> None:
        delay = max(0.001, delay)
        before = self.delays.get(route)
        if before is None or abs(delay - before) > _CHANGE * before:
            self.delays[route] = delay
            self._send(route)

    def _send(self, route: str) -> None:
        delay = self.delays.get(route)
        if delay is None:
            return
        try:
            self._engine.set_hedge({"route": route, "after_ms": max(1, round(delay * 1000))})
        except EngineError as error:
            _log.debug("delay not set", route=route, reason=str(error))


def _some_of(route: Route, pools: Mapping[str, Pool]) -> tuple[tuple[str, str], ...]:
    """Backends of the route's pools, those of large ones spread evenly over them."""
    found: list[tuple[str, str]] = []
    for name in route.pools:
        members = pools[name].backends if name in pools else ()
        step = max(1, -(-len(members) // ASKED))
        found += [(name, backend.id) for backend in members[::step]]
    return tuple(found)
