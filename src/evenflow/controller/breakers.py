"""All circuit breakers: keeps those of the configuration in force, and the engine true to them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

import structlog

from evenflow.config import Backend, BreakerConfig, Pool
from evenflow.controller.breaker import CircuitBreaker, Counts, Override, State
from evenflow.controller.decisions import Decisions
from evenflow.engine import BreakerChanged, BreakerUpdate, Engine, EngineError

Place = tuple[str, str | None]
"""Pool and backend id; without an id the breaker of the pool as a whole."""

_log = structlog.get_logger("evenflow.breakers")


class NoBreaker(LookupError):
    """There is no breaker at this place."""


@dataclass(frozen=True, slots=True)
class BreakerStatus:
    """How a breaker stands. Times are Unix seconds."""

    state: State
    reason: str
    since: float
    until: float | None
    """When an open one lets probes through; `None` where it is not open, or held so by hand."""
    override: Override | None


@dataclass(frozen=True, slots=True)
class Hold:
    """A breaker that somebody holds by hand."""

    place: Place
    url: str
    """Of the backend: one at another URL is another server, which nobody holds."""
    override: Override
    who: str


def write_holds(holds: Iterable[Hold]) -> dict[str, Any]:
    """The document in which a store keeps them."""
    return {
        "holds": [
            {
                "pool": hold.place[0],
                "backend": hold.place[1],
                "url": hold.url,
                "state": hold.override,
                "who": hold.who,
            }
            for hold in holds
        ]
    }


def read_holds(document: Mapping[str, Any] | None) -> list[Hold]:
    """What `write_holds` wrote."""
    return [
        Hold((each["pool"], each["backend"]), each["url"], each["state"], each["who"])
        for each in (document or {}).get("holds", ())
    ]


@dataclass(slots=True, eq=False)
class _Entry:
    url: str
    """Of the backend: one at another URL is another server."""
    breaker: CircuitBreaker
    held_by: str = ""


class Breakers:
    """The breakers in force. Used on one event loop.

    `changed` is told the place and the new state after every change.
    """

    def __init__(
        self,
        engine: Engine,
        decisions: Decisions,
        changed: Callable[[Place, State], None],
        random: Random | None = None,
    ) -> None:
        self.transitions: Counter[tuple[Place, State]] = Counter()
        """How often each became what."""
        self._engine = engine
        self._decisions = decisions
        self._changed = changed
        # Jitter only keeps balancers apart; nobody gains by guessing it.
        self._random = random or Random()  # noqa: S311
        self._entries: dict[Place, _Entry] = {}
        self._timer: asyncio.TimerHandle | None = None

    def follow(self, pools: Mapping[str, Pool]) -> None:
        """Keep the breakers that the configuration still has, as they are; add and drop the others."""
        now = time.monotonic()
        fresh = False
        wanted = {place: (url, rules) for place, url, rules in _wanted(pools)}
        for place in [place for place in self._entries if place not in wanted]:
            self._drop(place)
        for place, (url, rules) in wanted.items():
            entry = self._entries.get(place)
            if entry is not None and entry.url == url:
                if entry.breaker.rules != rules:
                    entry.breaker.rules = rules
                    if entry.breaker.state == "half_open":
                        self._send(place, entry.breaker)
                continue
            if entry is not None:
                self._drop(place)
            self._entries[place] = _Entry(url, CircuitBreaker(rules, self._random, now))
            fresh = True
        if fresh:
            # What there is by now is where they begin.
            self.judge()

    def judge(self) -> None:
        """Look at what came of the requests of late; called once a second."""
        if not self._entries:
            return
        try:
            outcomes = self._engine.outcomes()
        except EngineError as error:
            _log.debug("outcomes not read", reason=str(error))
            return
        now = time.monotonic()
        for each in outcomes:
            place = each["pool"], each["backend"]
            if (entry := self._entries.get(place)) is not None:
                counts = Counts(each["requests"], each["failed"], each["slow"])
                if entry.breaker.judge(now, counts):
                    self._tell(place, entry.breaker)

    def heard(self, event: BreakerChanged) -> None:
        """Take what the engine did at once."""
        place = event["pool"], event["backend"]
        entry = self._entries.get(place)
        if entry is None:
            # A request that began before it was taken away: nobody else would close it again.
            self._put(place, "closed")
            return
        now, breaker = time.monotonic(), entry.breaker
        if event["state"] == "open":
            if breaker.tripped(now, event["reason"]):
                self._tell(place, breaker)
        elif breaker.recovered(now, event["reason"]):
            # The engine closed it; saying so again could undo what happened since.
            self._tell(place, breaker, send=False)

    def force(self, place: Place, override: Override | None, who: str) -> BreakerStatus:
        """Hold a breaker open or closed, or let it go; raises `NoBreaker`."""
        entry = self._entry(place)
        if entry.breaker.force(time.monotonic(), override, who):
            entry.held_by = who
            self._tell(place, entry.breaker)
        return _status(entry.breaker)

    def holds(self) -> tuple[Hold, ...]:
        """All breakers that are held by hand."""
        return tuple(
            Hold(place, entry.url, entry.breaker.override, entry.held_by)
            for place, entry in self._entries.items()
            if entry.breaker.override is not None
        )

    def holds_after(self, place: Place, override: Override | None, who: str) -> tuple[Hold, ...]:
        """What `holds` will be after a `force`; raises `NoBreaker`."""
        entry = self._entry(place)
        if entry.breaker.override == override:
            return self.holds()
        others = tuple(hold for hold in self.holds() if hold.place != place)
        return others if override is None else (*others, Hold(place, entry.url, override, who))

    def restore(self, holds: Iterable[Hold]) -> None:
        """Hold what was held before, as far as it is there still."""
        for hold in holds:
            entry = self._entries.get(hold.place)
            if entry is not None and entry.url == hold.url:
                self.force(hold.place, hold.override, hold.who)

    def _entry(self, place: Place) -> _Entry:
        entry = self._entries.get(place)
        if entry is None:
            raise NoBreaker
        return entry

    def status(self, place: Place) -> BreakerStatus | None:
        """How the breaker at a place stands; `None` where there is none."""
        entry = self._entries.get(place)
        return None if entry is None else _status(entry.breaker)

    def statuses(self) -> dict[Place, BreakerStatus]:
        """All breakers."""
        return {place: _status(entry.breaker) for place, entry in self._entries.items()}

    def refuses(self, pool: str, backend: str) -> bool:
        """Whether an open breaker keeps all requests from a backend."""
        if not self._entries:
            return False
        places: tuple[Place, ...] = ((pool, backend), (pool, None))
        return any(
            (entry := self._entries.get(place)) is not None and entry.breaker.state == "open"
            for place in places
        )

    def close(self) -> None:
        """Do nothing any more by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _drop(self, place: Place) -> None:
        entry = self._entries.pop(place)
        for key in [key for key in self.transitions if key[0] == place]:
            del self.transitions[key]
        if entry.breaker.state != "closed" or entry.breaker.override is not None:
            self._put(place, "closed")
            self._changed(place, "closed")

    def _tell(self, place: Place, breaker: CircuitBreaker, *, send: bool = True) -> None:
        if send:
            self._send(place, breaker)
        self.transitions[place, breaker.state] += 1
        self._changed(place, breaker.state)
        pool, backend = place
        details: dict[str, Any] = {"pool": pool}
        if backend is not None:
            details["backend"] = backend
        if breaker.until is not None:
            details["for_s"] = round(breaker.until - breaker.since, 3)
        shown = breaker.state.replace("_", " ")
        self._decisions.record(
            "breaker",
            f"breaker {shown}",
            breaker.reason,
            level="warning" if breaker.state == "open" else "info",
            **details,
        )
        self._arm()

    def _send(self, place: Place, breaker: CircuitBreaker) -> None:
        if breaker.override == "closed":
            self._put(place, "held")
        elif breaker.until is not None:
            left = max(0.0, breaker.until - time.monotonic())
            self._put(place, "open", for_ms=round(left * 1000))
        else:
            self._put(place, breaker.state, probes=breaker.rules.half_open_requests)

    def _put(
        self,
        place: Place,
        state: Literal["closed", "half_open", "open", "held"],
        *,
        probes: int = 0,
        for_ms: int | None = None,
    ) -> None:
        pool, backend = place
        update: BreakerUpdate = {
            "pool": pool,
            "id": backend,
            "state": state,
            "probes": probes,
            "for_ms": for_ms,
        }
        try:
            self._engine.set_breaker(update)
        except EngineError as error:
            # `plan`: the pool or the backend is gone, and its breaker with it.
            level = _log.debug if error.code in ("closed", "plan") else _log.error
            level("breaker not set", pool=pool, backend=backend, reason=str(error))

    def _arm(self) -> None:
        self.close()
        times = [e.breaker.until for e in self._entries.values() if e.breaker.until is not None]
        if times:
            delay = max(0.0, min(times) - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._wake)

    def _wake(self) -> None:
        self._timer = None
        now = time.monotonic()
        for place, entry in self._entries.items():
            if entry.breaker.wake(now):
                self._tell(place, entry.breaker)
        self._arm()


def _wanted(pools: Mapping[str, Pool]) -> Iterator[tuple[Place, str, BreakerConfig]]:
    for pool in pools.values():
        rules = pool.breaker
        if rules is None or not rules.enabled:
            continue
        if rules.scope != "endpoint":
            yield (pool.name, None), "", rules
        if rules.scope != "pool":
            members: tuple[Backend, ...] = tuple(pool.backends)
            for backend in members:
                yield (pool.name, backend.id), backend.url, rules


def _status(breaker: CircuitBreaker) -> BreakerStatus:
    behind = time.time() - time.monotonic()
    until = None if breaker.until is None else breaker.until + behind
    return BreakerStatus(
        breaker.state, breaker.reason, breaker.since + behind, until, breaker.override
    )
