"""How much memory the machine, or the container, has for evenflow: the default of `server.memory`."""

from __future__ import annotations

from pathlib import Path

SHARE = 4
"""The default is one part in so many of the memory there is: connections of the kernel, TLS, tables
and Python need memory as well."""
LEAST_BYTES = 64 * 1024 * 1024
_UNKNOWN_BYTES = 4 * 1024**3


def default_buffer_bytes(root: Path = Path("/")) -> int:
    """A quarter of the machine's memory, or of the control group's limit where that is lower.

    At least 64 MiB. `root` is where `/proc` and `/sys` are.
    """
    return max(min([_machine(root), *_groups(root)]) // SHARE, LEAST_BYTES)


def _machine(root: Path) -> int:
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return _UNKNOWN_BYTES
    for line in lines:
        name, _, value = line.partition(":")
        if name == "MemTotal":
            return int(value.split()[0]) * 1024
    return _UNKNOWN_BYTES


def _groups(root: Path) -> list[int]:
    """The limits of the control group of this process and of those above it, versions 1 and 2."""
    try:
        entries = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    limits = []
    for entry in entries:
        _, controllers, path = entry.split(":", 2)
        if controllers == "":
            top, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        # In a container the path may be one of the host's: then only the top is there.
        group = top / path.strip("/")
        for folder in (group, *group.parents):
            limits.extend(_limit(folder / name))
            if folder == top:
                break
    return limits


def _limit(file: Path) -> list[int]:
    try:
        text = file.read_text().strip()
    except OSError:
        return []
    return [int(text)] if text.isdecimal() else []
