"""When a backend counts as healthy: a pure state machine over check results.

    unknown --pass--> healthy          the first check decides at once
    unknown --fail--> unhealthy
    healthy --unhealthy_threshold fails in a row--> unhealthy
    unhealthy --healthy_threshold passes in a row--> healthy

A result of the other kind starts the count anew; one that is certain decides at once. Nothing here knows of time or network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["unknown", "healthy", "unhealthy"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check's result and, in a few words, why."""

    passed: bool
    reason: str
    certain: bool = False
    """The server itself said so: the verdict changes without waiting for more of the kind."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How many equal results in a row change a verdict; each at least 1."""

    healthy: int
    unhealthy: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A backend's verdict and the results in a row that speak against it."""

    status: Status = "unknown"
    contrary: int = 0


def judge(standing: Standing, result: CheckResult, thresholds: Thresholds) -> Standing:
    """The standing after one more result."""
    wanted: Status = "healthy" if result.passed else "unhealthy"
    if result.certain or standing.status in ("unknown", wanted):
        return Standing(wanted)
    needed = thresholds.healthy if result.passed else thresholds.unhealthy
    contrary = standing.contrary + 1
    return Standing(wanted) if contrary >= needed else Standing(standing.status, contrary)
