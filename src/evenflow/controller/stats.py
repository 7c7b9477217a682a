"""The original's statistics shape, made from an engine snapshot. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

from evenflow.engine import EndpointSnapshot, ErrorCount, Snapshot

RATE_WINDOW_S: Final = 10.0
ADMIN_POOL: Final = "evenflow-admin"
"""The control plane's own pool; its traffic is nobody's statistics."""


def error_count(endpoint: EndpointSnapshot) -> int:
    """All failures of an endpoint, whatever their kind."""
    errors = endpoint["errors"]
    return (
        errors["connect"]
        + errors["reset"]
        + errors["timeout"]
        + errors["protocol"]
        + errors["status_5xx"]
    )


class RequestRate:
    """Requests per second over the last seconds, from the totals of successive snapshots."""

    def __init__(self, window_s: float = RATE_WINDOW_S) -> None:
        self._window = window_s
        self._samples: deque[tuple[float, int]] = deque()

    def sample(self, uptime_s: float, total: int) -> None:
        """Note one total; the engine's clock counts, so late callers do not skew the rate."""
        if self._samples and uptime_s < self._samples[-1][0]:
            return
        self._samples.append((uptime_s, total))
        while len(self._samples) > 2 and self._samples[1][0] <= uptime_s - self._window:
            self._samples.popleft()

    @property
    def latest(self) -> float:
        """The rate up to the newest sample."""
        return self.per_second(*self._samples[-1]) if self._samples else 0.0

    def per_second(self, uptime_s: float, total: int) -> float:
        """The rate from the oldest sample in the window to now; since the start without one."""
        since, before = self._samples[0] if self._samples else (0.0, 0)
        elapsed = uptime_s - since
        if elapsed < 0.1:
            since, before, elapsed = 0.0, 0, uptime_s
        return round((total - before) / elapsed, 2) if elapsed > 0 else 0.0


def total_requests(snapshot: Snapshot) -> int:
    """All requests but the control plane's own."""
    return sum(entry["count"] for entry in snapshot["requests"])


def total_errors(snapshot: Snapshot) -> int:
    """Requests that were answered with a 5xx, by a backend or by the balancer itself."""
    return sum(entry["count"] for entry in snapshot["requests"] if entry["status"] >= 500)


def average_response_time_s(snapshot: Snapshot) -> float:
    """The mean duration of a request, 0 before the first."""
    count = sum(sum(route["duration"]["counts"]) for route in snapshot["routes"])
    total = sum(route["duration"]["sum_s"] for route in snapshot["routes"])
    return total / count if count else 0.0


def milliseconds(seconds: float) -> str:
    """A duration as the original prints it: `25ms`, `0.8ms`."""
    value = seconds * 1000
    return f"{value:.0f}ms" if value >= 10 or value == 0 else f"{value:.3g}ms"


def backend_stats(endpoints: Iterable[EndpointSnapshot]) -> dict[str, dict[str, Any]]:
    """Each backend's numbers by its id; one that serves several pools shows their sums."""
    stats: dict[str, dict[str, Any]] = {}
    times: dict[str, tuple[float, int]] = {}
    for endpoint in endpoints:
        if endpoint["pool"] == ADMIN_POOL:
            continue
        name = endpoint["id"]
        entry = stats.setdefault(
            name, {"total_requests": 0, "total_errors": 0, "active_connections": 0}
        )
        entry["total_requests"] += endpoint["requests"]
        entry["total_errors"] += error_count(endpoint)
        entry["active_connections"] += endpoint["in_flight"]
        spent, count = times.get(name, (0.0, 0))
        total = endpoint["total"]
        times[name] = spent + total["sum_s"], count + sum(total["counts"])
    for name, (spent, count) in times.items():
        stats[name]["average_response_time"] = milliseconds(spent / count if count else 0.0)
    return stats


def stats_document(snapshot: Snapshot, rate: RequestRate) -> dict[str, Any]:
    """Statistics in the original's shape."""
    total = total_requests(snapshot)
    return {
        "total_requests": total,
        "total_errors": total_errors(snapshot),
        "average_response_time": milliseconds(average_response_time_s(snapshot)),
        "requests_per_second": rate.per_second(
            snapshot["uptime_s"], sum(entry["count"] for entry in snapshot["methods"])
        ),
        "backend_stats": backend_stats(snapshot["endpoints"]),
        "errors": _by_reason(snapshot["errors"]),
        "uptime_seconds": round(snapshot["uptime_s"], 3),
    }


def _by_reason(errors: Iterable[ErrorCount]) -> Mapping[str, int]:
    return {entry["reason"]: entry["count"] for entry in errors}
