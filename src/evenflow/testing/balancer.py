"""`running_balancer`: a balancer inside the test's own program, on a free port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evenflow import Config, LoadBalancer


@asynccontextmanager
async def running_balancer(config: Config | Mapping[str, object]) -> AsyncIterator[LoadBalancer]:
    """Serve `config` until the block is left; raises `ConfigError` when it is refused.

    A mapping is a configuration document; where it names no port a free one is taken, and state
    is kept in memory unless it says otherwise.
    """
    # Late, so that the origins and clients beside this serve tests that need no engine.
    from evenflow import Config, LoadBalancer
    from evenflow.testing.waiting import free_port

    if not isinstance(config, Config):
        document = dict(config)
        balancer = document.get("load_balancer")
        settings = dict(balancer) if isinstance(balancer, Mapping) else {}
        document["load_balancer"] = {"port": free_port(), **settings}
        document.setdefault("state", {"store": "memory"})
        config = Config.model_validate(document)
    async with LoadBalancer(config) as balancer_:
        yield balancer_
