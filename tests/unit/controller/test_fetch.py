"""Fetching one document: bounded in time and size, whatever the server does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from evenflow.controller.fetch import FetchError, fetch

HEAD = b"HTTP/1.1 200 OK\r\n"


@asynccontextmanager
async def server(*pieces: bytes, hold: bool = False) -> AsyncIterator[str]:
    """Answers each connection with these bytes; `hold` leaves it open."""
    released = asyncio.Event()
    answering = set[asyncio.Task[None]]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
            if hold:
                await released.wait()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.add(asyncio.ensure_future(answer(reader, writer)))

    listening = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with listening:
        try:
            yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/keys?of=1"
        finally:
            released.set()
            await asyncio.gather(*answering)


async def get(*pieces: bytes, hold: bool = False) -> bytes:
    async with server(*pieces, hold=hold) as url:
        return await fetch(url, timeout_s=0.3 if hold else 5, max_bytes=2048)


async def test_a_document_comes_with_a_length_in_chunks_or_up_to_the_end() -> None:
    assert await get(HEAD + b"Content-Length: 2\r\n\r\n{}") == b"{}"
    assert await get(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n") == b"{}"
    assert await get(HEAD + b"\r\n", b"{", b"}") == b"{}"


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ((b"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n",), "got 302"),
        ((b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",), "got 404"),
        ((HEAD + b"\r\n", b"x" * 3000), "longer than 2 KiB"),
        ((HEAD + b"X: " + b"x" * 40_000,), "closed before|not valid HTTP"),
        ((HEAD + b"Content-Length: 9\r\n\r\n{}",), "closed before"),
        ((b"SSH-2.0\r\n\r\n",), "closed before|not valid HTTP"),
        ((), "clos"),
    ],
)
async def test_anything_else_is_no_document(pieces: tuple[bytes, ...], why: str) -> None:
    with pytest.raises(FetchError, match=why):
        await get(*pieces)


@pytest.mark.parametrize("piece", [b"", HEAD, HEAD + b"Content-Length: 9\r\n\r\n{"])
async def test_a_server_that_stops_in_the_middle_is_not_waited_for(piece: bytes) -> None:
    with pytest.raises(FetchError, match="no complete answer within"):
        await get(piece, hold=True)


async def test_what_does_not_listen_cannot_be_reached() -> None:
    async with server() as url:
        pass
    with pytest.raises(FetchError, match="cannot be reached"):
        await fetch(url, timeout_s=5, max_bytes=2048)
