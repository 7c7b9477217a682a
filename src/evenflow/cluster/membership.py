"""Who belongs to the cluster: each node's signs of life, and what it learns of the others by them.

A sign of life is one script inside the server, which answers with all nodes and the fleet's secret.
Ages are measured by the server's clock, so nodes' own clocks may differ. A node that gives no sign
is forgotten after a few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import structlog

from evenflow.controller import Controller
from evenflow.installed import version

if TYPE_CHECKING:
    from redis.asyncio import Redis

HEARTBEAT_S: Final = 1.0
GONE_AFTER_S: Final = 5.0
SEED_BYTES: Final = 32
_LEAVE_TIMEOUT_S: Final = 1.0
_MOST_LISTENERS: Final = 64

# Keys: nodes (a hash), seen (a sorted set), seed. Values: name, record, ms until a node is gone,
# the seed to take where there is none.
_BEAT: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local before = redis.call('HGET', KEYS[1], ARGV[1]) or ''
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], now, ARGV[1])
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[3])) do
    redis.call('HDEL', KEYS[1], name)
    redis.call('ZREM', KEYS[2], name)
end
redis.call('SET', KEYS[3], ARGV[4], 'NX')
local answer = {before, redis.call('GET', KEYS[3])}
local seen = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
for index = 1, #seen, 2 do
    answer[#answer + 1] = seen[index]
    answer[#answer + 1] = string.format('%d', now - seen[index + 1])
    answer[#answer + 1] = redis.call('HGET', KEYS[1], seen[index]) or ''
end
return answer
"""

# Keys: nodes, seen. Values: name, the start of this node's own record.
_LEAVE: Final = """
local record = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if string.sub(record, 1, #ARGV[2]) == ARGV[2] then
    redis.call('HDEL', KEYS[1], ARGV[1])
    redis.call('ZREM', KEYS[2], ARGV[1])
end
return 1
"""

_log = structlog.get_logger("evenflow.cluster")


@dataclass(frozen=True, slots=True)
class Node:
    """One balancer, as it told of itself."""

    name: str
    instance: str
    """Another one at each start."""
    host: str
    version: str
    revision: int
    listeners: Mapping[str, Sequence[str]]
    started_at: float
    """Unix seconds."""
    requests_per_second: float
    age_s: float
    """Since its last sign of life."""


@dataclass
class Membership:
    """This node's signs of life, and the nodes it knows of."""

    controller: Controller
    instance: str = field(default_factory=lambda: secrets.token_hex(8))
    seed: bytes = field(default_factory=lambda: secrets.token_bytes(SEED_BYTES))
    """The fleet's secret: one of this node's own until the server told its."""
    name: str = ""
    conflict: str | None = None
    """Where another node that has the same name is."""
    _nodes: dict[str, Node] = field(default_factory=dict)
    _beaten_at: float = 0.0
    _joined: bool = False

    def nodes(self) -> list[Node]:
        """All nodes that are not gone, this one included, by name; ages as of now."""
        since = time.monotonic() - self._beaten_at
        others = [
            replace(node, age_s=node.age_s + since)
            for node in self._nodes.values()
            if node.name != self.name and node.age_s + since <= GONE_AFTER_S
        ]
        return sorted([*others, self._own()], key=lambda node: node.name)

    def begin(self, name: str) -> None:
        """Forget what is known, as with another server or name."""
        self.name, self.conflict = name, None
        self._nodes, self._joined = {}, False

    async def beat(self, client: Redis, prefix: str) -> None:
        """Give one sign of life, and take in what the server knows."""
        keys = [f"{prefix}:cluster:{name}" for name in ("nodes", "seen", "seed")]
        gone_ms = round(GONE_AFTER_S * 1000)
        values = (self.name, self._record(), gone_ms, self.seed)
        before, seed, *rest = await client.eval(_BEAT, 3, *keys, *values)
        self.seed = bytes(seed)
        self._judge_name(before)
        triples = zip(rest[::3], rest[1::3], rest[2::3], strict=True)
        self._learn([node for triple in triples if (node := _parsed(*triple)) is not None])

    async def leave(self, client: Redis, prefix: str) -> None:
        """Take this node off the list, where the server can be told."""
        keys = [f"{prefix}:cluster:{name}" for name in ("nodes", "seen")]
        # Those who stay find out by themselves.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_LEAVE_TIMEOUT_S):
                await client.eval(_LEAVE, 2, *keys, self.name, self._start_of_record)

    @property
    def _start_of_record(self) -> str:
        return f'{{"instance":"{self.instance}"'

    def _record(self) -> str:
        own = self._own()
        told = {
            "instance": own.instance,
            "host": own.host,
            "version": own.version,
            "revision": own.revision,
            "listeners": own.listeners,
            "started_at": own.started_at,
            "requests_per_second": own.requests_per_second,
        }
        return json.dumps(told, separators=(",", ":"))

    def _own(self) -> Node:
        controller = self.controller
        listeners = list(controller.listening.items())[:_MOST_LISTENERS]
        return Node(
            name=self.name,
            instance=self.instance,
            host=socket.gethostname(),
            version=version(),
            revision=controller.revision,
            listeners=dict(listeners),
            started_at=controller.started_at,
            requests_per_second=controller.requests_per_second(),
            age_s=0.0,
        )

    def _judge_name(self, before: bytes) -> None:
        """Whether somebody else writes where this node did."""
        other = _parsed(self.name.encode(), b"0", before) if self._joined else None
        if other is None or other.instance == self.instance:
            self.conflict = None
        elif self.conflict is None:
            self.conflict = other.host
            _log.error(
                "two nodes have the same name",
                node=self.name,
                other_host=other.host,
                reason="give each its own `cluster.node`, or `auto` and a state folder of its own",
            )

    def _learn(self, nodes: Sequence[Node]) -> None:
        found = {node.name: node for node in nodes}
        before, self._nodes = self._nodes, found
        self._beaten_at = time.monotonic()
        decisions = self.controller.decisions
        if not self._joined:
            self._joined = True
            others = sorted(found.keys() - {self.name})
            reason = f"with {', '.join(others)}" if others else "nobody else is here"
            decisions.record("cluster", "joined the cluster", reason, node=self.name)
            return
        for name in sorted(found.keys() - before.keys() - {self.name}):
            decisions.record("cluster", "node joined", f"on {found[name].host}", node=name)
        for name in sorted(before.keys() - found.keys() - {self.name}):
            decisions.record(
                "cluster", "node left", f"on {before[name].host}", level="warning", node=name
            )


def _parsed(name: bytes, age_ms: bytes, record: bytes) -> Node | None:
    """A node as another one told of it; None where that is no record, as of a later version."""
    try:
        told: dict[str, Any] = json.loads(record)
        return Node(
            name=name.decode(),
            instance=str(told["instance"]),
            host=str(told["host"]),
            version=str(told["version"]),
            revision=int(told["revision"]),
            listeners={str(key): list(map(str, each)) for key, each in told["listeners"].items()},
            started_at=float(told["started_at"]),
            requests_per_second=float(told["requests_per_second"]),
            age_s=max(0.0, int(age_ms) / 1000),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
