"""What the controller needs of a state store, and the values it keeps there.

Stores live in `evenflow.state`; this module only says what they promise. A store keeps a bounded
number of revisions and one base document: the configuration as file and environment last gave it,
against which the next reload is compared. What is decided beside the configuration, such as breakers
held by hand, is kept in documents by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Document = Mapping[str, Any]
"""A configuration as plain JSON values."""

HISTORY_LIMIT = 100
"""Revisions a store keeps; older ones are forgotten."""


class StateError(Exception):
    """The store could not read or write; the message says which one and why."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One configuration that was in force, without its document."""

    revision: int
    created_at: float
    """Unix seconds."""
    source: str
    """Who asked for it: `start`, `reload`, `api`, …"""
    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoredRevision:
    """A revision with its document, secrets included."""

    head: Revision
    document: Document


class StateStore(Protocol):
    """Durable memory of the wanted state. Every method may raise `StateError`."""

    async def open(self) -> None:
        """Make ready; called once before anything else."""

    async def save(self, entry: StoredRevision, *, base: Document | None = None) -> None:
        """Keep a revision and, where given, a new base document, both or neither.

        When this returns, they survive a crash as far as the store survives one at all.
        """

    async def save_base(self, base: Document) -> None:
        """Keep a new base document alone."""

    async def latest(self) -> StoredRevision | None:
        """The newest revision."""

    async def load(self, revision: int) -> StoredRevision | None:
        """One revision, unless it was never kept or is forgotten."""

    async def history(self) -> Sequence[Revision]:
        """All kept revisions, newest first."""

    async def base(self) -> Document | None:
        """The base document last kept."""

    async def keep(self, name: str, document: Document) -> None:
        """Keep a document beside the revisions, in place of an earlier one of this name."""

    async def kept(self, name: str) -> Document | None:
        """The document of this name last kept."""

    async def close(self) -> None:
        """Release what `open` took; closing twice is harmless."""
