"""What the balancer decided, when, and why.

Every decision (a health verdict, an ejection, an apply, a reload, a drain) is kept in a bounded
list, logged as one event, and handed to whoever subscribed, such as a stream of server-sent
events.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import structlog

DecisionKind = Literal[
    "apply",
    "breaker",
    "certificate",
    "cluster",
    "discovery",
    "drain",
    "ejection",
    "health",
    "keys",
    "panic",
    "reload",
    "resolve",
    "worker",
]
Level = Literal["info", "warning", "error"]

KEPT: Final = 1000
SUBSCRIBER_BACKLOG: Final = 1000


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision. `id` counts up from 1 within a process, without gaps."""

    id: int
    time: float
    """Unix seconds."""
    kind: DecisionKind
    event: str
    """What was decided, in a few fixed words: `backend unhealthy`."""
    reason: str
    details: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        """The decision as plain JSON values."""
        return {
            "id": self.id,
            "time": self.time,
            "kind": self.kind,
            "event": self.event,
            "reason": self.reason,
            **self.details,
        }


@dataclass(slots=True, eq=False)
class Subscription:
    """Decisions from the moment of subscribing on, oldest first.

    A subscriber that falls behind by more than its backlog loses the oldest ones; the gap shows in
    the ids.
    """

    _waiting: deque[Decision] = field(default_factory=lambda: deque(maxlen=SUBSCRIBER_BACKLOG))
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, decision: Decision) -> None:
        """Hand over one decision; never waits."""
        self._waiting.append(decision)
        self._arrived.set()

    async def next(self) -> Decision:
        """Wait for the next decision; callers bound the wait (`asyncio.timeout`)."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()

    async def __aiter__(self) -> AsyncIterator[Decision]:
        while True:
            yield await self.next()


class Decisions:
    """The bounded list of decisions and its subscribers. Used on the event loop's thread only."""

    def __init__(self, kept: int = KEPT) -> None:
        self._ids = itertools.count(1)
        self._kept: deque[Decision] = deque(maxlen=kept)
        self._subscriptions: set[Subscription] = set()
        self._log = structlog.get_logger("evenflow.decisions")

    def record(
        self,
        kind: DecisionKind,
        event: str,
        reason: str,
        *,
        level: Level = "info",
        **details: Any,
    ) -> Decision:
        """Keep, log and hand on one decision."""
        decision = Decision(next(self._ids), time.time(), kind, event, reason, details)
        self._kept.append(decision)
        for subscription in self._subscriptions:
            subscription.put(decision)
        log = getattr(self._log, level)
        log(event, kind=kind, reason=reason, **details)
        return decision

    def __iter__(self) -> Iterator[Decision]:
        """All kept decisions, oldest first."""
        return iter(tuple(self._kept))

    def since(self, id: int) -> list[Decision]:
        """The kept decisions after the one with this id, oldest first."""
        return [decision for decision in self._kept if decision.id > id]

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """Receive every decision made within the block."""
        subscription = Subscription()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
