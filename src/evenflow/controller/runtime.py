"""What is known of backends besides their configuration: addresses, verdicts, slow-start ramps.

It is joined to the configuration by identity (pool, id and url) and so outlives every apply that
keeps the backend. Pure data: nothing here talks to the engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from evenflow.config import Backend, HealthCheck
from evenflow.plan import RuntimeState, effective_weight
from evenflow.resolve import Resolution

Key = tuple[str, str]
"""Pool and backend id."""

VerdictStatus = Literal["unknown", "healthy", "unhealthy"]

RAMP_FLOOR: Final = 0.1
"""The share of its weight with which a ramp begins."""


@dataclass(frozen=True, slots=True)
class Member:
    """One backend in one pool, with what the pool and the defaults say about it."""

    pool: str
    backend: Backend
    health_check: HealthCheck
    slow_start_s: float
    send_proxy: Literal["v1", "v2"] | None = None
    """The version of the PROXY header that the server expects."""
    http2: bool = False
    """The server speaks HTTP/2 and may speak nothing else."""

    @property
    def key(self) -> Key:
        """Names it in the running configuration."""
        return self.pool, self.backend.id


@dataclass(frozen=True, slots=True)
class WorkerRestarts:
    """How often workers of the engine panicked and began anew, and the last time."""

    count: int = 0
    worker: int | None = None
    reason: str = ""
    at: float | None = None
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What active health checks say about a backend. `unknown` counts as usable."""

    status: VerdictStatus = "unknown"
    reason: str = "not checked yet"
    since: float = 0.0
    """Unix seconds of the last change of status."""
    checked_at: float | None = None
    """Unix seconds of the last check."""
    checks_passed: int = 0
    checks_failed: int = 0


@dataclass(slots=True)
class Runtime:
    """The runtime state of all members. Times are monotonic seconds unless they say otherwise."""

    resolutions: dict[str, Resolution] = field(default_factory=dict)
    """By target address, of the targets that are names."""
    verdicts: dict[Key, Verdict] = field(default_factory=dict)
    ramps: dict[Key, float] = field(default_factory=dict)
    """When each running slow start began."""
    ejections: dict[Key, tuple[float, str]] = field(default_factory=dict)
    """Since when (Unix seconds) and why a member is ejected by passive health."""
    broken: set[Key] = field(default_factory=set)
    """Members whose breaker is not closed."""

    def copy(self) -> Runtime:
        """A copy that later changes do not touch, for a compilation in another thread."""
        return Runtime(
            dict(self.resolutions),
            dict(self.verdicts),
            dict(self.ramps),
            dict(self.ejections),
            set(self.broken),
        )

    def up(self, key: Key) -> bool:
        """Whether health lets the member have requests."""
        verdict = self.verdicts.get(key)
        return verdict is None or verdict.status != "unhealthy"

    def addresses(self, member: Member) -> tuple[str, ...]:
        """Where to connect; empty while its name does not resolve."""
        target = member.backend.target
        if target.resolved:
            return (target.address,)
        resolution = self.resolutions.get(target.address)
        return resolution.addresses if resolution is not None else ()

    def ramp(self, member: Member, now: float) -> float:
        """The share of its weight that slow start has reached: linear, from a tenth to the whole."""
        began = self.ramps.get(member.key)
        if began is None or member.slow_start_s <= 0:
            return 1.0
        return min(1.0, max(RAMP_FLOOR, (now - began) / member.slow_start_s))

    def weight(self, member: Member, now: float) -> int:
        """The weight in effect."""
        return effective_weight(member.backend, self.ramp(member, now))

    def states(
        self, members: Mapping[Key, Member], now: float, pool: str | None = None
    ) -> dict[Key, RuntimeState]:
        """What the plan needs to know of all members, or of one pool's.

        Members that are up and at their full weight need no entry.
        """
        noted = {key for key, verdict in self.verdicts.items() if verdict.status == "unhealthy"}
        noted |= self.ramps.keys() | self.ejections.keys() | self.broken
        return {
            key: RuntimeState(
                up=self.up(key),
                ramp=self.ramp(members[key], now),
                ejected=key in self.ejections or key in self.broken,
            )
            for key in noted
            if key in members and pool in (None, key[0])
        }

    def address_lists(self) -> dict[str, tuple[str, ...]]:
        """The addresses of every target that is a name."""
        return {target: found.addresses for target, found in self.resolutions.items()}

    def begin_ramp(self, member: Member, now: float) -> None:
        """Begin a slow start, where the member has one."""
        if member.slow_start_s > 0:
            self.ramps[member.key] = now

    def end_ramps(self, members: Mapping[Key, Member], now: float) -> None:
        """Forget the ramps that have reached their end."""
        for key, began in list(self.ramps.items()):
            member = members.get(key)
            if member is None or now - began >= member.slow_start_s:
                del self.ramps[key]

    def forget(self, keys: Iterable[Key]) -> None:
        """Forget members that are gone or have become other servers."""
        for key in keys:
            self.verdicts.pop(key, None)
            self.ramps.pop(key, None)
            self.ejections.pop(key, None)
            self.broken.discard(key)

    def set_verdict(self, key: Key, verdict: Verdict) -> bool:
        """Take a new verdict; whether that changes if the member gets requests."""
        before = self.up(key)
        self.verdicts[key] = verdict
        return self.up(key) != before
