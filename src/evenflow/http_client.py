"""One request over HTTP/1.1 inside the running loop, and its answer whole or as it comes.

For the control plane's own questions: key sets, registries, the streams of orchestrators. Bounded
in size; time is bounded by the caller. Follows no redirect, keeps no connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import h11

READ: Final = 256 * 1024
"""The most that is taken at once, and that waits to be taken."""
_MAX_HEAD: Final = 32 * 1024
_CUT: Final = "the connection closed before the answer was complete"

Fields = Iterable[tuple[str, str]]


class HttpError(Exception):
    """Why there is no answer, for people to read; `cut` where there was the beginning of one."""

    def __init__(self, reason: str, *, cut: bool = False) -> None:
        super().__init__(reason)
        self.cut = cut


@dataclass(slots=True)
class Response:
    """An answer's head, and its content while the request's block lasts."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    _http: h11.Connection
    _reader: asyncio.StreamReader = field(repr=False)
    _waiting: bytearray = field(default_factory=bytearray, repr=False)
    _ended: bool = False

    async def read(self, max_bytes: int) -> bytes:
        """The whole content; raises `HttpError` where it is longer than that."""
        content = bytearray()
        while piece := await self.piece():
            content += piece
            if len(content) > max_bytes:
                raise HttpError(f"longer than {max_bytes // 1024} KiB")
        return bytes(content)

    async def piece(self) -> bytes:
        """What more there is of the content, as it comes; empty at its end.

        Raises `HttpError` where it is cut. A call that is cancelled has lost nothing.
        """
        while not self._ended:
            match _next_event(self._http, self._reader):
                case h11.Data(data=data):
                    self._waiting += data
                    if len(self._waiting) >= READ:
                        break
                case h11.NEED_DATA:
                    if self._waiting:
                        break
                    self._http.receive_data(await self._reader.read(READ))
                case h11.EndOfMessage():
                    self._ended = True
                case _:
                    raise HttpError(_CUT, cut=True)
        piece, self._waiting = bytes(self._waiting), bytearray()
        return piece


@asynccontextmanager
async def request(
    url: str,
    headers: Fields = (),
    *,
    method: str = "GET",
    body: bytes = b"",
    ca_file: str | None = None,
    socket_path: str | None = None,
    head_timeout_s: float | None = None,
) -> AsyncIterator[Response]:
    """Ask `url`, by way of the Unix socket `socket_path` where one is given.

    The answer may have any status. Its head is there within `head_timeout_s`, or TimeoutError is
    raised. Raises `HttpError`, also inside the block for what goes wrong with its content.
    """
    with _told():
        async with asyncio.timeout(head_timeout_s) as bound:
            reader, writer = await _connect(url, ca_file, socket_path)
        try:
            async with asyncio.timeout_at(bound.when()):
                response = await _exchange(_sent(method, url, headers, body), reader, writer)
            yield response
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def _sent(method: str, url: str, headers: Fields, body: bytes) -> tuple[h11.Connection, bytes]:
    """A request, and the connection that knows of it."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
    own = [("Host", parts.netloc), ("User-Agent", "evenflow"), ("Connection", "close")]
    length = [("Content-Length", str(len(body)))] if body else []
    fields = [*own, *headers, *length]
    sent = http.send(h11.Request(method=method, target=target, headers=fields)) or b""
    if body:
        sent += http.send(h11.Data(data=body)) or b""
    return http, sent + (http.send(h11.EndOfMessage()) or b"")


async def _exchange(
    asked: tuple[h11.Connection, bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Response:
    http, sent = asked
    writer.write(sent)
    await writer.drain()
    return await _head(http, reader)


async def _connect(
    url: str, ca_file: str | None, socket_path: str | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if socket_path is not None:
        return await asyncio.open_unix_connection(socket_path, limit=READ)
    parts = urlsplit(url)
    encrypted = parts.scheme == "https"
    context = await asyncio.to_thread(_context, ca_file) if encrypted else None
    port = parts.port or (443 if encrypted else 80)
    return await asyncio.open_connection(parts.hostname or "", port, ssl=context, limit=READ)


async def _head(http: h11.Connection, reader: asyncio.StreamReader) -> Response:
    while True:
        match _next_event(http, reader):
            case h11.NEED_DATA:
                http.receive_data(await reader.read(READ))
            case h11.Response(status_code=status, headers=fields):
                named = {name.decode("ascii"): value.decode("latin-1") for name, value in fields}
                return Response(status, named, http, reader)
            case h11.InformationalResponse():
                continue
            case _:
                raise HttpError(_CUT, cut=True)


def _next_event(http: h11.Connection, reader: asyncio.StreamReader) -> object:
    try:
        return http.next_event()
    except h11.RemoteProtocolError:
        if reader.at_eof():
            raise HttpError(_CUT, cut=True) from None
        raise


@contextmanager
def _told() -> Iterator[None]:
    """What may go wrong, in words."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise HttpError(f"certificate: {error.verify_message}") from None
    except ConnectionResetError:
        raise HttpError(_CUT, cut=True) from None
    except TimeoutError as error:
        if error.errno is None:
            raise  # The caller's own bound.
        raise HttpError("cannot be reached: no answer") from None
    except (OSError, ssl.SSLError) as error:
        reason = f"{error.strerror or error}"
        place = f" ({error.filename})" if error.filename else ""
        raise HttpError(f"cannot be reached: {reason}{place}") from None
    except (h11.ProtocolError, UnicodeError) as error:
        raise HttpError(f"not valid HTTP: {error}") from None


def _context(ca_file: str | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file)
