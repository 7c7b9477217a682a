"""An asyncio loop in a thread of its own, for servers and clients beside a synchronous test."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from evenflow.testing.waiting import DEFAULT_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


class LoopThread:
    """Runs a loop from construction until `close`."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], *, timeout_s: float = DEFAULT_TIMEOUT_S) -> T:
        """Run a coroutine on the loop and return its result, from another thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def close(self) -> None:
        """Cancel what still runs, then end the loop and the thread."""
        self.run(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEFAULT_TIMEOUT_S)
        self._loop.close()


async def settle() -> None:
    """Let connections that were just accepted, and transports just closed, take their next steps.

    A handler cancelled before its first step would never close its connection.
    """
    for _ in range(5):
        await asyncio.sleep(0)


async def close_server(server: asyncio.Server) -> None:
    """Accept no more, let what was accepted reach its handler, then close the listening sockets.

    asyncio loses, unclosed, a connection that was accepted in the iteration in which its server is
    closed.
    """
    for sock in server.sockets:
        asyncio.get_running_loop().remove_reader(sock.fileno())
    await settle()
    server.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await settle()
    # What has unsent bytes, or was accepted for a handler that never ran, would stay open.
    transports = getattr(asyncio.get_running_loop(), "_transports", {})
    for transport in list(transports.values()):
        transport.abort()
    await settle()
