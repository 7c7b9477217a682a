"""Members that come from elsewhere: what is asked of whoever finds them, and how they join.

Pure; finding them is the matter of `evenflow.discovery`. They are never part of the configuration itself, so they are neither kept nor shown as such.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from evenflow.config import Backend, Config, Pool
from evenflow.controller.runtime import Key

Found = Mapping[str, Mapping[str, Sequence[Backend]]]
"""By pool and then by source, in the order in which they join: the members found."""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """How one source of a pool's members is. Times are Unix seconds."""

    pool: str
    source: str
    kind: str
    place: str
    endpoints: int
    """How many there are in its last good answer."""
    last_success: float | None = None
    last_change: float | None = None
    next_attempt: float | None = None
    """When it is asked again; absent while it tells by itself."""
    error: str | None = None
    """Why the last answer was not taken; those from before serve on."""
    failures: int = 0
    """In a row."""
    updates: Mapping[str, int] = field(default_factory=dict)
    """Answers by what came of them: `changed`, `unchanged`, `empty` (and not taken), `failed`."""
    notes: tuple[str, ...] = ()
    """What of the last answer was left out, and why."""


class Elsewhere(Protocol):
    """Where further members come from. Used on the controller's event loop."""

    async def found(self, config: Config) -> Found:
        """What there is for a configuration that is about to come into force.

        Waits for the first answer of sources that are new in it, each for its own time at most.
        Raises `ConfigError` where a source cannot be used at all.
        """

    def found_by_now(self) -> Found:
        """The same for the configuration in force, without waiting."""

    def follow(self, config: Config) -> None:
        """Keep to the sources of the configuration in force, and let go of all others."""

    def statuses(self) -> list[SourceStatus]:
        """How each source is, in the configuration's order."""


class Nowhere:
    """No further members."""

    async def found(self, config: Config) -> Found:
        """None."""
        return {}

    def found_by_now(self) -> Found:
        """None."""
        return {}

    def follow(self, config: Config) -> None:
        """There is nothing to follow."""

    def statuses(self) -> list[SourceStatus]:
        """None."""
        return []


def with_found(config: Config, found: Found) -> tuple[Config, dict[Key, str]]:
    """A configuration in full form with the members found, and where each of these is from.

    They come after the configured ones of their pool. Whoever is there already, by id or by URL,
    is not added a second time, so that a server listed twice does not get two shares.
    """
    sources: dict[Key, str] = {}
    pools = tuple(
        _joined(pool, found[pool.name], sources) if found.get(pool.name) else pool
        for pool in config.pools
    )
    return (config.model_copy(update={"pools": pools}), sources) if sources else (config, sources)


def _joined(pool: Pool, found: Mapping[str, Sequence[Backend]], sources: dict[Key, str]) -> Pool:
    ids = {backend.id for backend in pool.backends}
    urls = {backend.url for backend in pool.backends}
    members = list(pool.backends)
    for source, backends in found.items():
        for backend in backends:
            if backend.id not in ids and backend.url not in urls:
                ids.add(backend.id)
                urls.add(backend.url)
                members.append(backend)
                sources[pool.name, backend.id] = source
    return pool.model_copy(update={"backends": tuple(members)})
