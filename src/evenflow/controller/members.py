"""The members of a configuration: who stays the same object, who is new, who is gone. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from evenflow.config import (
    Backend,
    Config,
    HealthCheck,
    Pool,
    effective_health_check,
    http_version,
)
from evenflow.controller.runtime import Key, Member
from evenflow.plan import PoolSplice


@dataclass(frozen=True, slots=True)
class Members:
    """All members of a configuration, and what changed against those before."""

    all: Mapping[Key, Member]
    gone: Sequence[Key]
    """Of those before: who is there no more, or at another URL."""
    fresh: Sequence[Key]
    """Who was not there before, or at another URL."""


def members_of(config: Config, old: Mapping[Key, Member]) -> Members:
    """All backends of a configuration in full form; unchanged ones are the objects of `old`."""
    members: dict[Key, Member] = {}
    for pool in config.pools:
        members |= _of_pool(config, pool, pool.backends, old)
    gone = [key for key, member in old.items() if _is_gone(member, members.get(key))]
    again = set(gone)
    return Members(members, gone, [key for key in members if key in again or key not in old])


def spliced_members(config: Config, change: PoolSplice, old: Mapping[Key, Member]) -> Members:
    """The same for a change of one pool's members, at the price of that change and a copy."""
    pool = change.pool.name
    new = _of_pool(config, change.pool, change.inserted, old)
    removed = [(pool, backend.id) for backend in change.removed]
    gone = [key for key in removed if _is_gone(old[key], new.get(key))]
    again = set(gone)
    fresh = [key for key in new if key in again or key not in old]
    items = iter(old.items())
    members = dict(islice(items, change.position))
    for _ in islice(items, len(removed)):
        pass
    members |= new
    members.update(items)
    return Members(members, gone, fresh)


def _of_pool(
    config: Config, pool: Pool, backends: Sequence[Backend], old: Mapping[Key, Member]
) -> dict[Key, Member]:
    members: dict[Key, Member] = {}
    slow_start_s = pool.slow_start or 0.0
    # Backends without settings of their own share one check, which makes 10,000 cheap.
    shared: dict[tuple[str | None, str], HealthCheck] = {}
    for backend in backends:
        key = (pool.name, backend.id)
        known = old.get(key)
        if backend.health_check is not None:
            check = effective_health_check(config, pool, backend)
        else:
            kind = (backend.health_check_path, backend.target.scheme)
            if kind not in shared:
                shared[kind] = effective_health_check(config, pool, backend)
                if known is not None and known.health_check == shared[kind]:
                    shared[kind] = known.health_check
            check = shared[kind]
        http2 = http_version(pool.protocol or "auto", backend.target) == "h2"
        rest = (slow_start_s, pool.send_proxy, http2)
        if (
            known is not None
            and known.backend is backend
            and (known.slow_start_s, known.send_proxy, known.http2) == rest
            and (known.health_check is check or known.health_check == check)
        ):
            members[key] = known
        else:
            members[key] = Member(pool.name, backend, check, *rest)
    return members


def _is_gone(member: Member, kept: Member | None) -> bool:
    return kept is None or (kept is not member and kept.backend.url != member.backend.url)
