"""One pool's members changed and nothing else: a change of the plan instead of a whole one.

Adding or removing one of thousands of backends then costs what that one costs, and the new picker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from evenflow.config import Backend, Config, Pool
from evenflow.config.expand import is_stream
from evenflow.config.splice import splice

from . import document
from .pools import Addresses, States, compile_endpoints, panic_of, uses_all
from .pools import compile_picker as picker_of

MOST: Final = 1000
"""A change of more members is a whole plan."""

_COMPARED = tuple(name for name in Config.model_fields if name not in ("backends", "pools"))
_COMPARED_IN_POOL = tuple(name for name in Pool.model_fields if name != "backends")


@dataclass(frozen=True, slots=True)
class PoolSplice:
    """`inserted` in place of `removed` in one pool, from `at` on."""

    pool: Pool
    """As it is afterwards."""
    before: int
    """How many members it had."""
    at: int
    position: int
    """The place of `at` among the backends of all pools."""
    removed: Sequence[Backend]
    inserted: Sequence[Backend]


def members_splice(old: Config, new: Config) -> PoolSplice | None:
    """The one pool's change that leads from `old` to `new`, both in full form.

    `None` where anything else differs as well, or too much.
    """
    if any(getattr(old, name) != getattr(new, name) for name in _COMPARED):
        return None
    if len(old.pools) != len(new.pools):
        return None
    found: PoolSplice | None = None
    position = 0
    for before, after in zip(old.pools, new.pools, strict=True):
        if any(getattr(before, name) != getattr(after, name) for name in _COMPARED_IN_POOL):
            return None
        piece = splice(before.backends, after.backends)
        if piece.removed or piece.inserted:
            if found is not None or piece.removed + piece.inserted > MOST:
                return None
            if after.sticky is not None:
                # The tokens of all members stand together.
                return None
            found = PoolSplice(
                after,
                len(before.backends),
                piece.at,
                position + piece.at,
                before.backends[piece.at : piece.at + piece.removed],
                after.backends[piece.at : piece.at + piece.inserted],
            )
            # How Unix sockets are checked depends on what is beside them.
            if is_stream(before) != is_stream(after):
                return None
        position += len(before.backends)
    return found


def compile_members_change(
    change: PoolSplice, *, revision: int, state: States, addresses: Addresses
) -> document.MembersChange:
    """The change as the engine takes it; raises `ConfigError` where the strategy fails."""
    pool = change.pool
    return {
        "revision": revision,
        "pool": pool.name,
        "members": change.before,
        "at": change.at,
        "remove": len(change.removed),
        "insert": compile_endpoints(pool, change.inserted, state, addresses),
        "picker": picker_of(pool, state, addresses),
        "use_all": uses_all(pool),
        "panic": panic_of(pool, state, addresses),
    }
