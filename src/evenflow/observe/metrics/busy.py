"""How busy the engine's workers are."""

from __future__ import annotations

from collections.abc import Mapping

from evenflow.engine import Snapshot


class BusyRatios:
    """Remembers the workers' times from page to page, because a ratio needs two moments."""

    def __init__(self) -> None:
        self._uptime_s = 0.0
        self._busy: dict[int, float] = {}
        self._ratios: dict[int, float] = {}

    def update(self, snapshot: Snapshot) -> Mapping[int, float]:
        """The ratios since the last call that was at least a second ago, or since the start."""
        elapsed = snapshot["uptime_s"] - self._uptime_s
        if elapsed >= 1 or not self._ratios:
            self._ratios = {
                w["id"]: min(1.0, max(0.0, (w["busy_s"] - self._busy.get(w["id"], 0.0)) / elapsed))
                if elapsed > 0
                else 0.0
                for w in snapshot["workers"]
            }
            self._busy = {w["id"]: w["busy_s"] for w in snapshot["workers"]}
            self._uptime_s = snapshot["uptime_s"]
        return self._ratios
