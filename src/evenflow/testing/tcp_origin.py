"""`TcpOrigin`: a server of raw bytes for tests of layer-4 balancing."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

from evenflow.testing.exchange import READ_SIZE, reset_connection
from evenflow.testing.loops import LoopThread, close_server, settle


class TcpOrigin:
    """Greets each connection with its name and a newline, then sends back what it gets.

    When the client has closed its half, it sends `bye` and a newline and closes. A connection that
    ends without a byte, such as a health check's, is not counted in `sessions`.
    """

    def __init__(self, name: str = "tcp-origin", *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.name = name
        self.host = host
        self.port = port
        self.sessions = 0
        self.received = bytearray()
        self._thread: LoopThread | None = None
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    def url(self, scheme: str = "tcp") -> str:
        """Return the origin's URL in a stream scheme."""
        return f"{scheme}://{self.host}:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, on the same port as before if it was stopped."""
        self._thread = LoopThread(self.name)
        self._thread.run(self._listen())

    def stop(self) -> None:
        """Reset every connection and stop listening; no-op when stopped."""
        if self._thread is None:
            return
        self._thread.run(self._shut())
        self._thread.close()
        self._thread = None

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        if self._server is not None:
            await close_server(self._server)
        for writer in list(self._writers):
            reset_connection(writer)
        await settle()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        counted = False
        try:
            writer.write(f"{self.name}\n".encode())
            while data := await reader.read(READ_SIZE):
                self.sessions += 0 if counted else 1
                counted = True
                self.received += data
                writer.write(data)
                await writer.drain()
            writer.write(b"bye\n")
            await writer.drain()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            with contextlib.suppress(OSError):
                writer.close()
