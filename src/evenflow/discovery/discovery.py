"""All sources of all pools, followed; what they find is put in force by the controller.

Changes of one moment, of whatever sources, are one change of what is in force, and while one is being
made the next ones gather.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import structlog

from evenflow.config import Config, ConfigError, Discover, Problem
from evenflow.config.check_discovery import discovery_places
from evenflow.controller import Controller, Found, SourceStatus
from evenflow.controller.tasks import OwnedTasks
from evenflow.engine import EngineError

if TYPE_CHECKING:
    from .endpoint import Source
    from .follower import Follower

GATHER_S: Final = 0.05
MAX_SHARE: Final = 0.1
"""Of the time, that putting changes in force may take; large pools wait longer."""
AGAIN_S: Final = 5.0
"""After a set of endpoints could not be put in force."""

Place = tuple[str, str]
"""Pool and source."""

_log = structlog.get_logger("evenflow.discovery")


class Discovery:
    """The sources of a controller's members, from `start` to `close`. Used on its event loop."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._followers: dict[Place, Follower] = {}
        """Of the configuration in force."""
        self._coming: dict[Place, Follower] = {}
        """Of the one that is about to come into force, where it names other sources."""
        self._running: dict[Follower, asyncio.Task[None]] = {}
        self._tasks = OwnedTasks()
        self._news = asyncio.Event()
        controller.get_members_from(self)

    def start(self) -> None:
        """Begin to put in force what is found."""
        self._tasks.loop_forever(self._keep_in_force(), "discovered members")

    async def close(self) -> None:
        """Stop asking; the members stay as they are."""
        await self._tasks.close(1.0)

    # What the controller asks.

    async def found(self, config: Config) -> Found:
        """What there is for a configuration; sources that are new in it are waited for."""
        wanted = _wanted(config)
        for place, (path, entry) in wanted.items():
            known = self._followers.get(place)
            if known is not None and known.entry == entry:
                continue
            if entry.use is not None:
                _check_own(path, entry)
            self._coming[place] = self._follow(place[0], entry, known)
        new = [self._coming[place] for place in wanted if place in self._coming]
        await asyncio.gather(*(_first_answer(each) for each in new))
        return _by_pool(
            {place: self._coming.get(place) or self._followers[place] for place in wanted}
        )

    def found_by_now(self) -> Found:
        """What there is for the configuration in force."""
        return _by_pool(self._followers)

    def follow(self, config: Config) -> None:
        """Keep to the sources of this configuration; others are asked no more."""
        followers: dict[Place, Follower] = {}
        for place, (_, entry) in _wanted(config).items():
            for known in (self._coming.get(place), self._followers.get(place)):
                if known is not None and known.entry == entry:
                    followers[place] = known
                    break
        self._followers, self._coming = followers, {}
        kept = set(followers.values())
        for gone in [each for each in self._running if each not in kept]:
            self._running.pop(gone).cancel()

    def statuses(self) -> list[SourceStatus]:
        """How each source is."""
        return [follower.status() for follower in self._followers.values()]

    # How it goes on.

    def _follow(self, pool: str, entry: Discover, before: Follower | None) -> Follower:
        # Most balancers follow nothing and need not wait for what that imports.
        from .follower import Follower

        follower = Follower(pool, entry, source_of(entry.kind), self._news.set, self._told)
        if before is not None:
            follower.take_over(before)
        name = f"discover {pool} {entry.name}"
        self._running[follower] = self._tasks.loop_forever(follower.run(), name)
        return follower

    def _told(
        self, event: str, reason: str, level: Literal["info", "warning"], details: dict[str, Any]
    ) -> None:
        self._controller.decisions.record("discovery", event, reason, level=level, **details)

    async def _keep_in_force(self) -> None:
        while True:
            await self._news.wait()
            await asyncio.sleep(GATHER_S)
            self._news.clear()
            began = time.monotonic()
            try:
                await self._controller.renew_members()
            except (ConfigError, EngineError) as error:
                text = "discovered endpoints not in force, those of before serve on"
                _log.error(text, reason=str(error))
                self._news.set()
                await asyncio.sleep(AGAIN_S)
            else:
                await asyncio.sleep((time.monotonic() - began) / MAX_SHARE)


def source_of(kind: str) -> Source:
    """The source of a kind, which is the function of this name in the file of this name."""
    return cast("Source", getattr(import_module(f"{__package__}.{kind}"), kind))


def _wanted(config: Config) -> dict[Place, tuple[str, Discover]]:
    return {(pool, entry.name): (path, entry) for path, pool, entry in discovery_places(config)}


def _by_pool(followers: Mapping[Place, Follower]) -> Found:
    found: dict[str, dict[str, Any]] = {}
    for (pool, source), follower in followers.items():
        found.setdefault(pool, {})[source] = follower.backends
    return found


async def _first_answer(follower: Follower) -> None:
    try:
        async with asyncio.timeout(follower.entry.timeout):
            await follower.answered.wait()
    except TimeoutError:
        entry = follower.entry
        about = {"pool": follower.pool, "source": entry.name, "place": entry.place}
        _log.warning("source has not answered yet", waited_s=entry.timeout, **about)


def _check_own(path: str, entry: Discover) -> None:
    from .use import load

    try:
        load(entry)
    except ValueError as error:
        raise ConfigError([Problem(f"{path}.use", str(error))]) from None
