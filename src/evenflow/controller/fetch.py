"""One document over HTTP, bounded in time and size: what key sets are fetched with."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Final
from urllib.parse import urlsplit

import h11

_READ: Final = 16 * 1024
_MAX_HEAD: Final = 32 * 1024
_CUT: Final = "the connection closed before the answer was complete"


class FetchError(Exception):
    """Why there is no document, for people to read."""


async def fetch(url: str, *, timeout_s: float, max_bytes: int, ca_file: str | None = None) -> bytes:
    """What `url` answers with 200; raises `FetchError`. Follows no redirect."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _fetch(url, max_bytes, ca_file)
    except TimeoutError:
        raise FetchError(f"no complete answer within {timeout_s:g} s") from None
    except ssl.SSLCertVerificationError as error:
        raise FetchError(f"certificate: {error.verify_message}") from None
    except (OSError, ssl.SSLError) as error:
        raise FetchError(f"cannot be reached: {error.strerror or error}") from None
    except (h11.ProtocolError, UnicodeError) as error:
        raise FetchError(f"not valid HTTP: {error}") from None


async def _fetch(url: str, max_bytes: int, ca_file: str | None) -> bytes:
    parts = urlsplit(url)
    encrypted = parts.scheme == "https"
    context = await asyncio.to_thread(_context, ca_file) if encrypted else None
    host = parts.hostname or ""
    reader, writer = await asyncio.open_connection(
        host, parts.port or (443 if encrypted else 80), ssl=context
    )
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
        fields = [
            ("Host", parts.netloc),
            ("Accept", "application/jwk-set+json, application/json"),
            ("User-Agent", "evenflow"),
            ("Connection", "close"),
        ]
        request = h11.Request(method="GET", target=target, headers=fields)
        writer.write((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
        await writer.drain()
        return await _answer(http, reader, max_bytes)
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _answer(http: h11.Connection, reader: asyncio.StreamReader, max_bytes: int) -> bytes:
    body = bytearray()
    while True:
        try:
            event = http.next_event()
        except h11.RemoteProtocolError:
            if reader.at_eof():
                raise FetchError(_CUT) from None
            raise
        match event:
            case h11.NEED_DATA:
                http.receive_data(await reader.read(_READ))
            case h11.Response(status_code=status):
                if status != 200:
                    raise FetchError(f"expected status 200, got {status}")
            case h11.Data(data=data):
                body += data
                if len(body) > max_bytes:
                    raise FetchError(f"longer than {max_bytes // 1024} KiB")
            case h11.EndOfMessage():
                return bytes(body)
            case h11.ConnectionClosed() | h11.PAUSED:
                raise FetchError(_CUT)


def _context(ca_file: str | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file)
