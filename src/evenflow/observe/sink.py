"""Where the program log's lines go: one output at a time, written by a thread of its own.

Whoever logs hands a line over and goes on, whatever the output does: the event loop must not stand
still because nobody reads a pipe. The queue is bounded; what finds it full is dropped, counted, and
told of in the log once the output takes lines again.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from evenflow.engine import write_lines

QUEUE_BYTES: Final = 1024 * 1024
"""How much may wait for the output."""

_STANDARD = ("stdout", "stderr")


class Output:
    """`stdout`, `stderr` or a file, opened for appending; raises OSError."""

    def __init__(self, name: str) -> None:
        self.name = name
        # Unbuffered: a line is in the file, and seen by `tail -f`, when it was written.
        self._file = None if name in _STANDARD else _appending(name)

    def write(self, line: bytes) -> None:
        """Append a whole line; may wait. Raises OSError."""
        if self._file is None:
            # Python leaves these empty where the process was started without them.
            if (sys.__stdout__ if self.name == "stdout" else sys.__stderr__) is None:
                raise OSError(f"there is no {self.name}")
            write_lines(self.name, line)
            return
        while line:
            line = line[self._file.write(line) :]

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()


def _appending(path: str) -> IO[bytes]:
    return Path(path).open("ab", buffering=0)


class Sink:
    """A queue of lines and the thread that writes them. Its methods may be called in any thread.

    `notice` makes the line that tells of so many dropped ones.
    """

    def __init__(self, notice: Callable[[int], str], queue_bytes: int = QUEUE_BYTES) -> None:
        self._notice = notice
        self._most = queue_bytes
        self._changed = threading.Condition()
        self._output = Output("stderr")
        self._queue: deque[tuple[Output, bytes]] = deque()
        self._queued = 0
        self._writing = False
        self._untold = 0
        self._thread: threading.Thread | None = None
        self.lost = 0
        """Lines that were dropped or could not be written."""

    @property
    def output(self) -> str:
        """`stdout`, `stderr` or the file's path."""
        return self._output.name

    @property
    def path(self) -> Path | None:
        """The file written to, if it is one."""
        return None if self._output.name in _STANDARD else Path(self._output.name)

    def direct(self, output: str) -> None:
        """Write to `stdout`, `stderr` or a file's path from now on; raises OSError.

        Lines handed over before still go to the output of before.
        """
        new = Output(output)
        with self._changed:
            old, self._output = self._output, new
            self._queue.append((old, b""))
            self._wake()

    def reopen(self) -> None:
        """Open the file anew, so that one that was renamed is let go of; raises OSError."""
        if self.path is not None:
            self.direct(self._output.name)

    def write(self, line: str) -> None:
        """Hand one line over; never waits for the output and never raises for it."""
        data = (line + "\n").encode(errors="backslashreplace")
        with self._changed:
            if self._queued + len(data) > self._most:
                self._lose()
                return
            self._queued += len(data)
            self._queue.append((self._output, data))
            self._wake()

    def flush(self, deadline_s: float) -> bool:
        """Wait until all that was handed over is written, at most so long; whether it was."""
        until = time.monotonic() + deadline_s
        with self._changed:
            while self._queue or self._writing:
                left = until - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
            return True

    def _wake(self) -> None:
        if self._thread is None:
            # Dies with the process: an output that never takes another line must not hold it up.
            self._thread = threading.Thread(target=self._run, name="program-log", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _lose(self) -> None:
        self.lost += 1
        self._untold += 1

    # What follows runs in the thread.

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue:
                    self._changed.wait()
                output, data = self._queue.popleft()
                self._writing = True
            written = self._written(output, data)
            with self._changed:
                self._queued -= len(data)
                if not written:
                    self._lose()
                elif data and self._untold and not self._queue:
                    # At the place in the log where the dropped lines would have been.
                    line = (self._notice(self._untold) + "\n").encode(errors="backslashreplace")
                    self._untold = 0
                    self._queued += len(line)
                    self._queue.append((self._output, line))
                self._writing = False
                self._changed.notify_all()

    def _written(self, output: Output, data: bytes) -> bool:
        try:
            if data:
                output.write(data)
            else:
                output.close()
        except (OSError, ValueError):
            # A full disk, a closed pipe, a closed or absent stream.
            return not data
        return True
