"""A source that is followed: what it found last serves on, whatever happens to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from evenflow.config import Discover
from evenflow.discovery.endpoint import Answer, DiscoveryError, Endpoint
from evenflow.discovery.follower import Follower
from tests.unit.discovery.conftest import entry

Step = Answer | Exception


def some(*numbers: int) -> Answer:
    """An answer with these endpoints, after which the next one comes at once."""
    return Answer([Endpoint(f"e{n}", f"http://10.0.0.{n}") for n in numbers], 0.0)


class Script:
    """A source that plays steps; the last one is for ever. Errors end it, as they do a real one."""

    def __init__(self, *steps: Step) -> None:
        self._steps: Iterator[Step] = iter(steps)
        self._gate = asyncio.Semaphore(0)
        self.begun = 0

    def step(self) -> None:
        """Let one more step happen."""
        self._gate.release()

    async def __call__(self, _: Discover) -> AsyncIterator[Answer]:
        self.begun += 1
        while True:
            await self._gate.acquire()
            step = next(self._steps)
            if isinstance(step, Exception):
                raise step
            yield step


@asynccontextmanager
async def following(
    script: Script, **fields: Any
) -> AsyncIterator[tuple[Follower, Callable[[Callable[[], bool]], Any], list[tuple[str, str]]]]:
    told: list[tuple[str, str]] = []
    settings = entry(**{"dns": "users.internal:80", **fields})
    follower = Follower(
        "users",
        settings,
        script,
        lambda: None,
        lambda event, reason, *_: told.append((event, reason)),
    )
    running = asyncio.ensure_future(follower.run())

    async def after_step(until: Callable[[], bool]) -> None:
        script.step()
        async with asyncio.timeout(10):
            while not until():
                await asyncio.sleep(0.005)

    try:
        yield follower, after_step, told
    finally:
        running.cancel()


def ids(follower: Follower) -> list[str]:
    return [backend.id for backend in follower.backends]


async def test_a_failure_leaves_what_there_was_and_is_told_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("evenflow.discovery.follower.BACKOFF_S", (0.01, 0.02))
    script = Script(some(1, 2), DiscoveryError("gone"), DiscoveryError("gone"), some(1, 2), some(2))
    async with following(script) as (follower, step, told):
        await step(lambda: ids(follower) == ["e1", "e2"])
        await step(lambda: follower.status().failures == 1)
        await step(lambda: follower.status().failures == 2)
        status = follower.status()
        assert ids(follower) == ["e1", "e2"]
        assert (status.error, status.updates["failed"], status.endpoints) == ("gone", 2, 2)
        assert status.next_attempt is not None
        await step(lambda: follower.status().error is None)
        await step(lambda: ids(follower) == ["e2"])
        assert [event for event, _ in told] == [
            "endpoints changed",
            "endpoints not found",
            "source answers again",
            "endpoints changed",
        ]
        assert told[1][1] == "users.internal:80: gone; the last 2 stay"
        assert told[-1][1] == "1 went; now 1 endpoint"


async def test_an_empty_answer_empties_nothing_unless_it_may() -> None:
    script = Script(some(1), some(), some(), some(1))
    async with following(script) as (follower, step, told):
        await step(lambda: ids(follower) == ["e1"])
        await step(lambda: follower.status().updates["empty"] == 1)
        await step(lambda: follower.status().updates["empty"] == 2)
        assert ids(follower) == ["e1"]
        assert "allow_empty is false" in str(follower.status().error)
        assert [event for event, _ in told] == ["endpoints changed", "endpoints kept"]
        await step(lambda: follower.status().error is None)
    script = Script(some(1), some())
    async with following(script, allow_empty=True) as (follower, step, told):
        await step(lambda: ids(follower) == ["e1"])
        await step(lambda: ids(follower) == [])
        assert follower.status().updates["changed"] == 2


async def test_answers_that_no_pool_can_have_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("evenflow.discovery.follower.BACKOFF_S", (0.01, 0.02))
    wrong = Answer([Endpoint("x", "tcp://10.0.0.1:5")], 0.0)
    script = Script(some(1), wrong, RuntimeError("of a user"), TimeoutError())
    async with following(script) as (follower, step, _):
        await step(lambda: ids(follower) == ["e1"])
        for count, said in enumerate(
            ("expected http://", "RuntimeError: of a user", "no answer within 5 s"), 1
        ):
            await step(partial(_has_failed, follower, count))
            assert said in str(follower.status().error)
        assert ids(follower) == ["e1"]


def _has_failed(follower: Follower, times: int) -> bool:
    return follower.status().failures == times


async def test_the_same_set_in_another_object_is_no_change() -> None:
    script = Script(some(1, 2), some(1, 2))
    async with following(script) as (follower, step, told):
        await step(lambda: len(ids(follower)) == 2)
        before = list(follower.backends)
        await step(lambda: follower.status().updates["unchanged"] == 1)
        assert all(new is old for new, old in zip(follower.backends, before, strict=True))
        assert len(told) == 1


async def test_waits_grow_and_are_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    real = asyncio.sleep

    async def noting(seconds: float) -> None:
        waits.append(seconds)
        await real(0)

    script = Script(*(DiscoveryError("gone") for _ in range(12)))
    async with following(script) as (follower, _, told):
        monkeypatch.setattr("evenflow.discovery.follower.asyncio.sleep", noting)
        for _ in range(12):
            script.step()
        while follower.status().failures < 12:
            await real(0.001)
        monkeypatch.undo()
    assert 0.4 <= waits[0] <= 0.6
    assert all(48 <= wait <= 72 for wait in waits[8:])
    assert len(set(waits)) == len(waits)
    assert len(told) == 2  # the first, and every tenth


async def test_a_changed_entry_begins_with_what_was_found_before_it() -> None:
    script = Script(some(1))
    async with following(script) as (before, step, _):
        await step(lambda: ids(before) == ["e1"])
        async with (
            following(Script()) as (same, _, _),
            following(Script(), scheme="https") as (other, _, _),
        ):
            same.take_over(before)
            other.take_over(before)
            assert (ids(same), ids(other)) == (["e1"], [])
