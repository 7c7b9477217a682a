"""A snapshot as the engine gives it, of any size."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from evenflow.engine import EndpointSnapshot, Histogram, Snapshot

BOUNDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]


def times(*, count: int = 0) -> Histogram:
    """`count` observations of 2 ms."""
    counts = [0] * (len(BOUNDS) + 1)
    counts[2] = count
    return {"counts": counts, "sum_s": count * 0.002}


def endpoint(pool: str, name: str, *, requests: int = 0) -> EndpointSnapshot:
    """One endpoint."""
    return {
        "pool": pool,
        "id": name,
        "target": "127.0.0.1:1",
        "up": True,
        "drain": False,
        "usable": True,
        "ejected_for_s": 0.0,
        "weight": 100,
        "in_flight": 1,
        "idle_connections": 2,
        "latency_s": 0.002,
        "requests": requests,
        "errors": {"connect": 1, "reset": 2, "timeout": 3, "protocol": 4, "status_5xx": 5},
        "connects": 3,
        "tls_failures": {"unknown_issuer": 2},
        "bytes_sent": 100,
        "bytes_received": 200,
        "connect": times(),
        "first_byte": times(count=requests),
        "total": times(count=requests),
    }


def snapshot_of(*names: str) -> Snapshot:
    """One pool of these backends; the first one has served five requests."""
    return {
        "revision": 7,
        "uptime_s": 10.0,
        "bounds_s": BOUNDS,
        "workers": [{"id": 0, "busy_s": 2.5, "restarts": 2, "panics": 3}],
        "listeners": [
            {
                "name": "main",
                "connections": 3,
                "accepted": 10,
                "rejected": 0,
                "handshakes": {"full": 7},
            }
        ],
        "requests": [
            {"route": "default", "pool": "default", "backend": names[0], "status": 200, "count": 5},
            {"route": "default", "pool": "default", "backend": "gone", "status": 200, "count": 9},
            {"route": "default", "pool": "", "backend": "", "status": 503, "count": 2},
            {"route": "", "pool": "", "backend": "", "status": 400, "count": 1},
        ],
        "methods": [{"method": "GET", "status": 200, "count": 14}],
        "route_events": [],
        "routes": [
            {
                "route": "default",
                "duration": times(count=14),
                "tunnels": {"active": 3, "opened": 5, "bytes_received": 70, "bytes_sent": 900},
            }
        ],
        "endpoints": [
            *(endpoint("default", name, requests=5 if name == names[0] else 0) for name in names),
            endpoint("evenflow-admin", "control-plane"),
        ],
        "pools": [
            {
                "name": name,
                "queue_length": 4,
                "queue_timeouts": 1,
                "queue_rejected": 2,
                "ejections": 6,
                "retries": {"connect": 1, "reset": 0, "timeout": 0, "status": 0},
                "retries_over_budget": 0,
                "breaker_refused": 0,
            }
            for name in ("default", "evenflow-admin")
        ],
        "filters": [{"filter": "security", "limited": 8}],
        "errors": [{"reason": "no_backend", "count": 2}],
        "access_log": {"written": 17, "dropped": 1},
        "memory": {"held_bytes": 4096, "limit_bytes": 1 << 30},
    }


@pytest.fixture
def snapshot() -> Callable[..., Snapshot]:
    """Makes a snapshot of the named backends."""
    return snapshot_of
