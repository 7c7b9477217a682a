"""A server that plays a script over real sockets, and what reads sources step by step."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evenflow.config import Discover
from evenflow.discovery.endpoint import Answer, Endpoint, Source

CUT = b"\0cut"
"""A piece of an answer after which the connection breaks off."""

Piece = bytes | asyncio.Event
Script = Sequence[Sequence[Piece]]


def answer(body: Any, status: str = "200 OK", **headers: str) -> bytes:
    """An answer with a JSON body."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


STREAM = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(*documents: Any) -> bytes:
    """One chunk with JSON documents, a line each."""
    content = b"".join(json.dumps(each).encode() + b"\n" for each in documents)
    return b"%x\r\n%s\r\n" % (len(content), content)


@dataclass
class Player:
    """Answers its connections in turn with the pieces of the script; events hold it up."""

    script: Script
    heads: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def targets(self) -> list[str]:
        """What was asked for."""
        return [head.split(" ")[1] for head in self.heads]

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Play one connection."""
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._play(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        pieces = self.script[min(len(self.heads), len(self.script) - 1)]
        self.heads.append(head.decode())
        for piece in pieces:
            if isinstance(piece, asyncio.Event):
                await piece.wait()
            elif piece == CUT:
                writer.transport.abort()
            else:
                writer.write(piece)
                await writer.drain()


@asynccontextmanager
async def playing(*script: Sequence[Piece], socket: Path | None = None) -> AsyncIterator[Player]:
    """A player on a free port of loopback, or on a Unix socket."""
    player = Player(script)
    tasks = set[asyncio.Task[None]]()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.ensure_future(player.play(reader, writer)))

    if socket is None:
        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        player.port = server.sockets[0].getsockname()[1]
    else:
        server = await asyncio.start_unix_server(accept, socket)
    async with server:
        try:
            yield player
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def entry(**fields: Any) -> Discover:
    """One entry of `discover`."""
    return Discover.model_validate(fields)


def urls(endpoints: Sequence[Endpoint]) -> list[str]:
    """Where endpoints are."""
    return [each.url for each in endpoints]


@asynccontextmanager
async def asking(source: Source, **fields: Any) -> AsyncIterator[Callable[[], Any]]:
    """What gives the next answer of a source, bounded in time."""
    async with aclosing(source(entry(**fields))) as answers:  # type: ignore[type-var]

        async def following() -> Answer:
            async with asyncio.timeout(10):
                return await anext(answers)

        yield following


def slice_of(
    name: str,
    version: int,
    *addresses: str,
    port: int = 8080,
    conditions: Mapping[str, bool] | None = None,
) -> dict[str, Any]:
    """An EndpointSlice as the API server tells it."""
    return {
        "metadata": {"name": name, "resourceVersion": str(version)},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [address],
                "conditions": {"ready": True, **(conditions or {})},
                "targetRef": {"kind": "Pod", "name": f"pod-{address.replace('.', '-')}"},
                "zone": "a",
            }
            for address in addresses
        ],
    }
