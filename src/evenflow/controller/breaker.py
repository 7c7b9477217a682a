"""One circuit breaker as a state machine. Pure: the clock comes in, what it decides goes out.

Closed, it judges the requests of the last seconds and opens when too many failed or were slow. Open,
it waits for a while that grows from time to time. Half open, the engine lets a few requests through
and tells what came of them. Somebody may hold it open or closed by hand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Final, Literal, NamedTuple

from evenflow.config import BreakerConfig
from evenflow.controller.window import Window

State = Literal["closed", "half_open", "open"]
Override = Literal["open", "closed"]

JITTER: Final = 0.2
"""The share of its time by which a breaker opens earlier at most, so that a fleet's balancers, which
opened together, do not probe together."""


class Counts(NamedTuple):
    """What came of requests since the start."""

    requests: int
    failed: int
    slow: int


@dataclass(slots=True)
class CircuitBreaker:
    """One breaker. `now` is a monotonic clock; methods tell whether the state changed."""

    rules: BreakerConfig
    random: Random
    since: float
    """When the state became what it is."""
    state: State = "closed"
    reason: str = ""
    until: float | None = None
    """When it becomes half open; only while it is open, and not held so."""
    override: Override | None = None
    openings: int = 0
    """How often it opened without a calm time between."""
    _calm_s: float = 0.0
    _window: Window = field(default_factory=Window)

    def judge(self, now: float, counts: Counts) -> bool:
        """Look at the requests of late; opens where too many went badly."""
        rules = self.rules
        late = Counts(*self._window.add(now, counts, rules.window))
        if self.state != "closed" or self.override is not None:
            self._window.clear()
            return False
        if late.requests < rules.min_requests:
            return False
        failed, slow = late.failed / late.requests, late.slow / late.requests
        if rules.error_rate and failed >= rules.error_rate:
            return self._open(now, f"{late.failed} of {late.requests} requests failed")
        if rules.latency and slow >= rules.slow_rate:
            text = f"{late.slow} of {late.requests} answers took over {rules.latency:g} s"
            return self._open(now, text)
        return False

    def tripped(self, now: float, reason: str) -> bool:
        """The engine opened it: failures in a row, or a probe that failed."""
        if self.state == "open" or self.override is not None:
            return False
        return self._open(now, reason)

    def recovered(self, now: float, reason: str) -> bool:
        """The engine closed it: its probes went well."""
        if self.state != "half_open" or self.override is not None:
            return False
        self._become(now, "closed", reason)
        return True

    def wake(self, now: float) -> bool:
        """Become half open once the time is over."""
        if self.state != "open" or self.until is None or now < self.until:
            return False
        self._become(now, "half_open", "its time is over: probes decide")
        return True

    def force(self, now: float, override: Override | None, who: str) -> bool:
        """Hold it open or closed, or let it go; one that was held open is probed first."""
        if override == self.override:
            return False
        held, self.override = self.override, override
        if override is not None:
            self._become(now, override, f"held {override} by {who}")
        elif held == "open":
            self._become(now, "half_open", f"let go by {who}: probes decide")
        else:
            self._become(now, "closed", f"let go by {who}")
        self.openings = 0
        return True

    def _open(self, now: float, reason: str) -> bool:
        again = self.state == "half_open" or now - self.since < self._calm_s
        self.openings = self.openings + 1 if again else 1
        rules = self.rules
        # Beyond 2^30 times anything the longest time holds.
        grown = rules.open_for * 2 ** min(self.openings - 1, 30)
        length = min(grown, rules.max_open_for) * self.random.uniform(1 - JITTER, 1)
        self._calm_s = max(length, rules.window)
        self._become(now, "open", reason)
        self.until = now + length
        return True

    def _become(self, now: float, state: State, reason: str) -> None:
        self.state, self.reason, self.since, self.until = state, reason, now, None
        self._window.clear()
