"""A state store that lives and dies with the process."""

from __future__ import annotations

from collections.abc import Sequence

from evenflow.controller.store import HISTORY_LIMIT, Document, Revision, StoredRevision


class MemoryStore:
    """Keeps the last revisions in memory. Documents are kept as given and must not be changed."""

    def __init__(self, history_limit: int = HISTORY_LIMIT) -> None:
        self._limit = history_limit
        self._entries: dict[int, StoredRevision] = {}
        self._base: Document | None = None
        self._kept: dict[str, Document] = {}

    async def open(self) -> None:
        """Nothing to make ready."""

    async def save(self, entry: StoredRevision, *, base: Document | None = None) -> None:
        """Keep a revision, and a new base document where given."""
        self._entries[entry.head.revision] = entry
        for revision in sorted(self._entries)[: -self._limit]:
            del self._entries[revision]
        if base is not None:
            self._base = base

    async def save_base(self, base: Document) -> None:
        """Keep a new base document alone."""
        self._base = base

    async def latest(self) -> StoredRevision | None:
        """The newest revision."""
        return self._entries[max(self._entries)] if self._entries else None

    async def load(self, revision: int) -> StoredRevision | None:
        """One revision, unless it was never kept or is forgotten."""
        return self._entries.get(revision)

    async def history(self) -> Sequence[Revision]:
        """All kept revisions, newest first."""
        return [self._entries[revision].head for revision in sorted(self._entries, reverse=True)]

    async def base(self) -> Document | None:
        """The base document last kept."""
        return self._base

    async def keep(self, name: str, document: Document) -> None:
        """Keep a document by its name."""
        self._kept[name] = document

    async def kept(self, name: str) -> Document | None:
        """The document of this name last kept."""
        return self._kept.get(name)

    async def close(self) -> None:
        """Nothing to release."""
