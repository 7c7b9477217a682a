"""The schedule: no burst, no target forgotten, intervals kept."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from evenflow.health.schedule import FIRST_CHECKS_PER_S, JITTER, Schedule


def run(schedule: Schedule[int], interval: float, until: float) -> dict[int, list[float]]:
    """Check whatever is due until a moment; when each target was checked."""
    checked: dict[int, list[float]] = {}
    while (at := schedule.next_at()) is not None and at <= until:
        for target in schedule.due(at):
            checked.setdefault(target, []).append(at)
            schedule.again(target, at, interval)
    return checked


def test_a_new_target_is_checked_at_once() -> None:
    schedule = Schedule[int](Random(1))
    schedule.add([7], now=100.0)
    assert schedule.due(100.0) == [7]


def test_thousands_of_newcomers_make_no_burst() -> None:
    schedule = Schedule[int](Random(1))
    schedule.add(range(10_000), now=0.0)
    checked = run(schedule, interval=30.0, until=90.0)
    assert len(checked) == 10_000
    per_tick = Counter(int(at / 0.05) for times in checked.values() for at in times)
    assert max(per_tick.values()) <= FIRST_CHECKS_PER_S * 0.05 * 1.5


@given(st.integers(0, 2**32), st.floats(0.05, 3600))
def test_checks_follow_each_other_within_the_jitter(seed: int, interval: float) -> None:
    schedule = Schedule[int](Random(seed))
    schedule.add([1], now=0.0)
    times = run(schedule, interval, until=interval * 10)[1]
    assert 0 < times[1] - times[0] <= interval
    for before, after in pairwise(times[1:]):
        assert interval * (1 - JITTER) * 0.999 <= after - before <= interval * (1 + JITTER) * 1.001


def test_a_removed_target_is_not_checked_again() -> None:
    schedule = Schedule[int](Random(1))
    schedule.add([1, 2], now=0.0)
    schedule.remove(1)
    assert schedule.due(10.0) == [2]
    assert schedule.next_at() is None


def test_rescheduling_a_target_keeps_one_entry_of_it() -> None:
    schedule = Schedule[int](Random(1))
    for moment in range(1000):
        schedule.add([1], now=float(moment))
    assert schedule.due(2000.0) == [1]
