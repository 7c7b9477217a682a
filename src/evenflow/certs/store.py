"""Pairs that came over the API, kept as files in the state folder.

Each pair has files of its own, named after its fingerprint: what an earlier revision of the
configuration names is still there to go back to.
"""

from __future__ import annotations

import os
from pathlib import Path

from .pair import Pair

KEPT = 5
"""Pairs of one name that are kept, the newest."""


def save_pair(folder: Path, pair: Pair) -> tuple[Path, Path]:
    """Writes certificate and key, readable by the owner only; where they are."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    stem = f"{pair.name}-{pair.fingerprint[:16]}"
    cert, key = folder / f"{stem}.pem", folder / f"{stem}.key"
    write_private(cert, pair.chain_pem)
    write_private(key, pair.key_pem)
    return cert, key


def remove_pair(files: tuple[Path, Path]) -> None:
    """Takes back what `save_pair` wrote."""
    for file in files:
        file.unlink(missing_ok=True)


def prune(folder: Path, name: str, keep: Path) -> None:
    """Removes the oldest pairs of a name beyond those that are kept, and never `keep`."""
    found = [file for file in folder.glob(f"{name}-*.pem") if _stem(file) == name]
    found.sort(key=lambda file: file.stat().st_mtime_ns, reverse=True)
    for file in found[KEPT:]:
        if file != keep:
            remove_pair((file, file.with_suffix(".key")))


def _stem(file: Path) -> str:
    return file.stem.rpartition("-")[0]


def write_private(file: Path, text: str) -> None:
    """Writes a file, readable by its owner only, whole or not at all."""
    draft = file.with_name(f".{file.name}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(file)
