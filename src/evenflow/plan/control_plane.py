"""The balancer's own paths: internal routes to the control plane, claimed before any other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from evenflow.config import Config
from evenflow.config.paths import CONTROL_POOL, exposed_paths

from . import document

CONTROL_LISTENER = CONTROL_POOL
_FIRST_BYTE_MS = 300_000
_IDLE_MS = 3_600_000


def control_pool(admin_socket: str) -> document.Pool:
    """The control plane as a pool of one, behind the Unix socket at `admin_socket`."""
    address = f"unix:{admin_socket}"
    return {
        "name": CONTROL_POOL,
        "picker": {"cycle": {"table": [0]}},
        "endpoints": [
            {
                "id": "control-plane",
                "target": address,
                "addresses": [address],
                "weight": 1,
                "max_connections": 0,
                "up": True,
                "drain": False,
                "connect_timeout_ms": 5000,
                "first_byte_timeout_ms": _FIRST_BYTE_MS,
                "idle_timeout_ms": _IDLE_MS,
            }
        ],
        "use_all": True,
        "panic": None,
        "queue": {"max": 0, "timeout_ms": 0},
        "outlier": None,
        "connections": {"max_idle": 16, "idle_ms": 4000},
        "retry_budget": 0.0,
        "retry_floor": 0,
    }


def control_routes(
    config: Config, listeners: Sequence[str], hosts: Iterable[str]
) -> list[document.Route]:
    """The routes of what is exposed on `listeners`, and of everything on the own listener.

    They stand once for any host and once for each of `hosts`, since a route for a host would else
    take the balancer's paths there.
    """
    routes: list[document.Route] = []
    if listeners:
        for host in (None, *sorted(hosts)):
            for name, path in exposed_paths(config):
                label = name if host is None else f"{name}@{host}"
                routes.append(_route(label, list(listeners), host, path))
    if config.admin.listen is not None:
        routes.append(_route(CONTROL_LISTENER, [CONTROL_LISTENER], None, None))
    return routes


def _route(name: str, listeners: list[str], host: str | None, path: str | None) -> document.Route:
    return {
        "name": name,
        "listeners": listeners,
        "match": {"host": host, "path": path_match(path)},
        "filters": [],
        "pool": CONTROL_POOL,
        "internal": True,
        "timeout_ms": 0,
        "retries": {
            "max": 0,
            "delay_ms": 0,
            "per_try_timeout_ms": 0,
            "statuses": [],
            "on_timeout": False,
        },
    }


def path_match(pattern: str | None) -> document.PathMatch | None:
    """`/users` exactly, `/users/*` and all below it, and any path for None and `/*`."""
    if pattern is None or pattern == "/*":
        return None
    if pattern.endswith("/*"):
        return {"prefix": pattern.removesuffix("/*")}
    return {"exact": pattern}
