"""One request at a test origin: what was received, and the means to answer it.

A behaviour is an async function from an `Exchange` to nothing. `evenflow.testing.behaviours` has
those that tests need most; any other is a few lines of your own.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from evenflow.testing.wire import (
    BodyDecoder,
    Field,
    Head,
    RequestLine,
    encode_head,
    parse_request_line,
    request_body,
)

if TYPE_CHECKING:
    import asyncio

READ_SIZE = 262_144
"""Bytes asked of a socket at once."""


@dataclass
class ReceivedRequest:
    """A request as the origin saw it. The body grows while it arrives."""

    connection: int
    """The number of the connection, counted from 1 in the order of acceptance."""
    head: Head
    line: RequestLine
    body: bytearray = field(default_factory=bytearray)
    body_length: int = 0
    trailers: tuple[Field, ...] = ()
    complete: bool = False
    """Whether the whole body arrived."""

    @property
    def method(self) -> str:
        """The method."""
        return self.line.method

    @property
    def target(self) -> str:
        """The request target."""
        return self.line.target

    def header(self, name: str) -> str | None:
        """Return the field's values joined by a comma, or `None` without such a field."""
        return self.head.get(name)


class Exchange:
    """The request and the connection it came on."""

    def __init__(
        self,
        *,
        origin: str,
        request: ReceivedRequest,
        buffer: bytearray,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.origin = origin
        self.request = request
        self.keep_alive = "close" not in request.head.tokens("connection")
        self._buffer = buffer
        self._reader = reader
        self._writer = writer
        self._body: BodyDecoder = request_body(request.head, request.line.version)

    @property
    def expects_continue(self) -> bool:
        """Whether the sender waits for `100 Continue` before it sends the body."""
        return "100-continue" in self.request.head.tokens("expect")

    async def read_some(self) -> bytes:
        """Return the next bytes of the request's body, empty at its end."""
        request = self.request
        while not request.complete:
            content = self._body.feed(self._buffer)
            request.body_length += len(content)
            if self._body.finished:
                request.trailers = self._body.trailers
                request.complete = True
            if content:
                return content
            if not request.complete:
                data = await self._reader.read(READ_SIZE)
                if not data:
                    raise ConnectionResetError("the client left")
                self._buffer += data
        return b""

    async def read_body(self) -> bytes:
        """Read the whole request body and remember it."""
        while piece := await self.read_some():
            self.request.body += piece
        return bytes(self.request.body)

    async def discard_body(self) -> int:
        """Read the whole request body without keeping it; return its length."""
        while await self.read_some():
            pass
        return self.request.body_length

    async def send_head(self, status: int, fields: list[Field], reason: str = "") -> None:
        """Send a response head, final or interim."""
        await self.send(encode_head(f"HTTP/1.1 {status} {reason}", fields))

    async def send_whole(self, status: int, fields: list[Field], reason: str, body: bytes) -> None:
        """Send a response head and its body in one write."""
        await self.send(encode_head(f"HTTP/1.1 {status} {reason}", fields) + body)

    async def send(self, data: bytes) -> None:
        """Send bytes as they are, waiting while the client does not read."""
        self._writer.write(data)
        await self._writer.drain()

    async def read_raw(self) -> bytes:
        """Return the next bytes of the connection as they are, after a switch of protocols."""
        if self._buffer:
            early = bytes(self._buffer)
            self._buffer.clear()
            return early
        return await self._reader.read(READ_SIZE)

    async def client_left(self) -> None:
        """Wait until the other side closes its half; what it sends before that is kept."""
        while data := await self._reader.read(READ_SIZE):
            self._buffer += data

    def half_close(self) -> None:
        """Say that no byte follows; reading goes on."""
        self._writer.write_eof()

    def close(self) -> None:
        """Close in the ordinary way after what was sent."""
        self.keep_alive = False

    def reset(self) -> None:
        """Close with a TCP reset: what is still unsent is lost."""
        self.keep_alive = False
        reset_connection(self._writer)


def reset_connection(writer: asyncio.StreamWriter) -> None:
    """Abort a connection so that the other side gets a reset (`SO_LINGER` of 0)."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


Behaviour: TypeAlias = Callable[[Exchange], Awaitable[None]]
"""How an origin answers one request."""


def received(connection: int, head: Head) -> ReceivedRequest:
    """Start the record of a request whose head has arrived; raises `WireError`."""
    return ReceivedRequest(connection, head, parse_request_line(head))
