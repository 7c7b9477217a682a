"""The lock of a state folder: one process at a time uses it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from evenflow.controller.store import StateError

LOCK_NAME = "evenflow.lock"


def take_lock(folder: Path) -> int:
    """Lock a folder, which is made when it is missing, until the descriptor is closed.

    Raises StateError where another process has it, and OSError.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The kernel lets go of the lock with the descriptor, so a crash leaves none behind.
    lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(lock, 32).decode(errors="replace").strip()
        os.close(lock)
        raise StateError(
            f"{folder}: another balancer (process {holder or 'unknown'}) keeps its "
            "state here; give this one another `state.path`, or `state.store: memory`"
        ) from None
    except BaseException:
        os.close(lock)
        raise
    with contextlib.suppress(OSError):  # who holds it is told for people only
        os.truncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
    return lock
