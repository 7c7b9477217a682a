"""The two ends of HTTP/2 for tests: a client that may say what no client should, and an origin.

Frames and header compression are those of the `h2` package; what it would not send is written here
by hand. Both block, with a timeout; an origin serves each connection in a thread of its own.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    PingReceived,
    RequestReceived,
    ResponseReceived,
    SettingsAcknowledged,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hpack import Decoder

from evenflow.testing import free_port, wait_for
from tests.conftest import program

Fields = Sequence[tuple[str, str]]
TIMEOUT_S = 15.0
_ENDS = (StreamEnded, StreamReset)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame as it is on the wire."""
    return (
        len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
    )


def literal(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A header block in which every field stands as it is, however wrong."""
    return b"".join(
        b"\x00" + _length(name) + name + _length(value) + value for name, value in fields
    )


def _length(text: bytes) -> bytes:
    if len(text) < 127:
        return bytes((len(text),))
    rest, out = len(text) - 127, bytearray(b"\x7f")
    while rest >= 128:
        out.append(rest % 128 + 128)
        rest //= 128
    return bytes((*out, rest))


def _texts(headers: Iterable[tuple[Any, Any]]) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in headers}


def _text(part: str | bytes) -> str:
    return part if isinstance(part, str) else part.decode("latin-1")


@dataclass
class Answer:
    """What came on one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    interim: list[int] = field(default_factory=list)
    body: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        """The status; 0 while there is none."""
        return int(self.headers.get(":status", "0"))


class H2Client:
    """A connection to a balancer; `answers` has what came, by stream."""

    def __init__(
        self, port: int, *, tls: ssl.SSLContext | None = None, name: str = "site.test"
    ) -> None:
        """Connect and say hello; with `tls` the protocol must be agreed on as h2."""
        raw = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self.socket: socket.socket = raw
        if tls is not None:
            encrypted = tls.wrap_socket(raw, server_hostname=name)
            assert encrypted.selected_alpn_protocol() == "h2"
            self.socket = encrypted
        self.h2 = H2Connection(
            H2Configuration(
                client_side=True,
                header_encoding="latin-1",
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.name = name
        self.answers: dict[int, Answer] = {}
        self.goaway: int | None = None
        self.closed = False
        self._received = b""
        self.consume = True
        """Give the sender its window back."""
        self.h2.initiate_connection()
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def flush(self) -> None:
        """Send what the library has to send."""
        self.socket.sendall(self.h2.data_to_send())

    def raw(self, data: bytes) -> None:
        """Send these bytes; that the other end has closed is no error here."""
        with suppress(OSError):
            self.socket.sendall(data)

    def head(self, method: str = "GET", path: str = "/", *more: tuple[str, str]) -> Fields:
        """An ordinary request's fields."""
        return (
            (":method", method),
            (":scheme", "http"),
            (":authority", self.name),
            (":path", path),
            *more,
        )

    def send(self, fields: Fields, body: bytes | None = None, *, end: bool = True) -> int:
        """Begin a stream, with a body that fits into the windows; its number."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, fields, end_stream=end and body is None)
        if body is not None:
            self.data(stream, body, end=end)
        self.answers[stream] = Answer()
        self.flush()
        return stream

    def data(self, stream: int, body: bytes, *, end: bool = False) -> None:
        """Send of a body, waiting for room."""
        while True:
            while body and self.h2.local_flow_control_window(stream) == 0:
                self.receive()
            room = self.h2.local_flow_control_window(stream)
            piece = body[: min(room, self.h2.max_outbound_frame_size)]
            body = body[len(piece) :]
            self.h2.send_data(stream, piece, end_stream=end and not body)
            self.flush()
            if not body:
                return

    def receive(self) -> list[Event]:
        """Wait for something and take it in."""
        try:
            data = self.socket.recv(65536)
        except (ConnectionError, ssl.SSLError):
            data = b""
        if not data:
            self.closed = True
            return []
        self._received += data
        events: list[Event] = []
        # Frame by frame: to the library a connection is closed with GOAWAY, whatever it says.
        while len(self._received) >= 9:
            size = 9 + int.from_bytes(self._received[:3], "big")
            if len(self._received) < size:
                break
            one, self._received = self._received[:size], self._received[size:]
            state = self.h2.state_machine.state
            events += self.h2.receive_data(one)
            self.h2.state_machine.state = state
        for event in events:
            self._take(event)
        with suppress(OSError):
            self.flush()
        return events

    def _take(self, event: Event) -> None:
        if isinstance(event, ConnectionTerminated):
            self.goaway = int(event.error_code or 0)
            return
        answer = self.answers.setdefault(getattr(event, "stream_id", None) or 0, Answer())
        match event:
            case InformationalResponseReceived(headers=headers):
                answer.interim.append(int(_texts(headers)[":status"]))
            case ResponseReceived(headers=headers):
                answer.headers = _texts(headers)
            case DataReceived():
                answer.body += event.data
                if self.consume and event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case TrailersReceived(headers=headers):
                answer.trailers = _texts(headers)
            case StreamEnded():
                answer.ended = True
            case StreamReset():
                answer.reset = int(event.error_code)
            case _:
                pass

    def until(self, done: Callable[[], bool]) -> None:
        """Receive until something holds; fails where the connection ends before."""
        while not done():
            assert not self.closed, (self.goaway, self.answers)
            self.receive()

    def answer(self, stream: int) -> Answer:
        """The whole answer on a stream."""
        self.until(lambda: self.answers[stream].ended or self.answers[stream].reset is not None)
        return self.answers[stream]

    def ask(self, method: str = "GET", path: str = "/", *more: tuple[str, str]) -> Answer:
        """One request without a body, and its answer."""
        return self.answer(self.send(self.head(method, path, *more)))

    def until_closed(self) -> int | None:
        """Receive until the other end closes; what its GOAWAY says."""
        while not self.closed:
            try:
                self.receive()
            except ProtocolError:
                continue
        return self.goaway

    def reset(self, stream: int, code: ErrorCodes = ErrorCodes.CANCEL) -> None:
        """Give a stream up."""
        self.h2.reset_stream(stream, code)
        self.flush()


@dataclass
class Asked:
    """A request that an origin got."""

    connection: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    whole: bool = False
    reset: bool = False

    def __getitem__(self, name: str) -> str:
        return dict(self.headers)[name]

    def get(self, name: str) -> str | None:
        """A field's value, if there is one."""
        return dict(self.headers).get(name)


class Line:
    """An origin's end of a connection, as scripts see it."""

    def __init__(self, origin: H2Origin, raw: socket.socket, number: int) -> None:
        self.origin, self.socket, self.number = origin, raw, number
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="latin-1"))
        self.asked: dict[int, Asked] = {}

    def flush(self) -> None:
        """Send what the library has to send."""
        self.socket.sendall(self.h2.data_to_send())

    def answer(
        self,
        stream: int,
        status: int = 200,
        body: bytes | None = b"",
        *more: tuple[str, str],
        trailers: Fields = (),
    ) -> None:
        """Answer with a body that fits into the window; None has none at all."""
        bare = body is None and not trailers
        self.h2.send_headers(stream, [(":status", str(status)), *more], end_stream=bare)
        if body:
            self.h2.send_data(stream, body, end_stream=not trailers)
        elif body is not None and not trailers:
            self.h2.end_stream(stream)
        if trailers:
            self.h2.send_headers(stream, trailers, end_stream=True)
        self.flush()

    def serve(self) -> None:
        """Serve to the connection's end."""
        if self.origin.max_streams is not None:
            allowed = {SettingCodes.MAX_CONCURRENT_STREAMS: self.origin.max_streams}
            self.h2.local_settings = Settings(client=False, initial_values=allowed)
        self.h2.initiate_connection()
        with suppress(OSError, ProtocolError):
            self.flush()
            while data := self.socket.recv(65536):
                for event in self.h2.receive_data(data):
                    self._take(event)
                self.flush()
        self.socket.close()

    def _take(self, event: Event) -> None:
        match event:
            case RequestReceived():
                asked = Asked(self.number, [(_text(n), _text(v)) for n, v in event.headers])
                self.asked[event.stream_id] = asked
                self.origin.requests.append(asked)
                self.origin.begun(self, event.stream_id, asked)
            case DataReceived():
                self.asked[event.stream_id].body += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case TrailersReceived(headers=headers):
                self.asked[event.stream_id].trailers = _texts(headers)
            case StreamEnded():
                asked = self.asked[event.stream_id]
                asked.whole = True
                queue = self.origin.queue
                script = queue.popleft() if queue else self.origin.default
                script(self, event.stream_id, asked)
            case StreamReset():
                self.asked[event.stream_id].reset = True
            case PingReceived():
                self.origin.pings += 1
            case SettingsAcknowledged():
                pass
            case _:
                pass


Script = Callable[[Line, int, Asked], None]


def answer(
    status: int = 200, body: bytes | None = b"hello", *more: tuple[str, str], trailers: Fields = ()
) -> Script:
    """A script that answers so."""
    return lambda line, stream, asked: line.answer(stream, status, body, *more, trailers=trailers)


def refuse(line: Line, stream: int, _asked: Asked) -> None:
    """A script that refuses the stream: nothing was done with the request."""
    line.h2.reset_stream(stream, ErrorCodes.REFUSED_STREAM)


def leave(line: Line, stream: int, _asked: Asked) -> None:
    """A script that says goodbye and has not worked on this stream."""
    line.h2.close_connection(last_stream_id=stream - 2 if stream > 1 else 0)
    line.flush()


def hang_up(line: Line, _stream: int, _asked: Asked) -> None:
    """A script that closes the connection without a word."""
    line.socket.shutdown(socket.SHUT_RDWR)


def ignore(_line: Line, _stream: int, _asked: Asked) -> None:
    """A script that never answers."""


class H2Origin:
    """An origin that speaks HTTP/2 alone, by prior knowledge or over TLS; a context manager.

    A request that is whole is answered by the next script in `queue`, or by `default`; `begun` is
    called with each that has begun.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        max_streams: int | None = None,
        default: Script | None = None,
    ) -> None:
        self.tls = tls
        self.max_streams = max_streams
        self.default = default or answer()
        self.begun: Script = ignore
        self.queue: deque[Script] = deque()
        self.requests: list[Asked] = []
        self.connections = 0
        self.pings = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._sockets: list[socket.socket] = []

    @property
    def url(self) -> str:
        """As a balancer's configuration takes it."""
        return f"{'https' if self.tls else 'h2c'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.close_connections()

    def close_connections(self) -> None:
        """Close every connection without a word."""
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def wait_for_requests(self, count: int = 1) -> list[Asked]:
        """Wait until so many requests have begun."""
        wait_for(lambda: len(self.requests) >= count, f"{count} requests")
        return self.requests

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                raw, _ = self._listening.accept()
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        try:
            stream = self.tls.wrap_socket(raw, server_side=True) if self.tls else raw
        except OSError:
            raw.close()
            return
        self.connections += 1
        self._sockets.append(stream)
        Line(self, stream, self.connections).serve()


class RawClient:
    """A client whose frames are written by hand; what comes back is told by stream."""

    def __init__(self, port: int, *, hello: bool = True) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self.statuses: dict[int, int] = {}
        self.resets: dict[int, ErrorCodes] = {}
        self.settings: dict[int, int] = {}
        self.goaway: ErrorCodes | None = None
        self.closed = False
        self._decoder = Decoder()
        self._received = b""
        if hello:
            self.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
            while not self.settings:
                self.receive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send these bytes; that the other end has closed is no error here."""
        with suppress(ConnectionError):
            self.socket.sendall(data)

    def receive(self, within_s: float = TIMEOUT_S) -> None:
        """Take in what comes, if anything does in time."""
        self.socket.settimeout(within_s)
        try:
            data = self.socket.recv(65536)
        except (TimeoutError, BlockingIOError):
            return
        except ConnectionError:
            data = b""
        finally:
            self.socket.settimeout(TIMEOUT_S)
        self.closed |= not data
        self._received += data
        while len(self._received) >= 9:
            size = 9 + int.from_bytes(self._received[:3], "big")
            if len(self._received) < size:
                break
            one, self._received = self._received[:size], self._received[size:]
            self._take(one[3], int.from_bytes(one[5:9], "big"), one[9:])

    def _take(self, kind: int, stream: int, payload: bytes) -> None:
        match kind:
            case 1:
                fields = _texts(self._decoder.decode(payload))
                if ":status" in fields:
                    self.statuses[stream] = int(fields[":status"])
            case 3:
                self.resets[stream] = ErrorCodes(int.from_bytes(payload, "big"))
            case 4:
                for at in range(0, len(payload), 6):
                    number = int.from_bytes(payload[at : at + 2], "big")
                    self.settings[number] = int.from_bytes(payload[at + 2 : at + 6], "big")
            case 7:
                self.goaway = ErrorCodes(int.from_bytes(payload[4:8], "big"))
            case _:
                pass

    @property
    def over(self) -> bool:
        """The other end wants no more."""
        return self.closed or self.goaway is not None

    def outcome(self, stream: int = 1) -> int | str:
        """What became of a stream: its status, or the error that ended it or the connection."""
        while not (stream in self.statuses or stream in self.resets or self.over):
            self.receive()
        if stream in self.statuses:
            return self.statuses[stream]
        code = self.resets.get(stream, self.goaway)
        return "closed" if code is None else code.name


@contextmanager
def nghttpd(folder: Path) -> Iterator[str]:
    """A server of HTTP/2 that serves a folder's files; its URL for a configuration."""
    port = free_port()
    server = subprocess.Popen(
        [program("nghttpd", "nghttp2-server"), "--no-tls", "-d", str(folder), str(port)]
    )
    try:
        wait_for(lambda: listens(port), "nghttpd")
        yield f"h2c://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def listens(port: int) -> bool:
    """Whether something listens at a port of this machine."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
