"""Rotation of log files by size and age, with compression and a bound on how many are kept.

A `Rotator` never writes to the log. It renames the file, tells the writer to open it anew, and
later compresses what the writer has let go of. So the same code serves the program log, which
Python writes, and the access log, which the engine writes. A rotated file is called after the
log with the time appended: `evenflow.log.20250803T150440.683Z`, plus `.gz` once compressed.
"""

import asyncio
import contextlib
import gzip
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import structlog

_log = structlog.get_logger("evenflow.logs")


@dataclass(frozen=True, slots=True)
class RotationPolicy:
    """When to rotate and what to keep; 0 switches a rule off."""

    max_bytes: int = 0
    """Rotate a file that has grown to this size."""
    max_age_s: float = 0
    """Rotate a file that has been written to for this long, and remove one that was rotated this
    long ago."""
    keep: int = 0
    """Rotated files kept; the oldest go first."""
    compress: bool = False
    """Compress rotated files with gzip."""


@dataclass(slots=True)
class Rotator:
    """Rotates one file. Each of `reopen` makes a writer of it open the path anew."""

    path: Path
    policy: RotationPolicy
    reopen: Sequence[Callable[[], None]]
    clock: Callable[[], float] = time.time
    """Unix seconds."""
    _since: float | None = field(default=None, init=False)
    _sizes: dict[Path, int] = field(default_factory=dict, init=False)

    def check(self) -> bool:
        """Rotate if it is due, then tidy up; true when the file was rotated.

        Blocks while it compresses, so an event loop calls it in a thread. Raises OSError.
        """
        rotated = self._due() and self._rotate()
        self._tidy()
        return rotated

    def rotated_files(self) -> list[Path]:
        """What was rotated and is still there, oldest first."""
        try:
            files = sorted(self.path.parent.iterdir())
        except FileNotFoundError:
            return []
        return [file for file in files if self._is_rotated(file.name)]

    def _is_rotated(self, name: str) -> bool:
        return name.startswith(f"{self.path.name}.") and self._rotated_at(Path(name)) is not None

    def _rotated_at(self, file: Path) -> float | None:
        return _time_of(file.name.removeprefix(f"{self.path.name}.").removesuffix(".gz"))

    def _due(self) -> bool:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            self._since = None
            return False
        if status.st_size == 0:
            self._since = None
            return False
        if self._since is None:
            self._since = self._begun(status)
        policy = self.policy
        grown = 0 < policy.max_bytes <= status.st_size
        return grown or 0 < policy.max_age_s <= self.clock() - self._since

    def _begun(self, status: os.stat_result) -> float:
        """When the current file was begun: after the last rotation, or about its last write.

        Few file systems tell a file's birth, and a restart must not make its age count anew.
        """
        earlier = self.rotated_files()
        if earlier and (begun := self._rotated_at(earlier[-1])) is not None:
            return begun
        return min(status.st_mtime, self.clock())

    def _rotate(self) -> bool:
        at = self.clock()
        target = Path(f"{self.path}.{_stamp(at)}")
        while target.exists() or Path(f"{target}.gz").exists():
            at += 0.001
            target = Path(f"{self.path}.{_stamp(at)}")
        self.path.rename(target)
        self._since = None
        for reopen in self.reopen:
            reopen()
        return True

    def _tidy(self) -> None:
        files = self.rotated_files()
        surplus = set(files[: -self.policy.keep]) if self.policy.keep else set[Path]()
        if self.policy.max_age_s:
            oldest = self.clock() - self.policy.max_age_s
            surplus |= {file for file in files if (self._rotated_at(file) or 0) < oldest}
        for file in surplus:
            file.unlink(missing_ok=True)
        files = [file for file in files if file not in surplus]
        if self.policy.compress:
            self._compress([file for file in files if file.suffix != ".gz"])

    def _compress(self, files: Sequence[Path]) -> None:
        """Compress files that their writer has let go of.

        That is so once the log exists anew and the rotated file has not grown since the last look.
        """
        sizes = {file: file.stat().st_size for file in files}
        for file, size in sizes.items():
            if self._sizes.get(file) == size and self.path.exists():
                _gzip(file)
        self._sizes = sizes


async def keep_rotating(rotators: Sequence[Rotator], *, interval_s: float = 1.0) -> None:
    """Check all rotators again and again; ends only when cancelled.

    A file that cannot be rotated is tried again at the next round and never ends the rest.
    """
    failing: dict[Path, str] = {}
    while True:
        for rotator in rotators:
            try:
                await asyncio.to_thread(rotator.check)
                failing.pop(rotator.path, None)
            except OSError as error:
                if failing.get(rotator.path) != str(error):
                    _log.error("log rotation failed", path=str(rotator.path), reason=str(error))
                failing[rotator.path] = str(error)
        await asyncio.sleep(interval_s)


def _gzip(file: Path) -> None:
    """Replace a file by its compressed form; a crash leaves one of the two, whole."""
    part = file.with_name(f"{file.name}.part")
    try:
        with file.open("rb") as source, gzip.open(part, "wb", compresslevel=6) as target:
            shutil.copyfileobj(source, target, 1 << 16)
        part.chmod(file.stat().st_mode & 0o7777)
        part.rename(f"{file}.gz")
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    file.unlink()


def _stamp(at: float) -> str:
    moment = datetime.fromtimestamp(at, UTC)
    return f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03d}Z"


def _time_of(stamp: str) -> float | None:
    try:
        return datetime.strptime(stamp, "%Y%m%dT%H%M%S.%f%z").timestamp()
    except ValueError:
        return None
