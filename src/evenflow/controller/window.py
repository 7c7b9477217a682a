"""Counters that only grow, and what was added to them of late."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

STEPS = 20
"""Samples kept of one window; what was added is exact to one step of that."""
LONGEST = 30
"""So many windows are looked back at the most, however little was added."""


class Window:
    """Samples of some counters over a time. `now` is a monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, tuple[int, ...]]] = deque(maxlen=LONGEST * STEPS)

    def add(
        self, now: float, counts: Sequence[int], length_s: float, *, enough: int = 0
    ) -> tuple[int, ...]:
        """Take the counters of now; what was added to each within the last `length_s`.

        Where all that is fewer than `enough` in sum, a longer time is looked at, of up to thirty
        windows. Counters that fell
        began anew, and so does the window.
        """
        samples, latest = self._samples, tuple(counts)
        if samples and any(new < old for new, old in zip(latest, samples[-1][1], strict=True)):
            samples.clear()
        while len(samples) > 1 and samples[1][0] <= now - length_s:
            if sum(latest) - sum(samples[1][1]) < enough:
                break
            samples.popleft()
        if len(samples) < 2 or now - samples[-2][0] >= length_s / STEPS:
            samples.append((now, latest))
        else:
            samples[-1] = (now, latest)
        return tuple(new - old for new, old in zip(latest, samples[0][1], strict=True))

    def clear(self) -> None:
        """Forget everything up to the last counters."""
        while len(self._samples) > 1:
            self._samples.popleft()
