"""A state store in one SQLite file.

A save is one transaction in write-ahead mode with full synchronisation, so what was acknowledged
survives a crash of the process and of the machine. Documents are kept compressed: one now and then
as a whole, and those after it as what changed from one to the next, so that a small change is a
small write however large the document. SQLite is used from one thread of the store's own: the event loop never waits for a disk.

One process at a time uses a directory: two balancers would take each other's changes for their
own. Documents contain secrets (admin tokens), so the directory and the file are for their owner alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from evenflow.controller.store import (
    HISTORY_LIMIT,
    Document,
    Revision,
    StateError,
    StoredRevision,
)
from evenflow.state.delta import delta, patched
from evenflow.state.lock import take_lock
from evenflow.state.packed import compress, encode, pack, unpack

T = TypeVar("T")

FILE_NAME = "evenflow.sqlite3"
SCHEMA_VERSION = 2
BUSY_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 10.0
WHOLE_EVERY = 32
"""So many revisions in a row build on one that is kept as a whole, at the most."""
MAX_DELTA_BYTES = 64 * 1024
"""A larger change, before compression, is kept as a whole document."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS revisions (
    revision INTEGER PRIMARY KEY,
    created_at REAL NOT NULL,
    source TEXT NOT NULL,
    changes TEXT NOT NULL,
    base INTEGER,
    document BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS meta (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
"""

_BASE = "base"
_KEPT = "kept:"
_TO_2 = "ALTER TABLE revisions ADD COLUMN base INTEGER"
# A store remembers its newest revisions; older rows are there only for these to build on.
_HEADS = """
SELECT revision, created_at, source, changes FROM (
    SELECT revision, created_at, source, changes FROM revisions ORDER BY revision DESC LIMIT ?
)
"""
_HISTORY = f"{_HEADS} ORDER BY revision DESC"
_LATEST = f"{_HISTORY} LIMIT 1"
_ONE = f"{_HEADS} WHERE revision = ?"
_FORGET = """
DELETE FROM revisions WHERE revision < (
    SELECT max(revision) FROM revisions WHERE base IS NULL AND revision <= (
        SELECT min(revision) FROM (
            SELECT revision FROM revisions ORDER BY revision DESC LIMIT ?
        )
    )
)
"""


@dataclass(frozen=True, slots=True)
class _Last:
    """The revision that was written last."""

    revision: int
    document: Document
    depth: int
    """How many revisions it builds on."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A document on its way to the disk."""

    packed: bytes
    base: int | None
    """The revision that it is a change of."""
    depth: int


class SqliteStore:
    """Keeps revisions and the base document in `directory`, which is made when it is missing."""

    def __init__(
        self,
        directory: Path | str,
        history_limit: int = HISTORY_LIMIT,
        whole_every: int = WHOLE_EVERY,
    ) -> None:
        self._directory = Path(directory)
        self._limit = history_limit
        self._whole_every = whole_every
        self._last: _Last | None = None
        self._connection: sqlite3.Connection | None = None
        self._lock: int | None = None
        self._thread: ThreadPoolExecutor | None = None

    @property
    def path(self) -> Path:
        """The database file."""
        return self._directory / FILE_NAME

    async def open(self) -> None:
        """Open the file, making it when it is missing."""
        if self._thread is not None:
            return
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="evenflow-state")
        try:
            await self._run(self._open)
        except BaseException:
            self._thread.shutdown(wait=False)
            self._thread = None
            raise

    async def save(self, entry: StoredRevision, *, base: Document | None = None) -> None:
        """Keep a revision and, where given, a new base document, both or neither."""
        await self._run(lambda: self._save(entry, base))

    async def save_base(self, base: Document) -> None:
        """Keep a new base document alone."""
        await self._run(lambda: self._save(None, base))

    async def latest(self) -> StoredRevision | None:
        """The newest revision."""
        return await self._run(lambda: self._load(_LATEST, ()))

    async def load(self, revision: int) -> StoredRevision | None:
        """One revision, unless it was never kept or is forgotten."""
        return await self._run(lambda: self._load(_ONE, (revision,)))

    async def history(self) -> Sequence[Revision]:
        """All kept revisions, newest first."""
        return await self._run(self._history)

    async def base(self) -> Document | None:
        """The base document last kept."""
        return await self._run(lambda: self._get(_BASE))

    async def keep(self, name: str, document: Document) -> None:
        """Keep a document by its name."""
        await self._run(lambda: self._put(_KEPT + name, document))

    async def kept(self, name: str) -> Document | None:
        """The document of this name last kept."""
        return await self._run(lambda: self._get(_KEPT + name))

    async def close(self) -> None:
        """Close the file; closing twice is harmless."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await loop.run_in_executor(thread, self._close)
        finally:
            thread.shutdown(wait=False)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._thread is None:
            raise StateError(f"{self.path}: the state store is not open")

        def guarded() -> T:
            try:
                return work()
            except (sqlite3.Error, OSError, zlib.error, ValueError) as error:
                raise StateError(f"{self.path}: {error}") from error

        return await asyncio.get_running_loop().run_in_executor(self._thread, guarded)

    # What follows runs in the store's thread.

    def _open(self) -> None:
        self._lock = take_lock(self._directory)
        try:
            self._connection = self._connect()
        except BaseException:
            self._release_lock()
            raise

    def _release_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _connect(self) -> sqlite3.Connection:
        # Made with its mode before SQLite opens it: the journal files take the mode over.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > SCHEMA_VERSION:
                raise StateError(
                    f"{self.path}: written by a newer evenflow (schema {version}, "
                    f"this one knows {SCHEMA_VERSION})"
                )
            if version < SCHEMA_VERSION:
                step = _SCHEMA if version == 0 else f"{_TO_2};"
                connection.executescript(
                    f"BEGIN IMMEDIATE; {step} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
                )
        except BaseException:
            connection.close()
            raise
        return connection

    def _database(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StateError(f"{self.path}: the state store is closed")
        return self._connection

    def _save(self, entry: StoredRevision | None, base: Document | None) -> None:
        # Packed before the transaction begins, so the write lock is held for the writes alone.
        row = None if entry is None else self._row(entry)
        packed_base = None if base is None else pack(base)
        last, self._last = self._last, None
        database = self._database()
        database.execute("BEGIN IMMEDIATE")
        try:
            if entry is not None and row is not None:
                self._insert(database, entry.head, row)
                last = _Last(entry.head.revision, entry.document, row.depth)
            if packed_base is not None:
                values = (_BASE, packed_base)
                database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", values)
            database.execute("COMMIT")
        except BaseException:
            # What is on disk now is known again with the next document that is kept as a whole.
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        self._last = last

    def _row(self, entry: StoredRevision) -> _Row:
        last = self._last
        query = "SELECT max(revision) FROM revisions WHERE revision < ?"
        (before,) = self._database().execute(query, (entry.head.revision,)).fetchone()
        # A row builds on the one before it or on none, so that old ones go from the end.
        follows = last is not None and last.revision == before
        if last is not None and follows and last.depth + 1 < self._whole_every:
            text = encode(delta(last.document, entry.document))
            if len(text) <= MAX_DELTA_BYTES:
                return _Row(compress(text), last.revision, last.depth + 1)
        return _Row(pack(entry.document), None, 0)

    def _insert(self, database: sqlite3.Connection, head: Revision, row: _Row) -> None:
        # What comes after a revision that is written late, or once more, builds on it no longer.
        query = "SELECT revision FROM revisions WHERE revision > ? AND base IS NOT NULL"
        for (revision,) in database.execute(query, (head.revision,)).fetchall():
            database.execute(
                "UPDATE revisions SET base = NULL, document = ? WHERE revision = ?",
                (pack(self._document(revision)), revision),
            )
        database.execute(
            "INSERT OR REPLACE INTO revisions"
            " (revision, created_at, source, changes, base, document) VALUES (?, ?, ?, ?, ?, ?)",
            (
                head.revision,
                head.created_at,
                head.source,
                json.dumps(head.changes),
                row.base,
                row.packed,
            ),
        )
        database.execute(_FORGET, (self._limit,))

    def _load(self, query: str, values: tuple[int, ...]) -> StoredRevision | None:
        row = self._database().execute(query, (self._limit, *values)).fetchone()
        return None if row is None else StoredRevision(_head(row), self._document(row[0]))

    def _document(self, revision: int) -> Document:
        """A revision's document, put together from one that is whole and what changed since."""
        changes: list[bytes] = []
        at: int | None = revision
        while at is not None:
            query = "SELECT document, base FROM revisions WHERE revision = ?"
            row = self._database().execute(query, (at,)).fetchone()
            if row is None or (row[1] is not None and row[1] >= at):
                raise ValueError(f"revision {revision} builds on one that is not there")
            changes.append(row[0])
            at = row[1]
        document = unpack(changes.pop())
        for change in reversed(changes):
            document = patched(document, unpack(change))
        return document

    def _history(self) -> list[Revision]:
        rows = self._database().execute(_HISTORY, (self._limit,))
        return [_head(row) for row in rows]

    def _put(self, key: str, document: Document) -> None:
        values = (key, pack(document))
        self._database().execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", values)

    def _get(self, key: str) -> Document | None:
        query = "SELECT value FROM meta WHERE key = ?"
        row = self._database().execute(query, (key,)).fetchone()
        return None if row is None else unpack(row[0])

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._last = None
        self._release_lock()


def _head(row: Sequence[Any]) -> Revision:
    revision, created_at, source, changes = row[:4]
    return Revision(revision, created_at, source, tuple(json.loads(changes)))
