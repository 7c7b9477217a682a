"""A gate that a test opens: origins wait at it, so tests steer slowness without any clock."""

from __future__ import annotations

import asyncio
import contextlib
import threading


class Gate:
    """Closed at first; whoever waits passes once it is open. Safe between threads and loops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened = False
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self.arrivals = 0

    def open(self) -> None:
        """Let everybody through from now on."""
        with self._lock:
            self._opened = True
            waiting, self._waiting = self._waiting, []
        for loop, event in waiting:
            # A loop that has ended has nobody left to wake.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(event.set)

    async def passed(self, *, bound_s: float = 120.0) -> None:
        """Wait until the gate is open; raises `TimeoutError` after `bound_s`."""
        event = asyncio.Event()
        with self._lock:
            self.arrivals += 1
            if self._opened:
                return
            self._waiting.append((asyncio.get_running_loop(), event))
        async with asyncio.timeout(bound_s):
            await event.wait()
