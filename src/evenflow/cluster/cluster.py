"""The cluster as the balancer has it: follows the configuration, and runs what belongs to it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from evenflow.cluster.connection import Connection
from evenflow.cluster.limits import LimitExchange
from evenflow.cluster.membership import HEARTBEAT_S, Membership, Node
from evenflow.config import ClusterConfig, Config, ConfigError
from evenflow.controller import Controller, StateError
from evenflow.controller.tasks import OwnedTasks
from evenflow.engine import EngineError
from evenflow.redis_client import talking

if TYPE_CHECKING:
    from redis.asyncio import Redis

_CLOSE_TIMEOUT_S: Final = 3.0

_log = structlog.get_logger("evenflow.cluster")


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """How the cluster is from here."""

    name: str
    """This node's."""
    up: bool
    """Whether the server is reached."""
    since: float
    """Since when it is or is not, in Unix seconds."""
    error: str | None
    nodes: Sequence[Node]
    messages: Mapping[str, int]
    """Messages about limits by what became of them."""
    untold: int
    """Requests that passed limits of the fleet and were not told to others."""


class Cluster:
    """This node's membership, while the configuration has a `cluster` section.

    `auto_name` is what it is called where the configuration leaves that open.
    """

    def __init__(self, controller: Controller, auto_name: str) -> None:
        self._controller = controller
        self._auto_name = auto_name
        self._connection = Connection(controller.decisions)
        self._membership = Membership(controller)
        self._limits = LimitExchange(controller.engine, self._membership.instance)
        self._wanted: ClusterConfig | None = None
        self._changed = asyncio.Event()
        self._tasks = OwnedTasks()

    def start(self) -> None:
        """Begin to follow the configuration."""
        self._controller.on_config(self._follow)
        self._follow(self._controller.config)
        self._tasks.loop_forever(self._run(), "cluster")

    async def close(self) -> None:
        """Leave the cluster."""
        await self._tasks.close(_CLOSE_TIMEOUT_S)

    def status(self) -> ClusterStatus | None:
        """How it is now; None without a `cluster` section."""
        if self._wanted is None:
            return None
        return ClusterStatus(
            name=self._membership.name,
            up=self._connection.up,
            since=self._connection.since,
            error=self._problem(),
            nodes=self._membership.nodes(),
            messages=self._limits.messages,
            untold=self._limits.untold,
        )

    def _problem(self) -> str | None:
        if (host := self._membership.conflict) is not None:
            return f"a node on {host} has the same name, {self._membership.name!r}"
        return self._connection.error

    def _follow(self, config: Config) -> None:
        self._limits.follow(config)
        if config.cluster != self._wanted:
            self._wanted = config.cluster
            self._changed.set()

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            member: asyncio.Task[None] | None = None
            if (wanted := self._wanted) is not None:
                auto = wanted.node == "auto"
                self._membership.begin(self._auto_name if auto else wanted.node)
                member = self._tasks.loop_forever(self._serve(wanted), "cluster member")
            await self._changed.wait()
            if member is not None:
                member.cancel()
                await asyncio.wait([member], timeout=_CLOSE_TIMEOUT_S)

    async def _serve(self, config: ClusterConfig) -> None:
        await self._connection.keep(config, lambda client: self._use(client, config))

    async def _use(self, client: Redis, config: ClusterConfig) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._beat(client, config))
                group.create_task(self._limits.tell(client, config))
                group.create_task(self._limits.hear(client, config))
        finally:
            await self._membership.leave(client, config.prefix)

    async def _beat(self, client: Redis, config: ClusterConfig) -> None:
        while True:
            with talking(config):
                await self._membership.beat(client, config.prefix)
            try:
                await self._controller.set_fleet_seed(self._membership.seed)
            except (ConfigError, StateError, EngineError) as error:
                _log.error("limits of the fleet hold for this node alone", reason=str(error))
            await asyncio.sleep(HEARTBEAT_S)
