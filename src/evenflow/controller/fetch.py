"""One request over HTTP, bounded in time and size: for key sets, and for those who issue certificates."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import h11

_READ: Final = 16 * 1024
_MAX_HEAD: Final = 32 * 1024
_CUT: Final = "the connection closed before the answer was complete"


class FetchError(Exception):
    """Why there is no answer, for people to read."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered; names of fields are in lower case, of several the last counts."""

    status: int
    fields: Mapping[str, str]
    body: bytes


async def fetch(url: str, *, timeout_s: float, max_bytes: int, ca_file: str | None = None) -> bytes:
    """What `url` answers with 200; raises `FetchError`. Follows no redirect."""
    accept = [("Accept", "application/jwk-set+json, application/json")]
    answer = await ask(
        "GET", url, fields=accept, timeout_s=timeout_s, max_bytes=max_bytes, ca_file=ca_file
    )
    if answer.status != 200:
        raise FetchError(f"expected status 200, got {answer.status}")
    return answer.body


async def ask(
    method: str,
    url: str,
    *,
    fields: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
    timeout_s: float,
    max_bytes: int,
    ca_file: str | None = None,
) -> Answer:
    """What is answered, whatever its status; raises `FetchError`. Follows no redirect."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _ask(method, url, fields, body, max_bytes, ca_file)
    except TimeoutError:
        raise FetchError(f"no complete answer within {timeout_s:g} s") from None
    except ssl.SSLCertVerificationError as error:
        raise FetchError(f"certificate: {error.verify_message}") from None
    except (OSError, ssl.SSLError) as error:
        raise FetchError(f"cannot be reached: {error.strerror or error}") from None
    except (h11.ProtocolError, UnicodeError) as error:
        raise FetchError(f"not valid HTTP: {error}") from None


async def _ask(
    method: str,
    url: str,
    fields: Sequence[tuple[str, str]],
    body: bytes,
    max_bytes: int,
    ca_file: str | None,
) -> Answer:
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
        head = [
            ("Host", parts.netloc),
            *fields,
            ("User-Agent", "evenflow"),
            ("Connection", "close"),
            *([("Content-Length", str(len(body)))] if body else []),
        ]
        sent = http.send(h11.Request(method=method, target=target, headers=head)) or b""
        if body:
            sent += http.send(h11.Data(data=body)) or b""
        writer.write(sent + (http.send(h11.EndOfMessage()) or b""))
        await writer.drain()
        return await _answer(http, reader, max_bytes)
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _answer(http: h11.Connection, reader: asyncio.StreamReader, max_bytes: int) -> Answer:
    status, fields, body = 0, dict[str, str](), bytearray()
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
            case h11.Response(status_code=status, headers=headers):
                fields = {name.decode(): value.decode("latin-1") for name, value in headers}
            case h11.Data(data=data):
                body += data
                if len(body) > max_bytes:
                    raise FetchError(f"longer than {max_bytes // 1024} KiB")
            case h11.EndOfMessage():
                return Answer(status, fields, bytes(body))
            case h11.ConnectionClosed() | h11.PAUSED:
                raise FetchError(_CUT)


def _context(ca_file: str | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file)
