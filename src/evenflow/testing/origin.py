"""`Origin`: a real HTTP/1.1 server for tests, with scripted answers and a record of requests.

It runs in a thread of its own, so synchronous and asynchronous tests use it alike. `OriginProcess`
is the same as a process of its own, for tests that kill it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from typing import Self

from evenflow.testing.behaviours import raw, respond
from evenflow.testing.exchange import (
    READ_SIZE,
    Behaviour,
    Exchange,
    ReceivedRequest,
    received,
    reset_connection,
)
from evenflow.testing.loops import LoopThread, close_server, settle
from evenflow.testing.waiting import DEFAULT_TIMEOUT_S, wait_for
from evenflow.testing.wire import Head, WireError, take_head


class Origin:
    """A scriptable HTTP origin on loopback; a context manager that starts and stops it.

    Each request is answered by the first that applies: the next behaviour queued with `enqueue`,
    the one set for its path with `on`, `default`. Requests to `health_path` are health checks: they
    are counted in `health_checks`, kept out of `requests` and answered by `health`.

    `violations` collects everything in which the sender broke HTTP/1.1: a proxy under test must
    leave it empty.
    """

    def __init__(
        self,
        name: str = "origin",
        *,
        default: Behaviour | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        unix: str | None = None,
        health_path: str = "/health",
        requests_per_connection: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Describe an origin, encrypted with `tls`; port 0 takes a free one, `unix` a socket's path instead of TCP.

        After `requests_per_connection` requests (0: never) it closes a connection unannounced.
        """
        self.name = name
        self.host = host
        self.port = port
        self.unix = unix
        self.health_path = health_path
        self.requests_per_connection = requests_per_connection
        self.tls = tls
        self.default = default or identify(name)
        self.health: Behaviour = respond(200, b"ok")
        self.requests: list[ReceivedRequest] = []
        self.health_checks: list[ReceivedRequest] = []
        self.violations: list[str] = []
        self.connections = 0
        self.open_connections = 0
        self._queue: deque[Behaviour] = deque()
        self._paths: dict[str, Behaviour] = {}
        self._thread: LoopThread | None = None
        self._server: asyncio.Server | None = None
        self._writers: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    @property
    def url(self) -> str:
        """The origin's URL, as a balancer's configuration takes it."""
        if self.unix:
            return f"unix:{self.unix}"
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"

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
        """Reset every connection and stop listening, as a crash would; no-op when stopped."""
        if self._thread is None:
            return
        self._thread.run(self._shut())
        self._thread.close()
        self._thread = None

    def on(self, path: str, behaviour: Behaviour) -> None:
        """Answer requests for `path` (without the query) this way from now on."""
        self._paths[path] = behaviour

    def enqueue(self, *behaviours: Behaviour) -> None:
        """Answer the next requests this way, one each."""
        self._queue.extend(behaviours)

    def forget(self) -> None:
        """Drop every record and script; connections stay open."""
        self.requests.clear()
        self.health_checks.clear()
        self.violations.clear()
        self._queue.clear()
        self._paths.clear()
        self.default = identify(self.name)
        self.health = respond(200, b"ok")

    def set_healthy(self, healthy: bool) -> None:
        """Answer health checks with 200, or with 503."""
        self.health = respond(200, b"ok") if healthy else respond(503, b"unwell")

    def reset_connections(self) -> None:
        """Reset every open connection and go on listening."""
        if self._thread is None:
            raise RuntimeError(f"{self.name} is not running")
        self._thread.run(self._reset_all())

    def wait_for_requests(
        self, count: int = 1, *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> list[ReceivedRequest]:
        """Wait until at least `count` requests were recorded; return all of them."""
        wait_for(
            lambda: len(self.requests) >= count,
            f"{self.name} getting {count} requests",
            timeout_s=timeout_s,
            describe=lambda: f"it got {[r.head.start for r in self.requests]}",
        )
        return list(self.requests)

    async def _listen(self) -> None:
        if self.unix:
            self._server = await asyncio.start_unix_server(self._serve, self.unix, limit=READ_SIZE)
            return
        self._server = await asyncio.start_server(
            self._serve, self.host, self.port, limit=READ_SIZE, backlog=1024, ssl=self.tls
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        if self._server is not None:
            await close_server(self._server)
        await self._reset_all()
        await settle()

    async def _reset_all(self) -> None:
        tasks = [task for task in self._writers.values() if task is not None]
        for writer in list(self._writers):
            reset_connection(writer)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_connections += 1
        self._writers[writer] = asyncio.current_task()
        try:
            await self._serve_requests(self.connections, reader, writer)
        except WireError as error:
            self.violations.append(str(error))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self.open_connections -= 1
            del self._writers[writer]
            with contextlib.suppress(OSError):
                writer.close()

    async def _serve_requests(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        buffer = bytearray()
        served = 0
        while (head := await _read_head(reader, buffer)) is not None:
            request = received(number, head)
            exchange = Exchange(
                origin=self.name, request=request, buffer=buffer, reader=reader, writer=writer
            )
            await self._choose(request)(exchange)
            served += 1
            if not exchange.keep_alive or served == self.requests_per_connection:
                return
            await exchange.discard_body()

    def _choose(self, request: ReceivedRequest) -> Behaviour:
        path = request.target.partition("?")[0]
        if path == self.health_path:
            self.health_checks.append(request)
            return self.health
        self.requests.append(request)
        if self._queue:
            return self._queue.popleft()
        return self._paths.get(path, self.default)


class RawOrigin(Origin):
    """An origin that answers every request with exactly the bytes given, then closes."""

    def __init__(self, answer: bytes, name: str = "raw-origin") -> None:
        super().__init__(name, default=raw(answer))


def identify(name: str) -> Behaviour:
    """Answer 200 with the origin's name, in the body and as `X-Origin`."""
    return respond(
        200, f"{name}\n".encode(), [("Content-Type", "text/plain"), ("X-Origin", name)], reason="OK"
    )


async def _read_head(reader: asyncio.StreamReader, buffer: bytearray) -> Head | None:
    while (head := take_head(buffer)) is None:
        data = await reader.read(READ_SIZE)
        if not data:
            if buffer:
                raise WireError(f"the connection ended inside a head: {bytes(buffer[:200])!r}")
            return None
        buffer += data
    return head
