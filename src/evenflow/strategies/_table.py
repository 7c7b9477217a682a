"""The inner loop of consistent tables, a pure function that the engine offers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache


def consistent_table(ids: Sequence[str], weights: Sequence[int], slots: int) -> Sequence[int]:
    """For each slot the index of the id that owns it, in proportion to `weights`.

    Per slot the owner is the id whose exponential arrival time (by its weight, drawn from a hash
    of slot and id) is the smallest, so removing an id changes exactly the slots it owned.
    """
    return _built(tuple(ids), tuple(weights), slots)


@lru_cache(maxsize=4)  # A plan that leaves a pool's rotation as it is builds no table again.
def _built(ids: tuple[str, ...], weights: tuple[int, ...], slots: int) -> Sequence[int]:
    # Imported at the call: configurations can be checked where the engine is not built.
    from evenflow._engine import consistent_table as build

    return tuple(build(list(ids), list(weights), slots))
