"""Building the tables that pickers walk or index, from weights."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush, heapreplace
from math import gcd, isfinite

from .picker import TABLE_SLOTS

_RESOLUTION = 1000
"""Parts of one that a weight which is no whole number is counted in."""


def whole_weights(weights: Sequence[float], slots: int = TABLE_SLOTS) -> list[int]:
    """The smallest whole numbers in proportion to `weights` whose sum is at most `slots`.

    Exact where that is possible within `slots`; else rounded, each at least 1 (so with more
    weights than slots all are 1). Raises ValueError unless all weights are above 0.
    """
    distinct = set(weights)
    if not all(isfinite(weight) and weight > 0 for weight in distinct):
        raise ValueError("expected weights above 0")
    if len(distinct) <= 1 or len(weights) >= slots:
        return [1] * len(weights)
    if all(weight == int(weight) for weight in distinct):
        whole = [int(weight) for weight in weights]
    else:
        whole = [max(1, round(weight * _RESOLUTION)) for weight in weights]
    divisor = gcd(*whole)
    whole = [weight // divisor for weight in whole]
    total = sum(whole)
    if total <= slots:
        return whole
    return _scaled(whole, total, slots)


def _scaled(weights: list[int], total: int, slots: int) -> list[int]:
    """Largest remainders: weights that sum to `slots` or a little less, each at least 1."""
    raised = [max(1, weight * slots // total) for weight in weights]
    spare = slots - sum(raised)
    if spare > 0:
        by_remainder = sorted(
            range(len(weights)), key=lambda index: -(weights[index] * slots % total)
        )
        for index in by_remainder[:spare]:
            raised[index] += 1
        return raised
    # Raising the lightest to 1 went over; take it back from the heaviest, one at a time.
    heaviest = [(-weight, index) for index, weight in enumerate(raised)]
    heapify(heaviest)
    for _ in range(-spare):
        weight, index = heaviest[0]
        raised[index] -= 1
        heapreplace(heaviest, (weight + 1, index))
    return raised


def smooth_order(weights: Sequence[int]) -> list[int]:
    """One round in which index i appears `weights[i]` times, spread as evenly as can be.

    After any t steps of the round, i has appeared t * weights[i] / sum times, give or take less
    than one: of those that are not ahead of this, the one that must appear soonest is next
    (earliest eligible virtual deadline first). O(S log n) for a round of S steps.
    """
    total = sum(weights)
    if total == len(weights):
        return list(range(total))
    # An index's turn number `nth` is open from nth * total / weight, when it is no longer ahead,
    # and due one such length later.
    ready = [(total / weight, index, 0) for index, weight in enumerate(weights)]
    heapify(ready)
    waiting: list[tuple[int, int, int]] = []
    order: list[int] = []
    for step in range(total):
        while waiting and waiting[0][0] <= step:
            _, index, nth = heappop(waiting)
            heappush(ready, ((nth + 1) * total / weights[index], index, nth))
        _, index, nth = ready[0]
        order.append(index)
        nth += 1
        opens = -(-nth * total // weights[index])
        if opens <= step + 1 < total:
            heapreplace(ready, ((nth + 1) * total / weights[index], index, nth))
        else:
            heappop(ready)
            heappush(waiting, (opens, index, nth))
    return order
