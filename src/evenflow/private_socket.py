"""The Unix socket between the engine and the admin app, which only this user can connect to.

It listens before the first plan is in force and long before the app is imported: what is asked
meanwhile waits in its queue and is answered, not refused.
"""

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

_BACKLOG = 1024


@contextlib.contextmanager
def private_socket() -> Iterator[socket.socket]:
    """A listening socket in a directory that only this user can enter; both go with the block."""
    with tempfile.TemporaryDirectory(prefix="evenflow-") as directory:
        listener = bind_private(Path(directory) / "admin.sock")
        with listener:
            yield listener


def bind_private(path: Path) -> socket.socket:
    """Listen at `path`, for this user only. Raises OSError when that cannot be done."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The mode must be right from the first moment, not only after a chmod.
        mask = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
