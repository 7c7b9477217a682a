"""evenflow: a load balancer programmed in Python, with an engine in Rust.

`LoadBalancer` serves inside any asyncio program; `Config` and `Backend` say what. Strategies of
your own start from `evenflow.strategies`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evenflow.balancer import LoadBalancer, Request
    from evenflow.config import Backend, Config, ConfigError, HealthCheck, Pool, Problem, Route
    from evenflow.controller import (
        Applied,
        BackendDiscovered,
        BackendNotFound,
        BackendStatus,
        StateError,
        StateStore,
    )
    from evenflow.engine import EngineError
    from evenflow.state import MemoryStore, SqliteStore

__all__ = [
    "Applied",
    "Backend",
    "BackendDiscovered",
    "BackendNotFound",
    "BackendStatus",
    "Config",
    "ConfigError",
    "EngineError",
    "HealthCheck",
    "LoadBalancer",
    "MemoryStore",
    "Pool",
    "Problem",
    "Request",
    "Route",
    "SqliteStore",
    "StateError",
    "StateStore",
]

# Imported on first use, so that a command which only asks a running balancer starts quickly.
_HOMES = {
    "Applied": "evenflow.controller",
    "Backend": "evenflow.config",
    "BackendDiscovered": "evenflow.controller",
    "BackendNotFound": "evenflow.controller",
    "BackendStatus": "evenflow.controller",
    "Config": "evenflow.config",
    "ConfigError": "evenflow.config",
    "EngineError": "evenflow.engine",
    "HealthCheck": "evenflow.config",
    "LoadBalancer": "evenflow.balancer",
    "MemoryStore": "evenflow.state",
    "Pool": "evenflow.config",
    "Problem": "evenflow.config",
    "Request": "evenflow.balancer",
    "Route": "evenflow.config",
    "SqliteStore": "evenflow.state",
    "StateError": "evenflow.controller",
    "StateStore": "evenflow.controller",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
