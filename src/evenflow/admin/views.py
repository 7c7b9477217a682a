"""Backends as the HTTP interface shows them, and back."""

from collections.abc import Iterable, Mapping
from typing import Any

from evenflow.config import Backend
from evenflow.controller import BackendStatus, BreakerStatus, Key, Member
from evenflow.observe.logs import timestamp

_STATUS_KEYS = frozenset(
    {
        "status",
        "reason",
        "since",
        "checked_at",
        "usable",
        "addresses",
        "effective_weight",
        "active_connections",
        "requests",
        "errors",
        "latency_ms",
        "breaker",
        "discovered",
        # What a changing request adds to a backend.
        "revision",
        "changes",
        "warnings",
    }
)


def backend_views(
    members: Mapping[Key, Member], statuses: Iterable[BackendStatus]
) -> list[dict[str, Any]]:
    """Each backend's configuration and how it is, in the order given."""
    return [
        _view(None if member is None else member.backend, status)
        for status in statuses
        for member in (members.get((status.pool, status.id)),)
    ]


def _view(backend: Backend | None, status: BackendStatus) -> dict[str, Any]:
    configured = backend.model_dump(mode="json", exclude_none=True) if backend is not None else {}
    return {
        "id": status.id,
        "url": status.url,
        "pool": status.pool,
        "status": status.status,
        "reason": status.reason,
        "since": timestamp(status.since),
        "checked_at": None if status.checked_at is None else timestamp(status.checked_at),
        **configured,
        "weight": status.weight,
        "effective_weight": status.effective_weight,
        "active_connections": status.active_connections,
        "usable": status.usable,
        "addresses": list(status.addresses),
        "requests": status.requests,
        "errors": status.errors,
        "latency_ms": round(status.latency_s * 1000, 3),
        "breaker": breaker_view(status.breaker),
        "discovered": status.discovered,
    }


def breaker_view(status: BreakerStatus | None) -> dict[str, Any] | None:
    """How a circuit breaker stands."""
    if status is None:
        return None
    return {
        "state": status.state,
        "reason": status.reason,
        "since": timestamp(status.since),
        "until": None if status.until is None else timestamp(status.until),
        "held": status.override is not None,
    }


def configured_part(view: Mapping[str, Any]) -> dict[str, Any]:
    """A backend as it was shown, or as a person wrote it, without what tells of its status."""
    return {key: value for key, value in view.items() if key not in _STATUS_KEYS}
