"""The keys that tokens are checked with: fetched, fetched again, and what is known of that.

A key set by address is fetched when it is first named, then on an interval, sooner where a token
names a key that is not there (at most so often), and after a failure with growing waits. What was
fetched last goes on to serve until something better comes. Keys that changed are one apply.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from evenflow.certs import Material
from evenflow.certs.key_set import (
    MAX_BYTES,
    Address,
    KeysError,
    KeySet,
    SigningKey,
    address_of,
    jwt_filters,
    usable,
)
from evenflow.config import Config, ConfigError
from evenflow.config.jwt import SOURCES, JwtAuth
from evenflow.controller.decisions import Decisions
from evenflow.controller.tasks import OwnedTasks
from evenflow.engine import EngineError

TICK_S: Final = 0.25
FIRST_TIMEOUT_S: Final = 3.0
"""A first fetch holds up the change that names it, and not for longer. Over the API no other change
waits for that; at the start and in a reload what comes meanwhile does."""
BACKOFF_S: Final = (1.0, 300.0)

_log = structlog.get_logger("evenflow.keys")


@dataclass(slots=True)
class Source:
    """One key set by address."""

    jwt: JwtAuth
    keys: KeySet | None = None
    fetched_at: float | None = None
    """Unix seconds of the last success."""
    error: str | None = None
    """Why the last fetch failed."""
    fetches: dict[str, int] = field(default_factory=lambda: {"ok": 0, "failed": 0})
    failures: int = 0
    due: float = 0.0
    """When it is fetched next, and below when last, in monotonic seconds."""
    began: float = float("-inf")
    running: bool = False
    tried: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the first fetch is over, however it went."""
    held: int = 0
    """How many changes on their way count on it."""


@dataclass(frozen=True, slots=True)
class KeysStatus:
    """What may be shown of a filter's keys."""

    filter: str
    source: str
    """`jwks_url`, `jwks_file`, `public_key` or `public_key_file`."""
    place: str | None
    """The address or the file."""
    keys: tuple[SigningKey, ...]
    """Those in use, with the algorithms in use."""
    ignored: tuple[str, ...]
    refreshed_at: float | None
    error: str | None
    fetches: Mapping[str, int]


class _Owner(Protocol):
    """What the controller does for it."""

    decisions: Decisions

    async def renew_material(self, *, source: str) -> object:
        """Put anew in force what files and key sets hold."""


class Keys:
    """All key sets that are fetched. Used on one event loop."""

    def __init__(self, owner: _Owner, material: Callable[[], Material]) -> None:
        self._owner = owner
        self._material = material
        self._filters: Mapping[str, JwtAuth] = {}
        self._sources: dict[Address, Source] = {}
        self._tasks = OwnedTasks()

    def unknown(self, config: Config) -> dict[Address, JwtAuth]:
        """The sets that a configuration names and whose first fetch is not over."""
        named = (
            chain.auth.jwt
            for chain in (*config.filters.values(), config.security)
            if chain is not None and chain.auth is not None and chain.auth.jwt is not None
        )
        return {
            at: jwt
            for jwt in named
            if (at := address_of(jwt)) is not None
            and ((known := self._sources.get(at)) is None or not known.tried.is_set())
        }

    async def first(self, config: Config) -> None:
        """Fetch the sets that a configuration names and nobody fetched before."""
        async with self.holding(self.unknown(config)):
            # They stay until it is known which configuration is in force.
            pass

    @asynccontextmanager
    async def holding(self, new: Mapping[Address, JwtAuth]) -> AsyncIterator[None]:
        """Fetch these sets first, and keep what came at least until the block ends."""
        # Whoever comes second waits for the first one's fetch, which is bounded.
        mine = {at: Source(jwt, running=True) for at, jwt in new.items() if at not in self._sources}
        self._sources |= mine
        held = [self._sources[at] for at in new]
        for source in held:
            source.held += 1
        try:
            await asyncio.gather(*(self._first(source) for source in mine.values()))
            for source in held:
                await source.tried.wait()
            yield
        finally:
            for source in held:
                source.held -= 1

    async def _first(self, source: Source) -> None:
        try:
            await self._fetch(source, FIRST_TIMEOUT_S)
        finally:
            source.running = False
            source.tried.set()

    def fetched(self) -> dict[Address, KeySet]:
        """What the last good fetch of each set brought."""
        return {at: each.keys for at, each in self._sources.items() if each.keys is not None}

    def follow(self, config: Config) -> None:
        """Take a configuration in full form that came into force; others are forgotten."""
        self._filters = jwt_filters(config)
        wanted = {at: jwt for jwt in self._filters.values() if (at := address_of(jwt)) is not None}
        self._sources = {
            at: each for at, each in self._sources.items() if at in wanted or each.held
        }
        now = time.monotonic()
        for at, each in self._sources.items():
            each.jwt = wanted.get(at, each.jwt)
            if each.keys is not None and not each.failures:
                each.due = min(each.due, now + each.jwt.refresh_interval)

    def changed(self) -> bool:
        """Whether a fetch brought other keys than those in force."""
        in_force = self._material().keys
        return any(
            (found := self._sources.get(at)) is not None
            and found.keys is not None
            and in_force.get(name) != found.keys
            for name, jwt in self._filters.items()
            if (at := address_of(jwt)) is not None
        )

    def asked_for(self, filter: str) -> None:
        """A token named a key that the filter does not have: fetch again, but not too often."""
        jwt = self._filters.get(filter)
        at = None if jwt is None else address_of(jwt)
        source = None if at is None else self._sources.get(at)
        if jwt is not None and source is not None:
            source.due = min(
                source.due, max(time.monotonic(), source.began + jwt.refresh_after_unknown)
            )

    async def watch(self) -> None:
        """For ever: fetch what is due."""
        try:
            while True:
                await asyncio.sleep(TICK_S)
                now = time.monotonic()
                for source in list(self._sources.values()):
                    if source.due <= now and not source.running:
                        source.running = True
                        self._tasks.start(self._refresh(source), "fetch keys")
        finally:
            await self._tasks.close(1.0)

    async def _refresh(self, source: Source) -> None:
        try:
            await self._fetch(source, source.jwt.refresh_timeout)
            if self.changed():
                await self._owner.renew_material(source="keys")
        except (ConfigError, EngineError) as error:
            _log.error("new keys not in force, the old ones serve on", reason=str(error))
        finally:
            source.running = False

    async def _fetch(self, source: Source, timeout_s: float) -> None:
        # Not before they are needed: they bring cryptography with them.
        from evenflow.certs.jwks import read_jwks
        from evenflow.controller.fetch import FetchError, fetch

        url, ca_file = source.jwt.jwks_url or "", source.jwt.ca_file
        source.began = time.monotonic()
        try:
            timeout_s = min(timeout_s, source.jwt.refresh_timeout)
            content = await fetch(url, timeout_s=timeout_s, max_bytes=MAX_BYTES, ca_file=ca_file)
            found = read_jwks(content)
        except (FetchError, KeysError) as error:
            self._failed(source, str(error))
            return
        before, source.keys = source.keys, found
        source.fetched_at, source.error = time.time(), None
        source.fetches["ok"] += 1
        if source.failures or found != before:
            self._owner.decisions.record(
                "keys",
                "keys fetched",
                f"{url} has {len(found.keys)} keys",
                url=url,
                kids=[each.kid for each in found.keys],
                ignored=list(found.ignored),
            )
        source.failures = 0
        source.due = time.monotonic() + source.jwt.refresh_interval

    def _failed(self, source: Source, reason: str) -> None:
        source.error = reason
        source.failures += 1
        source.fetches["failed"] += 1
        low, high = BACKOFF_S
        wait = min(low * 2.0 ** min(source.failures - 1, 16), high)
        # Spread, so that many balancers do not come back to the issuer at once.
        source.due = time.monotonic() + wait * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
        if source.failures == 1 or source.failures % 10 == 0:
            serving = (
                "there are none, requests get 503"
                if source.keys is None
                else "the old ones serve on"
            )
            self._owner.decisions.record(
                "keys",
                "keys not fetched",
                f"{source.jwt.jwks_url}: {reason}; {serving}",
                level="warning",
                url=source.jwt.jwks_url,
                failures=source.failures,
            )

    def statuses(self) -> list[KeysStatus]:
        """What each filter for tokens has."""
        return [self._status(name, jwt) for name, jwt in self._filters.items()]

    def _status(self, name: str, jwt: JwtAuth) -> KeysStatus:
        material = self._material()
        kept = material.keys.get(name, KeySet())
        kind = next(each for each in SOURCES if getattr(jwt, each) is not None)
        at = address_of(jwt)
        source = None if at is None else self._sources.get(at)
        read_at = material.keys_read_at.get(name)
        return KeysStatus(
            name,
            kind,
            None if kind == "public_key" else getattr(jwt, kind),
            usable(kept, jwt),
            kept.ignored,
            read_at if source is None else source.fetched_at,
            None if source is None else source.error,
            {} if source is None else dict(source.fetches),
        )
