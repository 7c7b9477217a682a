"""One backend as the API and the library show it: configuration, engine and health joined."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from evenflow.controller.breakers import Breakers, BreakerStatus
from evenflow.controller.runtime import Key, Member, Runtime, Verdict
from evenflow.controller.stats import error_count
from evenflow.engine import EndpointSnapshot, Snapshot

Status = Literal["healthy", "unhealthy", "unknown", "ejected", "tripped", "draining"]


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """A backend in one pool. `unknown` (not checked yet) is usable; `reason` says why not."""

    id: str
    pool: str
    url: str
    status: Status
    reason: str
    since: float
    """Unix seconds since when the status is what it is."""
    weight: int
    """As configured."""
    effective_weight: int
    """In effect; less than `weight` during slow start."""
    active_connections: int
    max_connections: int
    health_check_path: str
    checked_at: float | None
    """Unix seconds of the last health check."""
    drain: bool
    usable: bool
    addresses: tuple[str, ...]
    labels: Mapping[str, str]
    requests: int
    errors: int
    latency_s: float
    breaker: BreakerStatus | None = None
    """Its own breaker, where it has one."""
    discovered: str | None = None
    """The source that found it; `None` where it is configured."""

    @property
    def healthy(self) -> bool:
        """Whether it gets requests as far as its health goes."""
        return self.status in ("healthy", "unknown")

    def document(self) -> dict[str, Any]:
        """As plain JSON values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            **values,
            "addresses": list(self.addresses),
            "labels": dict(self.labels),
            "breaker": None if self.breaker is None else asdict(self.breaker),
        }


def backend_statuses(
    members: Iterable[Member],
    runtime: Runtime,
    snapshot: Snapshot,
    joined: Mapping[Key, float],
    ejections: Mapping[Key, tuple[float, str]],
    breakers: Breakers,
    discovered: Mapping[Key, str],
) -> list[BackendStatus]:
    """All members, in the configuration's order.

    `joined` has the Unix time since when each is there, `ejections` each one's time and reason,
    `discovered` the source of each that is not configured.
    """
    endpoints = {(entry["pool"], entry["id"]): entry for entry in snapshot["endpoints"]}
    return [
        backend_status(
            member, runtime, endpoints.get(member.key), joined, ejections, breakers, discovered
        )
        for member in members
    ]


def backend_status(
    member: Member,
    runtime: Runtime,
    endpoint: EndpointSnapshot | None,
    joined: Mapping[Key, float],
    ejections: Mapping[Key, tuple[float, str]],
    breakers: Breakers,
    discovered: Mapping[Key, str],
) -> BackendStatus:
    """One member; `endpoint` is what the engine knows of it."""
    now = time.monotonic()
    backend, key = member.backend, member.key
    verdict = runtime.verdicts.get(key)
    addresses = runtime.addresses(member)
    ejected_for_s = endpoint["ejected_for_s"] if endpoint is not None else 0.0
    status, reason, since = _judged(member, verdict, joined.get(key, 0.0))
    breaker = breakers.status(key)
    if not addresses:
        resolution = runtime.resolutions.get(backend.target.address)
        status, reason = "unhealthy", resolution.error if resolution else "not resolved yet"
    elif backend.drain:
        status, reason = "draining", "takes no new requests"
    elif ejected_for_s > 0 and status != "unhealthy":
        status = "ejected"
        since, reason = ejections.get(key, (since, "too many errors in a row"))
    elif breaker is not None and breaker.state == "open" and status != "unhealthy":
        status, since, reason = "tripped", breaker.since, breaker.reason
    return BackendStatus(
        id=backend.id,
        pool=member.pool,
        url=backend.url,
        status=status,
        reason=reason,
        since=since,
        weight=backend.weight,
        effective_weight=runtime.weight(member, now),
        active_connections=endpoint["in_flight"] if endpoint is not None else 0,
        max_connections=backend.max_connections,
        health_check_path=member.health_check.path,
        checked_at=verdict.checked_at if verdict is not None else None,
        drain=backend.drain,
        usable=endpoint is not None and endpoint["usable"] and not breakers.refuses(*key),
        addresses=addresses,
        labels=backend.labels,
        requests=endpoint["requests"] if endpoint is not None else 0,
        errors=error_count(endpoint) if endpoint is not None else 0,
        latency_s=endpoint["latency_s"] if endpoint is not None else 0.0,
        breaker=breaker,
        discovered=discovered.get(key),
    )


def _judged(member: Member, verdict: Verdict | None, joined_at: float) -> tuple[Status, str, float]:
    if not member.health_check.enabled:
        return "healthy", "health checks are off", joined_at
    if verdict is None:
        return "unknown", "not checked yet", joined_at
    return verdict.status, verdict.reason, verdict.since or joined_at
