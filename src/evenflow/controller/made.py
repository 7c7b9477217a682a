"""Which revisions came of one caller's work, for whoever answers for that caller.

The controller makes a change in a task of its own, which inherits the caller's context; so what a
caller collects is exactly what its own calls made, however many others change things meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from evenflow.controller.store import Revision

_made: ContextVar[list[Revision] | None] = ContextVar("made", default=None)


@contextmanager
def collecting_revisions() -> Iterator[list[Revision]]:
    """The revisions that calls within the block put in force, oldest first."""
    found: list[Revision] = []
    token = _made.set(found)
    try:
        yield found
    finally:
        _made.reset(token)


def made(revision: Revision) -> None:
    """Note a revision for whoever collects in this context."""
    if (found := _made.get()) is not None:
        found.append(revision)
