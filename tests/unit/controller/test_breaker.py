"""The state machine of one breaker, for whatever may happen to it; and all of them over an engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from evenflow.config import BreakerConfig, ConfigError, read_document
from evenflow.controller import Controller
from evenflow.controller.breaker import JITTER, CircuitBreaker, Counts, State
from evenflow.state import MemoryStore
from evenflow.testing.fake_engine import FakeEngine

LEGAL: set[tuple[State, State]] = {
    ("closed", "open"),
    ("open", "half_open"),
    ("half_open", "open"),
    ("half_open", "closed"),
}


class AnyLife(RuleBasedStateMachine):
    """A breaker to which everything happens in any order, at any time."""

    @initialize(
        seed=st.integers(0, 1000),
        open_for=st.floats(0.1, 60),
        more=st.floats(0, 600),
        window=st.floats(1, 60),
        least=st.integers(1, 50),
        rate=st.floats(0.01, 1),
    )
    def begin(
        self, seed: int, open_for: float, more: float, window: float, least: int, rate: float
    ) -> None:
        self.limits = BreakerConfig(
            error_rate=rate,
            window=window,
            min_requests=least,
            open_for=open_for,
            max_open_for=open_for + more,
            latency=1,
            slow_rate=rate,
        )
        self.now = 1000.0
        self.counts = Counts(0, 0, 0)
        self.breaker = CircuitBreaker(self.limits, Random(seed), self.now)
        self.seen: State = "closed"

    def check(self, changed: bool, *, by_hand: bool = False) -> None:
        """Whatever the machine says it did is what it did, and it may do it."""
        now: State = self.breaker.state
        if not by_hand:
            assert changed == (now != self.seen)
            assert not changed or (self.seen, now) in LEGAL
            assert not changed or self.breaker.override is None
        if changed:
            assert self.breaker.since == self.now
            assert self.breaker.reason
        self.seen = now

    @rule(seconds=st.floats(0.001, 400))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(requests=st.integers(0, 200), failed=st.integers(0, 200), slow=st.integers(0, 200))
    def requests_end(self, requests: int, failed: int, slow: int) -> None:
        added = Counts(requests, min(failed, requests), min(slow, requests))
        self.counts = Counts(*(a + b for a, b in zip(self.counts, added, strict=True)))

    @rule()
    def judge(self) -> None:
        self.check(self.breaker.judge(self.now, self.counts))

    @rule()
    def trip(self) -> None:
        self.check(self.breaker.tripped(self.now, "tripped"))

    @rule()
    def recover(self) -> None:
        before = self.breaker.state, self.breaker.override
        changed = self.breaker.recovered(self.now, "recovered")
        assert changed == (before == ("half_open", None))
        self.check(changed)

    @rule()
    def wake(self) -> None:
        due = self.breaker.until is not None and self.now >= self.breaker.until
        changed = self.breaker.wake(self.now)
        assert changed == due
        self.check(changed)

    @rule(override=st.sampled_from(["open", "closed", None]))
    def force(self, override: Any) -> None:
        held = self.breaker.override
        changed = self.breaker.force(self.now, override, "somebody")
        assert changed == (override != held)
        if override is not None:
            assert self.breaker.state == override
        elif held == "open":
            assert self.breaker.state == "half_open"
        self.check(changed, by_hand=True)

    @invariant()
    def only_an_open_one_has_an_end_and_it_is_bounded(self) -> None:
        if not hasattr(self, "breaker"):
            return
        breaker, rules = self.breaker, self.limits
        assert (breaker.until is not None) == (breaker.state == "open" and breaker.override is None)
        if breaker.until is not None:
            length = breaker.until - breaker.since
            nominal = min(rules.open_for * 2 ** (breaker.openings - 1), rules.max_open_for)
            assert breaker.openings >= 1
            assert (1 - JITTER) * nominal - 1e-6 <= length <= nominal + 1e-6

    @precondition(lambda self: self.breaker.override is not None)
    @rule()
    def held_it_stays(self) -> None:
        held = self.breaker.override
        self.breaker.judge(self.now, self.counts)
        self.breaker.tripped(self.now, "x")
        self.breaker.recovered(self.now, "x")
        self.breaker.wake(self.now + 1e9)
        assert self.breaker.state == held


AnyLife.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestAnyLife = AnyLife.TestCase


def made(**rules: Any) -> CircuitBreaker:
    return CircuitBreaker(BreakerConfig(**rules), Random(1), 0.0)


def test_a_share_is_looked_at_only_with_enough_requests() -> None:
    breaker = made(error_rate=0.5, min_requests=20, window=10)
    assert not breaker.judge(1, Counts(0, 0, 0))
    assert not breaker.judge(2, Counts(19, 19, 0))
    assert breaker.judge(3, Counts(20, 19, 0))
    assert breaker.reason == "19 of 20 requests failed"


def test_what_is_older_than_the_window_is_forgotten() -> None:
    breaker = made(error_rate=0.5, min_requests=10, window=10)
    breaker.judge(0, Counts(0, 0, 0))
    breaker.judge(1, Counts(9, 9, 0))
    for second in range(2, 13):
        assert not breaker.judge(second, Counts(9, 9, 0))
    assert not breaker.judge(13, Counts(18, 10, 0))


def test_a_closed_one_forgets_what_opened_it() -> None:
    breaker = made(error_rate=0.5, min_requests=10, window=10, open_for=1)
    breaker.judge(0, Counts(0, 0, 0))
    assert breaker.judge(1, Counts(10, 10, 0))
    assert breaker.wake(2.5)
    assert breaker.recovered(2.6, "well")
    assert not breaker.judge(3, Counts(15, 10, 0))
    assert not breaker.judge(4, Counts(24, 10, 0))


def test_a_calm_time_makes_the_next_opening_short_again() -> None:
    breaker = made(open_for=10, max_open_for=100, window=5, consecutive_errors=1)
    now = 0.0
    for _ in range(3):
        breaker.tripped(now, "x")
        now = breaker.until or 0.0
        breaker.wake(now)
    assert breaker.openings == 3
    breaker.recovered(now, "well")
    breaker.tripped(now + 10, "x")
    assert breaker.openings == 4
    breaker.wake(breaker.until or 0.0)
    now = breaker.since
    breaker.recovered(now, "well")
    breaker.tripped(now + 101, "x")
    assert breaker.openings == 1


@pytest.mark.parametrize(
    ("breaker", "path"),
    [
        ({"open_for": "10m", "max_open_for": "1m"}, "load_balancer.breaker.open_for"),
        ({"error_rate": 0}, "load_balancer.breaker"),
        ({"error_rate": 1.5}, "load_balancer.breaker.error_rate"),
        ({"scope": "route"}, "load_balancer.breaker.scope"),
        ({"treshold": 1}, "load_balancer.breaker.treshold"),
    ],
)
def test_what_makes_no_sense_is_refused(breaker: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_document({"load_balancer": {"breaker": breaker}})
    assert [problem.path for problem in refused.value.errors] == [path]


@pytest.fixture
async def running() -> AsyncIterator[tuple[Controller, FakeEngine]]:
    engine = FakeEngine()
    controller = Controller(engine, MemoryStore(), admin_socket="/run/admin.sock")
    rules = {"scope": "both", "min_requests": 10, "open_for": "100ms", "half_open_requests": 4}
    document = {
        "backends": [
            {"id": "a", "url": "http://192.0.2.1"},
            {"id": "b", "url": "http://192.0.2.2"},
        ],
        "load_balancer": {"breaker": rules},
    }
    await controller.start(read_document(document))
    controller.start_background()
    yield controller, engine
    await controller.close()
    engine.close()


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


async def test_the_engine_is_told_each_step(running: tuple[Controller, FakeEngine]) -> None:
    controller, engine = running
    engine.seen = [{"pool": "default", "backend": "b", "requests": 0, "failed": 0, "slow": 0}]
    controller.breakers.judge()
    engine.seen = [{"pool": "default", "backend": "b", "requests": 10, "failed": 6, "slow": 0}]
    controller.breakers.judge()
    (told,) = engine.breaker_updates
    assert (told["id"], told["state"]) == ("b", "open")
    assert 60 <= (told["for_ms"] or 0) <= 100
    assert controller.health_counts() == (2, 1)
    await until(lambda: len(engine.breaker_updates) == 2)
    assert engine.breaker_updates[1] == {
        "pool": "default",
        "id": "b",
        "state": "half_open",
        "probes": 4,
        "for_ms": None,
    }
    engine.emit(
        {
            "kind": "breaker",
            "pool": "default",
            "backend": "b",
            "state": "closed",
            "reason": "4 probes went well",
        }
    )
    await until(lambda: controller.breakers.statuses()["default", "b"].state == "closed")
    # It is closed already, and may have opened again by now: nothing is said.
    assert len(engine.breaker_updates) == 2


async def test_a_pool_that_is_open_leaves_no_backend_usable(
    running: tuple[Controller, FakeEngine],
) -> None:
    controller, engine = running
    engine.emit(
        {"kind": "breaker", "pool": "default", "backend": None, "state": "open", "reason": "x"}
    )
    await until(lambda: controller.health_counts() == (2, 0))
    assert controller.breakers.statuses()["default", None].reason == "x"


async def test_what_a_late_request_opened_is_closed_again(
    running: tuple[Controller, FakeEngine],
) -> None:
    controller, engine = running
    await controller.patch({"load_balancer": {"breaker": {"scope": "endpoint"}}}, source="test")
    engine.emit(
        {"kind": "breaker", "pool": "default", "backend": None, "state": "open", "reason": "x"}
    )
    await until(lambda: engine.breaker_updates)
    assert [(each["id"], each["state"]) for each in engine.breaker_updates] == [(None, "closed")]


async def test_breakers_follow_the_configuration(running: tuple[Controller, FakeEngine]) -> None:
    controller, engine = running
    controller.breakers.force(("default", "b"), "open", "somebody")
    await controller.patch({"load_balancer": {"breaker": {"window": "20s"}}}, source="test")
    assert controller.breakers.statuses()["default", "b"].state == "open"
    await controller.patch({"load_balancer": {"breaker": {"scope": "pool"}}}, source="test")
    assert list(controller.breakers.statuses()) == [("default", None)]
    assert engine.breaker_updates[-1]["state"] == "closed"
