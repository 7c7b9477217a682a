"""`Load`: clients that keep asking in the background while a test changes what they ask."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

from evenflow.testing.exchange import READ_SIZE
from evenflow.testing.loops import LoopThread
from evenflow.testing.waiting import DEFAULT_TIMEOUT_S, wait_for
from evenflow.testing.wire import (
    Field,
    Head,
    WireError,
    encode_head,
    parse_status_line,
    response_body,
    take_head,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


class Load:
    """Several connections that send one request after the other until the block is left.

        with Load(port, connections=8) as load:
            load.wait_for_more(100)
            ...
        load.expect_no_failure()

    A failure is a status other than `accept`, a connection refused, or one that ends without having
    announced it by `Connection: close`.
    """

    def __init__(
        self,
        port: int,
        *,
        connections: int = 4,
        method: str = "GET",
        target: str = "/",
        headers: Sequence[Field] = (),
        accept: Sequence[int] = (200,),
        requests_per_connection: int = 0,
        pause_s: float = 0.0,
        tls: ssl.SSLContext | None = None,
        host: str = "load.test",
    ) -> None:
        """Describe the load, encrypted with `tls`; after `requests_per_connection` (0: never) a new one is opened."""
        self.statuses: Counter[int] = Counter()
        self.bodies: Counter[bytes] = Counter()
        self.failures: list[str] = []
        self._port = port
        self._connections = connections
        self._method = method
        self._head = encode_head(f"{method} {target} HTTP/1.1", [("Host", host), *headers])
        self._accept = frozenset(accept)
        self._per_connection = requests_per_connection
        self._pause_s = pause_s
        self._encryption: dict[str, Any] = (
            {} if tls is None else {"ssl": tls, "server_hostname": host}
        )
        self._stopping = False
        self._done: list[asyncio.Task[None]] = []
        self._thread: LoopThread | None = None

    @property
    def completed(self) -> int:
        """How many requests were answered so far."""
        return self.statuses.total()

    def __enter__(self) -> Self:
        self._thread = LoopThread("load")
        self._thread.run(self._begin())
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._stopping = True
            self._thread.run(self._end(), timeout_s=2 * DEFAULT_TIMEOUT_S)
            self._thread.close()
            self._thread = None

    def wait_for_more(self, count: int, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Wait until `count` further requests were answered."""
        goal = self.completed + count
        wait_for(
            lambda: self.completed >= goal,
            f"{count} further answers",
            timeout_s=timeout_s,
            describe=self.describe,
        )

    def expect_no_failure(self) -> None:
        """Check that every request was answered as wanted."""
        assert not self.failures, self.describe()

    def describe(self) -> str:
        """Say what was answered and what failed."""
        return (
            f"{self.completed} answered {dict(self.statuses)}, "
            f"{len(self.failures)} failed: {self.failures[:10]}"
        )

    async def _begin(self) -> None:
        self._done = [asyncio.create_task(self._client()) for _ in range(self._connections)]

    async def _end(self) -> None:
        await asyncio.gather(*self._done)

    async def _client(self) -> None:
        while not self._stopping:
            try:
                await self._connection()
            except (OSError, WireError) as error:
                if len(self.failures) < 10_000:
                    self.failures.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(0.01)

    async def _connection(self) -> None:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self._port, limit=READ_SIZE, **self._encryption
        )
        try:
            sent = 0
            while not self._stopping and (sent == 0 or sent != self._per_connection):
                sent += 1
                if await self._exchange(reader, writer):
                    return
                if self._pause_s:
                    await asyncio.sleep(self._pause_s)
        finally:
            with contextlib.suppress(OSError):
                writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Ask once; return whether the server announced to close."""
        buffer = bytearray()
        async with asyncio.timeout(DEFAULT_TIMEOUT_S):
            writer.write(self._head)
            await writer.drain()
            while (head := take_head(buffer)) is None:
                buffer += await _read(reader)
            status = parse_status_line(head).status
            body = await self._body(reader, buffer, head, status)
        self.statuses[status] += 1
        self.bodies[bytes(body)] += 1
        if status not in self._accept and len(self.failures) < 10_000:
            self.failures.append(f"status {status}: {body[:200]!r}")
        return "close" in head.tokens("connection")

    async def _body(
        self, reader: asyncio.StreamReader, buffer: bytearray, head: Head, status: int
    ) -> bytes:
        decoder = response_body(head, status, self._method)
        body = decoder.feed(buffer)
        while not decoder.finished:
            buffer += await _read(reader)
            body += decoder.feed(buffer)
        return body


async def _read(reader: asyncio.StreamReader) -> bytes:
    data = await reader.read(READ_SIZE)
    if not data:
        raise ConnectionResetError("the server closed without an announcement")
    return data
