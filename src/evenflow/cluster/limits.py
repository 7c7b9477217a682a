"""Limits that hold for the fleet: nodes tell each other what passed, and charge it to their own.

The engine notes what passed its limits of scope fleet, by hashes of the keys. Every interval that
is taken and published to all nodes, and what others publish is charged here. A message is told once
to whoever is connected: one that gets lost lets a little more pass, and nothing is ever charged
twice. While the server is away nothing is told and each node limits by itself.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import structlog

from evenflow.config import ClusterConfig, Config, has_fleet_limits
from evenflow.engine import Engine, EngineError
from evenflow.redis_client import talking

if TYPE_CHECKING:
    from redis.asyncio import Redis

MOST_BYTES: Final = 64 * 1024 * 1024
"""A larger message is not looked at."""
_MOST_SENDERS: Final = 4096
_LISTEN_S: Final = 1.0
_IDLE_S: Final = 1.0

_log = structlog.get_logger("evenflow.cluster")


class LimitExchange:
    """This node's side of the exchange."""

    def __init__(self, engine: Engine, instance: str) -> None:
        self.messages: Counter[str] = Counter(sent=0, received=0, lost=0, refused=0)
        """What became of messages; `lost` ones are known by the gap they leave."""
        self.untold = 0
        """Requests that passed and were not told to others."""
        self._engine = engine
        self._instance = instance
        self._active = False
        self._number = 0
        self._heard: dict[str, int] = {}
        """The last message's number of each sender."""

    def follow(self, config: Config) -> None:
        """Whether there is anything to tell."""
        self._active = has_fleet_limits(config)

    async def tell(self, client: Redis, config: ClusterConfig) -> None:
        """Publish what passes, for ever; raises ServerError."""
        # What passed while the server was away is over.
        await self._take()
        due = time.monotonic()
        while True:
            due = max(due + config.sync_interval, time.monotonic())
            await asyncio.sleep(due - time.monotonic() if self._active else _IDLE_S)
            if not self._active:
                continue
            if document := await self._take():
                self._number += 1
                with talking(config):
                    await client.publish(_channel(config), self.message(document, self._number))
                self.messages["sent"] += 1

    async def hear(self, client: Redis, config: ClusterConfig) -> None:
        """Charge what others publish, for ever; raises ServerError."""
        with talking(config):
            async with client.pubsub(ignore_subscribe_messages=True) as listening:
                await listening.subscribe(_channel(config))
                while True:
                    message = await listening.get_message(timeout=_LISTEN_S)
                    if message is not None:
                        await self.take_in(message["data"])

    def message(self, document: bytes, number: int) -> bytes:
        """A document as it is published: who says it and its number, a line, then the document."""
        return json.dumps([self._instance, number]).encode() + b"\n" + document

    async def take_in(self, data: bytes) -> None:
        """Charge one message, unless it is this node's own or was heard already."""
        head, _, document = data.partition(b"\n")
        try:
            sender, number = _head(head)
        except ValueError:
            self._refuse("it does not say whose it is")
            return
        last = self._heard.get(sender, number - 1)
        if sender == self._instance or number <= last:
            return
        if len(self._heard) >= _MOST_SENDERS:
            self._heard.clear()
        self._heard[sender] = number
        self.messages["lost"] += number - last - 1
        if len(data) > MOST_BYTES:
            self._refuse(f"it has {len(data)} bytes")
            return
        try:
            await asyncio.to_thread(self._engine.charge, document)
        except EngineError as error:
            if error.code != "closed":
                self._refuse(str(error))
            return
        self.messages["received"] += 1

    async def _take(self) -> bytes:
        try:
            document, missed = await asyncio.to_thread(self._engine.take_passed)
        except EngineError as error:
            if error.code != "closed":
                _log.warning("what passed is not told", reason=str(error))
            return b""
        self.untold += missed
        return document

    def _refuse(self, reason: str) -> None:
        # Once: whoever sends what nobody understands does so often.
        if not self.messages["refused"]:
            _log.warning("message of another node not understood", reason=reason)
        self.messages["refused"] += 1


def _channel(config: ClusterConfig) -> str:
    return f"{config.prefix}:cluster:passed"


def _head(text: bytes) -> tuple[str, int]:
    """Sender and number; ValueError for anything else."""
    found: Any = json.loads(text[:256])
    match found:
        case [str(sender), int(number)] if number > 0:
            return sender, number
    raise ValueError("not a message's head")
