"""Files whose content the configuration refers to, and how a change of one is noticed."""

from __future__ import annotations

from pathlib import Path

Stamp = tuple[int, int, int] | None
"""Time of change, size and number of a file; None when it is not there."""


def stamp(path: Path) -> Stamp:
    """What tells one state of a file from the next, through links such as those of mounted maps."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
