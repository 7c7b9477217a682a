"""The audit log: every change, who made it and how, in a file that is only ever appended to.

Each line is a JSON object with a number, the hash of the line before it (`prev`) and its own
(`hash`: SHA-256 of `prev` and the line without `hash`), so a line that was changed, removed or put
in between breaks the chain. The chain shows tampering by those who cannot write it anew from there
on; who must be safe from them too keeps the newest hash elsewhere.

Files are `audit.jsonl`, which is in use, and `audit-<number of its last line>.jsonl`, which were
put aside; the oldest are removed. Entries hold no secrets: whoever records them has masked those.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog

from evenflow.controller.store import Revision, StateError

FILE_NAME: Final = "audit.jsonl"
IN_MEMORY: Final = 1000
"""Entries at hand without reading a file; all there are where there is no folder."""
FIRST_PREV: Final = "0" * 64

Entry = Mapping[str, Any]

_log = structlog.get_logger("evenflow.audit")


@dataclass(frozen=True, slots=True)
class AuditPolicy:
    """How much is kept."""

    max_bytes: int = 16 * 1024 * 1024
    max_files: int = 16


class AuditLog:
    """Appends entries and reads them back; in memory only where it has no folder."""

    def __init__(self, folder: Path | None = None, policy: AuditPolicy | None = None) -> None:
        self.policy = policy or AuditPolicy()
        """Followed from the next entry on."""
        self.written = 0
        self.failed = 0
        self._folder = folder
        self._recent: deque[Entry] = deque(maxlen=IN_MEMORY)
        self._sequence = 0
        self._prev = FIRST_PREV
        # One thread: entries are written in the order in which they are recorded.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="evenflow-audit")

    async def open(self) -> None:
        """Find the end of what is there; raises `StateError`."""
        if self._folder is not None:
            await self._run(self._open)

    async def record(self, entry: Mapping[str, Any]) -> None:
        """Append an entry; it is on disk when this returns.

        One that cannot be written is logged and counted: what it tells of has happened.
        """
        await self._run(lambda: self._try_append(time.time(), entry))

    def record_revision(self, revision: Revision) -> None:
        """Append, without waiting for it, a change that was not asked for over the HTTP interface."""
        if revision.source.partition(" ")[0] == "api":
            return
        entry = {
            "who": revision.source,
            "role": None,
            "client": None,
            "action": "configuration in force",
            "path": None,
            "status": None,
            "revision_before": None,
            "revision_after": revision.revision,
            "changes": list(revision.changes),
        }
        self._thread.submit(self._try_append, revision.created_at, entry)

    async def page(self, limit: int, before: int | None = None) -> list[Entry]:
        """At most `limit` entries, newest first, of those numbered below `before`."""
        found: list[Entry] = await self._run(lambda: self._page(limit, before))
        return found

    def close(self) -> None:
        """Finish what was recorded and let go of the file."""
        self._thread.shutdown(wait=True)

    async def _run(self, work: Any) -> Any:
        loop = asyncio.get_running_loop()
        try:
            # Not given up half-way: who asked may go away, the change was made.
            return await asyncio.shield(loop.run_in_executor(self._thread, work))
        except OSError as error:
            raise StateError(f"audit log: {error}") from error

    @property
    def _path(self) -> Path:
        assert self._folder is not None
        return self._folder / FILE_NAME

    def _open(self) -> None:
        assert self._folder is not None
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _drop_torn_line(self._path)
        for file in reversed(files_in(self._folder)):
            last = [json.loads(line) for line in file.read_bytes().splitlines()[-IN_MEMORY:]]
            self._recent.extendleft(reversed(last[len(self._recent) - IN_MEMORY :]))
            if len(self._recent) == IN_MEMORY:
                break
        if self._recent:
            self._sequence, self._prev = self._recent[-1]["seq"], self._recent[-1]["hash"]

    def _try_append(self, at: float, entry: Mapping[str, Any]) -> None:
        try:
            self._append(at, entry)
            self.written += 1
        except OSError as error:
            self.failed += 1
            _log.error("change not in the audit log", reason=str(error), entry=dict(entry))

    def _append(self, at: float, given: Mapping[str, Any]) -> None:
        moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
        entry: dict[str, Any] = {
            "seq": self._sequence + 1,
            "time": moment.replace("+00:00", "Z"),
            **given,
            "prev": self._prev,
        }
        entry["hash"] = entry_hash(entry)
        if self._folder is not None:
            self._rotate()
            line = json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                size = os.fstat(descriptor).st_size
                try:
                    _write_all(descriptor, line)
                    os.fsync(descriptor)
                except OSError:
                    # A full disk must not leave half a line in the middle of the file.
                    os.ftruncate(descriptor, size)
                    raise
            finally:
                os.close(descriptor)
        self._sequence, self._prev = entry["seq"], entry["hash"]
        self._recent.append(entry)

    def _rotate(self) -> None:
        assert self._folder is not None
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            return
        if size >= self.policy.max_bytes:
            self._path.rename(self._folder / f"audit-{self._sequence:012d}.jsonl")
        old = files_in(self._folder)
        for file in old[: max(0, len(old) - self.policy.max_files)]:
            file.unlink(missing_ok=True)

    def _page(self, limit: int, before: int | None) -> list[Entry]:
        end = self._sequence + 1 if before is None else before
        found: list[Entry] = []
        if self._recent and end > self._recent[0]["seq"]:
            found = [entry for entry in reversed(self._recent) if entry["seq"] < end][:limit]
            end = found[-1]["seq"] if found else end
        if len(found) == limit or self._folder is None or end <= 1:
            return found
        for file in reversed(files_in(self._folder)):
            if len(found) == limit:
                break
            with file.open("rb") as lines:
                older = deque(
                    (entry for line in lines if (entry := json.loads(line))["seq"] < end),
                    maxlen=limit - len(found),
                )
            found.extend(reversed(older))
            end = found[-1]["seq"] if found else end
        return found


def files_in(folder: Path) -> list[Path]:
    """The files of the log, oldest first."""
    current = folder / FILE_NAME
    return sorted(folder.glob("audit-*.jsonl")) + ([current] if current.exists() else [])


def entry_hash(entry: Mapping[str, Any]) -> str:
    """The hash an entry must have."""
    plain = {key: value for key, value in entry.items() if key != "hash"}
    text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Verified:
    """What reading the whole log showed."""

    entries: int
    first: int
    """The number of the oldest entry that is kept; 0 without any."""
    last_hash: str
    problems: Sequence[str]
    """Where the chain is broken."""


def verify(folder: Path) -> Verified:
    """Follow the chain through all files; raises OSError."""
    count, first, prev, expected = 0, 0, None, None
    problems: list[str] = []
    for place, line in _lines(folder):
        try:
            entry = json.loads(line)
            sequence, own, link = int(entry["seq"]), str(entry["hash"]), str(entry["prev"])
        except (ValueError, KeyError, TypeError):
            problems.append(f"{place}: not an entry")
            continue
        if own != entry_hash(entry):
            problems.append(f"{place}: entry {sequence} was changed")
        if prev is not None and link != prev:
            problems.append(f"{place}: entry {sequence} does not follow the one before it")
        elif expected is not None and sequence != expected:
            problems.append(f"{place}: expected entry {expected}, got {sequence}")
        count, first = count + 1, first or sequence
        prev, expected = own, sequence + 1
    return Verified(count, first, prev or "", problems)


def _lines(folder: Path) -> Iterator[tuple[str, bytes]]:
    for file in files_in(folder):
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                yield f"{file.name}:{number}", line


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _drop_torn_line(path: Path) -> None:
    """Remove what a crash left of a line: nobody was told that it was written."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return
    with path.open("r+b") as file:
        keep = size
        while keep:
            start = max(0, keep - 65536)
            file.seek(start)
            newline = file.read(keep - start).rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            keep = start
        if keep < size:
            file.truncate(keep)
