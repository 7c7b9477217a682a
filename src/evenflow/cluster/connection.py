"""The cluster's connection: kept, found lost, made again with growing pauses, and told of once.

What is said over it is not known here.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from evenflow.config import RedisServer
from evenflow.controller.decisions import Decisions
from evenflow.redis_client import ServerError, connect, talking

if TYPE_CHECKING:
    from redis.asyncio import Redis

FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 10.0
_STABLE_S: Final = 30.0
"""After so long a connection's end is no sign of trouble from before."""


class Connection:
    """Whether the server is reached, and since when."""

    def __init__(self, decisions: Decisions) -> None:
        self.up = False
        self.since = time.time()
        self.error: str | None = None
        """Why it is not reached."""
        self._decisions = decisions
        self._told_away = False

    async def keep(self, server: RedisServer, use: Callable[[Redis], Awaitable[None]]) -> None:
        """Stay connected for ever: `use` has the client until something goes wrong with it.

        `use` raises ServerError for what ends a connection, by itself or in a group.
        """
        pause = FIRST_PAUSE_S
        try:
            while True:
                began = time.monotonic()
                await self._once(server, use)
                if time.monotonic() - began > _STABLE_S:
                    pause = FIRST_PAUSE_S
                # Nodes that lost the server together do not come back in step.
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
                pause = min(2 * pause, LONGEST_PAUSE_S)
        finally:
            self.up, self.since = False, time.time()

    async def _once(self, server: RedisServer, use: Callable[[Redis], Awaitable[None]]) -> None:
        try:
            with talking(server):
                client = connect(server)
                try:
                    await client.ping()
                    self._reached(server)
                    await use(client)
                finally:
                    await client.aclose()
        except* ServerError as group:
            self._away(str(group.exceptions[0]))

    def _reached(self, server: RedisServer) -> None:
        self.up, self.since, self.error, self._told_away = True, time.time(), None, False
        self._decisions.record("cluster", "cluster reached", server.address.shown)

    def _away(self, reason: str) -> None:
        if self.up:
            self.up, self.since = False, time.time()
        self.error = reason
        if not self._told_away:
            self._told_away = True
            self._decisions.record("cluster", "cluster away", reason, level="warning")
