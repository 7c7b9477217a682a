"""What a balancer makes once and keeps in its state folder.

The secret that session cookies are made from, and its own name.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
from pathlib import Path

from evenflow.controller import StateError

_BYTES = 32


def session_key(folder: Path | None) -> bytes:
    """The key kept in `folder`, made if there is none; without a folder one for this process.

    It is readable for its owner only. Raises StateError where it can be neither read nor written.
    """
    if folder is None:
        return secrets.token_bytes(_BYTES)
    try:
        return _kept(folder)
    except OSError as error:
        raise StateError(f"the key of session cookies: {error}") from error


def node_name(folder: Path | None) -> str:
    """A name for this balancer that no other one has: its host's, and a random part.

    It is kept in `folder`, so it outlives restarts; without a folder it is one for this process.
    Raises StateError where it can be neither read nor written.
    """
    host = re.sub(r"[^A-Za-z0-9.-]+", "-", socket.gethostname()).strip(".-")[:40] or "node"
    made = f"{host}-{secrets.token_hex(4)}"
    if folder is None:
        return made
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / "node.name"
        if path.exists() and (kept := path.read_text(encoding="utf-8").strip()):
            return kept[:100]
        path.write_text(f"{made}\n", encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StateError(f"the name of this node: {error}") from error
    return made


def _kept(folder: Path) -> bytes:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "session.key"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        if len(key := path.read_bytes()) == _BYTES:
            return key
        raise OSError(f"{path} holds no key; remove it to have a new one made") from None
    with os.fdopen(descriptor, "wb") as file:
        key = secrets.token_bytes(_BYTES)
        file.write(key)
    return key
