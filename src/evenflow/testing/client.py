r"""`Client`: a raw connection whose conversation reads as a transcript.

    with Client(port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.expect(200, body=b"hello")
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n")
        client.expect(400)
        client.expect_closed()

Nothing is checked or completed on the way out; answers are read strictly. A failure shows all that
was said so far.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from evenflow.testing.response import Response
from evenflow.testing.wire import (
    BodyDecoder,
    Field,
    Head,
    StatusLine,
    WireError,
    encode_head,
    parse_status_line,
    response_body,
    take_head,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_SHOWN = 600
_ENDS_SHOWN = 10


class TranscriptError(AssertionError):
    """The conversation went otherwise than expected; the message is its transcript."""


@dataclass(frozen=True)
class Said:
    """One line of a transcript: `>>` sent, `<<` received, `--` an event."""

    mark: str
    data: bytes

    def __str__(self) -> str:
        shown = self.data if len(self.data) <= _SHOWN else self.data[:_SHOWN] + b"..."
        text = shown.decode("latin-1")
        if self.mark == "--":
            return f"-- {text}"
        return f"{self.mark} {text!r}" + (
            f" ({len(self.data)} bytes)" if shown != self.data else ""
        )


class Client:
    """One TCP or Unix connection to a server under test."""

    def __init__(
        self,
        address: int | str | tuple[str, int],
        *,
        timeout_s: float = 20.0,
        source: str | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        """Connect to a port of loopback, a URL, `unix:/path`, or a host and port.

        `source` is the address to connect from (127.0.0.2 and so on act as other clients);
        `receive_buffer` bounds the kernel's buffer, for clients that read slowly.
        """
        self.transcript: list[Said] = []
        self._buffer = bytearray()
        self._ended = False
        self._socket = _connect(address, timeout_s, source, receive_buffer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def local_port(self) -> int:
        """The port this end of the connection has."""
        return int(self._socket.getsockname()[1])

    def send(self, *data: bytes) -> Self:
        """Send bytes exactly as given; several arguments are sent one by one."""
        for piece in data:
            self._say(">>", piece)
            try:
                self._socket.sendall(piece)
            except OSError as error:
                raise self._failure(f"sending failed: {error}") from error
        return self

    def send_quietly(self, data: bytes) -> bool:
        """Send without a record; return whether the server still took it."""
        try:
            self._socket.sendall(data)
        except OSError:
            return False
        return True

    def expect(
        self,
        *statuses: int,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str | None] | None = None,
    ) -> Response:
        """Read one final response and check it; return it.

        The status must be one of `statuses`; `body` must be the whole body; each of `headers` must
        have exactly that value, or be absent where it is `None`. `method` is that of the request
        answered: responses to HEAD have no body.
        """
        response = self.read_response(method=method)
        if response.status not in statuses:
            raise self._failure(f"expected {statuses}, got {response.status}")
        if body is not None and response.body != body:
            raise self._failure(f"expected the body {body!r}, got {response.body[:_SHOWN]!r}")
        for name, value in (headers or {}).items():
            if response.header(name) != value:
                raise self._failure(f"expected {name}: {value!r}, got {response.header(name)!r}")
        return response

    def read_response(
        self, *, method: str = "GET", sink: Callable[[bytes], object] | None = None
    ) -> Response:
        """Read one final response with the interim ones before it.

        With a `sink` the body goes there piece by piece and `Response.body` stays empty.
        """
        interim: list[tuple[StatusLine, Head]] = []
        try:
            while True:
                head = self._read_head()
                line = parse_status_line(head)
                if not 100 <= line.status < 200 or line.status == 101:
                    break
                interim.append((line, head))
            decoder = response_body(head, line.status, method)
            body = self._read_body(decoder, sink)
        except (WireError, OSError) as error:
            raise self._failure(f"no valid response: {error}") from error
        return Response(line, head, body, decoder.framing, decoder.trailers, tuple(interim))

    def expect_interim(self, status: int) -> Head:
        """Read one interim response of this status."""
        head = self.read_head()
        if parse_status_line(head).status != status:
            raise self._failure(f"expected an interim {status}, got {head.start!r}")
        return head

    def read_head(self) -> Head:
        """Read a head and leave what follows unread."""
        try:
            return self._read_head()
        except (WireError, OSError) as error:
            raise self._failure(f"no valid head: {error}") from error

    def read_until(self, end: bytes) -> bytes:
        """Read bytes up to and with `end`."""
        while end not in self._buffer:
            if not self._fill():
                raise self._failure(f"the connection ended before {end!r}")
        cut = self._buffer.index(end) + len(end)
        taken = bytes(self._buffer[:cut])
        del self._buffer[:cut]
        return taken

    def read_some(self) -> bytes:
        """Read the bytes that come next, whatever they are; empty at the end."""
        if not self._buffer:
            self._fill()
        taken = bytes(self._buffer)
        self._buffer.clear()
        return taken

    def read_to_end(self) -> bytes:
        """Read everything until the connection ends, even with a reset."""
        while self._fill(tolerate_reset=True):
            pass
        taken = bytes(self._buffer)
        self._buffer.clear()
        return taken

    def expect_closed(self) -> None:
        """Check that the server closes, with nothing more said."""
        rest = self.read_to_end()
        if rest:
            raise self._failure(f"expected the end of the connection, got {rest[:_SHOWN]!r}")

    def expect_open(self) -> None:
        """Check that the server has neither closed nor said more, as far as is known by now."""
        timeout = self._socket.gettimeout()
        self._socket.setblocking(False)
        data: bytes | None
        try:
            data = self._socket.recv(65_536, socket.MSG_PEEK)
        except BlockingIOError:
            data = None
        finally:
            self._socket.settimeout(timeout)
        if data is not None or self._buffer:
            raise self._failure(f"expected an open, silent connection, got {data!r}")

    def half_close(self) -> Self:
        """Send the end of our half; reading goes on."""
        self._say("--", b"half-closed")
        self._socket.shutdown(socket.SHUT_WR)
        return self

    def reset(self) -> None:
        """Close with a TCP reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        """Close."""
        self._socket.close()

    def _read_head(self) -> Head:
        while (head := take_head(self._buffer)) is None:
            if not self._fill():
                raise WireError(f"the connection ended; unread: {bytes(self._buffer[:_SHOWN])!r}")
        return head

    def _read_body(self, decoder: BodyDecoder, sink: Callable[[bytes], object] | None) -> bytes:
        kept = bytearray()
        take = sink if sink is not None else kept.extend
        while True:
            if content := decoder.feed(self._buffer):
                take(content)
            if decoder.finished:
                return bytes(kept)
            if not self._fill():
                decoder.feed_eof()
                return bytes(kept)

    def _fill(self, *, tolerate_reset: bool = False) -> bool:
        if self._ended:
            return False
        try:
            data = self._socket.recv(262_144)
        except TimeoutError as error:
            raise self._failure("the server said nothing more in time") from error
        except OSError:
            if not tolerate_reset:
                raise
            data = b""
        if data:
            self._say("<<", data)
            self._buffer += data
        else:
            self._say("--", b"the server closed")
            self._ended = True
        return bool(data)

    def _say(self, mark: str, data: bytes) -> None:
        if len(self.transcript) < 200:
            self.transcript.append(Said(mark, data[: _SHOWN + 1]))

    def _failure(self, what: str) -> TranscriptError:
        shown = [str(line) for line in self.transcript]
        if len(shown) > 2 * _ENDS_SHOWN:
            left_out = f"... {len(shown) - 2 * _ENDS_SHOWN} more ..."
            shown = [*shown[:_ENDS_SHOWN], left_out, *shown[-_ENDS_SHOWN:]]
        return TranscriptError("\n".join([what, *shown]))


def request(
    address: int | str | tuple[str, int],
    method: str = "GET",
    target: str = "/",
    *,
    headers: Sequence[Field] = (),
    body: bytes | str | None = None,
    source: str | None = None,
    timeout_s: float = 20.0,
) -> Response:
    """Make one request on a connection of its own and return the response.

    `Host` is sent unless `headers` have one, `Content-Length` when there is a body, and
    `Connection: close` always.
    """
    content = body.encode() if isinstance(body, str) else body
    names = {name.lower() for name, _ in headers}
    fields = [] if "host" in names else [("Host", "127.0.0.1")]
    fields += [*headers, ("Connection", "close")]
    if content is not None:
        fields.append(("Content-Length", str(len(content))))
    with Client(address, source=source, timeout_s=timeout_s) as client:
        client.send(encode_head(f"{method} {target} HTTP/1.1", fields) + (content or b""))
        return client.read_response(method=method)


def _connect(
    address: int | str | tuple[str, int],
    timeout_s: float,
    source: str | None,
    receive_buffer: int | None,
) -> socket.socket:
    if isinstance(address, str) and address.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(timeout_s)
        sock.connect(address.removeprefix("unix:"))
        return sock
    host, port = _host_and_port(address)
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source is not None:
            sock.bind((source, 0))
        sock.connect((host, port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        sock.close()
        raise
    return sock


def _host_and_port(address: int | str | tuple[str, int]) -> tuple[str, int]:
    match address:
        case int():
            return "127.0.0.1", address
        case str():
            parts = urlsplit(address if "//" in address else f"//{address}")
            return parts.hostname or "127.0.0.1", parts.port or 80
        case (host, port):
            return host, port
