"""One source, followed for as long as a pool names it: what it found last, and how it is.

A source that fails, or brings what a pool cannot have, changes nothing: what it brought before serves
on, and it is asked again after a growing, spread-out time. The same goes for an empty answer, unless
`allow_empty` says that it counts.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from types import MappingProxyType
from typing import Any, Final, Literal

from evenflow.config import Backend, Discover
from evenflow.controller import SourceStatus
from evenflow.http_client import HttpError

from .endpoint import MAX_NOTES, Answer, DiscoveryError, Known, Source, take

BACKOFF_S: Final = (0.5, 60.0)
REST_S: Final = 0.05
"""Between two answers of a source that tells by itself; what happens meanwhile is one answer."""
NAMED: Final = 20
"""Endpoints named in one message; further ones are counted."""

Told = Callable[[str, str, Literal["info", "warning"], dict[str, Any]], None]
"""Takes what happened: the event, the reason, its level and details."""


class Follower:
    """Follows one entry. `changed` is called when other backends are there; `told` gets the news."""

    def __init__(
        self,
        pool: str,
        entry: Discover,
        source: Source,
        changed: Callable[[], None],
        told: Told,
    ) -> None:
        self.pool = pool
        self.entry = entry
        self.backends: Sequence[Backend] = ()
        self.answered = asyncio.Event()
        """Set once it has answered, or failed to."""
        self._source = source
        self._changed = changed
        self._told = told
        self._known: Known = {}
        self._notes: tuple[str, ...] = ()
        self._last_success: float | None = None
        self._last_change: float | None = None
        self._next_attempt: float | None = None
        self._error: str | None = None
        self._failures = 0
        self._updates = Counter[str](changed=0, unchanged=0, empty=0, failed=0)

    def take_over(self, before: Follower) -> None:
        """Begin with what another entry in this one's place has found, until this one answers."""
        if before.entry.scheme == self.entry.scheme:
            self.backends, self._known = before.backends, before._known
            self._last_change = before._last_change

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            try:
                async with aclosing(self._source(self.entry)) as answers:  # type: ignore[type-var]
                    async for answer in answers:
                        await self._take(answer)
                        await self._rest(answer.again_s)
                raise DiscoveryError("the source ended")
            except (DiscoveryError, HttpError) as error:
                self._failed(str(error))
            except TimeoutError:
                self._failed(f"no answer within {self.entry.timeout:g} s")
            # A source may be the user's own code, which may raise anything.
            except Exception as error:  # noqa: BLE001
                self._failed(f"{type(error).__name__}: {error}")
            await self._rest(self._backoff_s())

    def status(self) -> SourceStatus:
        """How it is."""
        return SourceStatus(
            pool=self.pool,
            source=self.entry.name,
            kind=self.entry.kind,
            place=self.entry.place,
            endpoints=len(self.backends),
            last_success=self._last_success,
            last_change=self._last_change,
            next_attempt=self._next_attempt,
            error=self._error,
            failures=self._failures,
            updates=dict(self._updates),
            notes=self._notes,
        )

    async def _take(self, answer: Answer) -> None:
        # Thousands of them take a while.
        taken = await asyncio.to_thread(take, self.entry, answer, self._known)
        self._notes = tuple(answer.notes[:MAX_NOTES])
        self._last_success = time.time()
        if not taken and self._known and not self.entry.allow_empty:
            self._kept()
            return
        recovered, self._error, self._failures = self._error, None, 0
        before, self._known = self._known, taken
        backends = tuple(backend for _, backend in taken.values())
        same = len(backends) == len(self.backends) and all(
            new is old for new, old in zip(backends, self.backends, strict=True)
        )
        if same:
            self._updates["unchanged"] += 1
            if recovered is not None:
                self._say("source answers again", f"as before, {_count(backends)}")
        else:
            self.backends, self._last_change = backends, self._last_success
            self._updates["changed"] += 1
            self._tell_change(before)
            self._changed()
        self.answered.set()

    def _kept(self) -> None:
        self._updates["empty"] += 1
        text = f"no endpoint in the answer; the last {len(self._known)} stay (allow_empty is false)"
        if self._error != text:
            self._say("endpoints kept", text, level="warning")
        self._error, self._failures = text, 0
        self.answered.set()

    def _failed(self, reason: str) -> None:
        self._error = reason
        self._failures += 1
        self._updates["failed"] += 1
        if self._failures == 1 or self._failures % 10 == 0:
            serving = f"the last {len(self.backends)} stay" if self.backends else "there are none"
            text = f"{self.entry.place}: {reason}; {serving}"
            self._say(
                "endpoints not found", text, level="warning", details={"failures": self._failures}
            )
        self.answered.set()

    def _tell_change(self, before: Known) -> None:
        now = self._known
        came = [id for id in now if id not in before]
        went = [id for id in before if id not in now]
        other = [id for id in now if id in before and now[id][1] is not before[id][1]]
        parts = [
            f"{len(ids)} {what}"
            for ids, what in ((came, "came"), (went, "went"), (other, "changed"))
            if ids
        ]
        reason = f"{', '.join(parts) or 'another order'}; now {_count(self.backends)}"
        named = {"came": came, "went": went, "altered": other}
        details = {name: ids[:NAMED] for name, ids in named.items() if ids}
        self._say("endpoints changed", reason, details=details)

    def _say(
        self,
        event: str,
        reason: str,
        *,
        level: Literal["info", "warning"] = "info",
        details: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        about = {"pool": self.pool, "source": self.entry.name, "endpoints": len(self.backends)}
        self._told(event, reason, level, {**about, **details})

    def _backoff_s(self) -> float:
        low, high = BACKOFF_S
        if self.entry.file is not None:
            # Looking at a file costs nothing, and whoever mends it wants to see that.
            high = low
        wait = min(low * 2.0 ** min(self._failures - 1, 16), max(low, high))
        # Spread, so that many balancers do not come back at once.
        return wait * random.uniform(0.8, 1.2)  # noqa: S311 - no secret

    async def _rest(self, seconds: float | None) -> None:
        if seconds is None:
            self._next_attempt = None
            await asyncio.sleep(REST_S)
        else:
            self._next_attempt = time.time() + seconds
            await asyncio.sleep(seconds)


def _count(backends: Sequence[Backend]) -> str:
    return "1 endpoint" if len(backends) == 1 else f"{len(backends)} endpoints"
