"""What the operating system says about this process."""

import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_IMPORTED_AT = time.time()


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """Resources in use; `None` where the system does not tell."""

    resident_bytes: int | None
    cpu_s: float
    open_fds: int | None
    max_fds: int | None
    threads: int | None
    started_at: float
    """Unix seconds."""


def process_usage() -> ProcessUsage:
    """Read the present values; cheap enough for every page."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return ProcessUsage(
        resident_bytes=_resident(used.ru_maxrss),
        cpu_s=used.ru_utime + used.ru_stime,
        open_fds=_open_fds(),
        max_fds=None if limit == resource.RLIM_INFINITY else limit,
        threads=_entries("/proc/self/task"),
        started_at=_STARTED_AT,
    )


def _resident(peak: int) -> int | None:
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        # macOS tells only the peak, in bytes.
        return peak if sys.platform == "darwin" else None


def _open_fds() -> int | None:
    for directory in ("/proc/self/fd", "/dev/fd"):
        count = _entries(directory)
        if count is not None:
            return count - 1  # the descriptor that reads the directory
    return None


def _entries(directory: str) -> int | None:
    try:
        return sum(1 for _ in os.scandir(directory))
    except OSError:
        return None


def _started_at() -> float:
    """The kernel's start time of this process; where it is not told, that of this import."""
    try:
        ticks = int(Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[19])
        with Path("/proc/stat").open("rb") as file:
            boot = next(int(line.split()[1]) for line in file if line.startswith(b"btime "))
        return boot + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError, StopIteration):
        return _IMPORTED_AT


_STARTED_AT = _started_at()
