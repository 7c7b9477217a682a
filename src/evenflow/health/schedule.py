"""When each backend is checked next: one heap, no task and no timer per backend.

A new target's first check comes soon after it was added; newcomers of one moment are started one
after another, so thousands of them make no burst. Its second check comes at a random moment of the
interval, which spreads targets added together over all of it, and every further one a jittered
interval later. Pure: the caller brings the clock and the randomness.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable
from random import Random
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

JITTER: Final = 0.1
"""Each interval is longer or shorter by up to this share."""

FIRST_CHECKS_PER_S: Final = 2000
"""How fast the first checks of newcomers are started; 10,000 of them take 5 s."""


class Schedule(Generic[K]):
    """The next check of every target. Times are in seconds on the caller's monotonic clock."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._heap: list[tuple[float, int, K]] = []
        # The heap's entries are never searched: an entry counts only while its number is the one
        # noted here, so removing and rescheduling cost nothing but a stale entry.
        self._numbers: dict[K, int] = {}
        self._next_number = 0
        self._newcomers: set[K] = set()

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, target: K) -> bool:
        return target in self._numbers

    def add(self, targets: Iterable[K], now: float) -> None:
        """Schedule the first checks of newcomers, the very first one at once."""
        for position, target in enumerate(targets):
            self._newcomers.add(target)
            self._put(target, now + position / FIRST_CHECKS_PER_S)

    def again(self, target: K, now: float, interval: float) -> None:
        """Schedule a target's next check about one interval from now, its second one sooner."""
        if target in self._newcomers:
            self._newcomers.discard(target)
            share = self._random.uniform(JITTER, 1)
        else:
            share = 1 + self._random.uniform(-JITTER, JITTER)
        self._put(target, now + interval * share)

    def remove(self, target: K) -> None:
        """Forget a target; forgetting an unknown one is harmless."""
        self._numbers.pop(target, None)
        self._newcomers.discard(target)

    def next_at(self) -> float | None:
        """When the next check is due, or `None` without targets."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[K]:
        """Take the targets whose check is due; each waits for `again` before the next one."""
        targets = []
        while self._heap and self._heap[0][0] <= now:
            _, number, target = heapq.heappop(self._heap)
            if self._numbers.get(target) == number:
                targets.append(target)
        return targets

    def _put(self, target: K, at: float) -> None:
        self._next_number += 1
        self._numbers[target] = self._next_number
        heapq.heappush(self._heap, (at, self._next_number, target))
        if len(self._heap) > 64 and len(self._heap) > 4 * len(self._numbers):
            self._heap = [entry for entry in self._heap if self._numbers.get(entry[2]) == entry[1]]
            heapq.heapify(self._heap)

    def _drop_stale(self) -> None:
        while self._heap and self._numbers.get(self._heap[0][2]) != self._heap[0][1]:
            heapq.heappop(self._heap)
