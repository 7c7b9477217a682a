"""HTTP/1 messages as bytes: strict reading for the test servers and clients, without any I/O.

It is a referee and not a proxy: whatever RFC 9112 forbids a sender to send raises `WireError`, so
an origin or client built on it notices when the balancer between them sends something malformed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol, TypeAlias

Field: TypeAlias = tuple[str, str]
"""A header field: its name as sent, and its value without surrounding blanks."""

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*\Z")
_REQUEST_LINE = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e\x80-\xff]+) HTTP/1\.([01])\Z"
)
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2}) ([\t\x20-\x7e\x80-\xff]*)\Z")
_DIGITS = re.compile(r"[0-9]+\Z")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\Z")


class WireError(ValueError):
    """The other side sent what no HTTP/1 sender may send."""


@dataclass(frozen=True)
class Head:
    """The start line and header fields of one message, exactly as received in `raw`."""

    raw: bytes
    start: bytes
    fields: tuple[Field, ...]

    def all(self, name: str) -> list[str]:
        """Return the values of every field called `name`, in order."""
        wanted = name.lower()
        return [value for field, value in self.fields if field.lower() == wanted]

    def get(self, name: str) -> str | None:
        """Return the field's values joined by a comma, or `None` without such a field."""
        values = self.all(name)
        return ", ".join(values) if values else None

    def tokens(self, name: str) -> list[str]:
        """Return the field's comma-separated elements in lower case."""
        return [part.strip().lower() for part in (self.get(name) or "").split(",") if part.strip()]


@dataclass(frozen=True)
class RequestLine:
    """What a request asks for."""

    method: str
    target: str
    version: str


@dataclass(frozen=True)
class StatusLine:
    """What a response says first."""

    version: str
    status: int
    reason: str


def take_head(buffer: bytearray) -> Head | None:
    """Remove one whole head from the front of `buffer`; `None` while it is incomplete."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    raw = bytes(buffer[: end + 4])
    del buffer[: end + 4]
    return parse_head(raw)


def parse_head(raw: bytes) -> Head:
    """Read a head that ends with its empty line."""
    lines = raw.removesuffix(b"\r\n\r\n").split(b"\r\n")
    for line in lines:
        if b"\r" in line or b"\n" in line or b"\0" in line:
            raise WireError(f"a bare CR, LF or NUL in {line!r}")
    return Head(raw, lines[0], tuple(_parse_field(line) for line in lines[1:]))


def _parse_field(line: bytes) -> Field:
    name, colon, value = line.partition(b":")
    value = value.strip(b" \t")
    if not colon or not _TOKEN.match(name) or not _VALUE.match(value):
        raise WireError(f"not a header field: {line!r}")
    return name.decode("ascii"), value.decode("latin-1")


def parse_request_line(head: Head) -> RequestLine:
    """Read a request's first line."""
    match = _REQUEST_LINE.match(head.start)
    if match is None:
        raise WireError(f"not a request line: {head.start!r}")
    method, target, minor = (part.decode("latin-1") for part in match.groups())
    return RequestLine(method, target, f"HTTP/1.{minor}")


def parse_status_line(head: Head) -> StatusLine:
    """Read a response's first line."""
    match = _STATUS_LINE.match(head.start)
    if match is None:
        raise WireError(f"not a status line: {head.start!r}")
    minor, status, reason = (part.decode("latin-1") for part in match.groups())
    return StatusLine(f"HTTP/1.{minor}", int(status), reason)


class BodyDecoder(Protocol):
    """Takes a message's bytes and gives back those of its body."""

    framing: str
    trailers: tuple[Field, ...]

    @property
    def finished(self) -> bool:
        """Whether all of the body has been read."""

    def feed(self, buffer: bytearray) -> bytes:
        """Remove what belongs to the body from the front of `buffer`; return its content."""

    def feed_eof(self) -> None:
        """Say that no byte will follow; raises `WireError` when the body is incomplete."""


class LengthBody:
    """A body of a known length (0 for none)."""

    def __init__(self, length: int, framing: str = "length") -> None:
        self.framing = framing
        self.trailers: tuple[Field, ...] = ()
        self.length = length
        self.remaining = length

    @property
    def finished(self) -> bool:
        """Whether all of the body has been read."""
        return self.remaining == 0

    def feed(self, buffer: bytearray) -> bytes:
        """Take up to the bytes still missing."""
        if len(buffer) <= self.remaining:
            content = bytes(buffer)
            buffer.clear()
        else:
            content = bytes(buffer[: self.remaining])
            del buffer[: self.remaining]
        self.remaining -= len(content)
        return content

    def feed_eof(self) -> None:
        """Refuse an end inside the body."""
        if self.remaining:
            raise WireError(f"the body ended {self.remaining} of {self.length} bytes too early")


class CloseBody:
    """A response body that lasts until the connection ends."""

    framing = "close"

    def __init__(self) -> None:
        self.trailers: tuple[Field, ...] = ()
        self.finished = False

    def feed(self, buffer: bytearray) -> bytes:
        """Take everything."""
        content = bytes(buffer)
        buffer.clear()
        return content

    def feed_eof(self) -> None:
        """Take the end of the connection as the end of the body."""
        self.finished = True


class ChunkedBody:
    """A body in chunks, with its trailer fields."""

    framing = "chunked"

    def __init__(self) -> None:
        self.trailers: tuple[Field, ...] = ()
        self.finished = False
        self._remaining = 0
        self._after_data = False
        self._in_trailers = False

    def feed(self, buffer: bytearray) -> bytes:
        """Take whole lines and whatever chunk data there is."""
        content = bytearray()
        while not self.finished:
            if self._remaining:
                if not buffer:
                    break
                piece = buffer[: self._remaining]
                del buffer[: len(piece)]
                content += piece
                self._remaining -= len(piece)
                continue
            line = _take_line(buffer)
            if line is None:
                break
            self._line(line)
        return bytes(content)

    def _line(self, line: bytes) -> None:
        if self._in_trailers:
            if not line:
                self.finished = True
            else:
                self.trailers += (_parse_field(line),)
        elif self._after_data:
            if line:
                raise WireError(f"chunk data longer than its size: {line[:40]!r}")
            self._after_data = False
        else:
            match = _CHUNK_LINE.match(line)
            if match is None:
                raise WireError(f"not a chunk's first line: {line[:40]!r}")
            self._remaining = int(match[1], 16)
            self._in_trailers = self._remaining == 0
            self._after_data = self._remaining > 0

    def feed_eof(self) -> None:
        """Refuse an end before the last chunk and its trailers."""
        if not self.finished:
            raise WireError("the connection ended inside a chunked body")


def _take_line(buffer: bytearray) -> bytes | None:
    end = buffer.find(b"\n")
    if end < 0:
        if len(buffer) > 65_536:
            raise WireError("a line of more than 64 KiB in a chunked body")
        return None
    line = bytes(buffer[: end + 1])
    del buffer[: end + 1]
    if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
        raise WireError(f"a line that does not end with CRLF alone: {line[:40]!r}")
    return line[:-2]


def request_body(head: Head, version: str) -> BodyDecoder:
    """Choose how a request's body is read."""
    coding = head.tokens("transfer-encoding")
    length = _content_length(head)
    if coding:
        if length is not None or version == "HTTP/1.0" or coding != ["chunked"]:
            raise WireError(f"ambiguous framing in {head.raw!r}")
        return ChunkedBody()
    return LengthBody(length) if length is not None else LengthBody(0, "none")


def response_body(head: Head, status: int, method: str) -> BodyDecoder:
    """Choose how the body of a response to `method` is read."""
    coding = head.tokens("transfer-encoding")
    length = _content_length(head)
    if coding and length is not None:
        raise WireError(f"ambiguous framing in {head.raw!r}")
    if method == "HEAD" or status in (204, 304) or 100 <= status < 200:
        return LengthBody(0, "none")
    if coding:
        if coding != ["chunked"]:
            raise WireError(f"a transfer coding other than chunked: {coding}")
        return ChunkedBody()
    return CloseBody() if length is None else LengthBody(length)


def _content_length(head: Head) -> int | None:
    values = head.all("content-length")
    if not values:
        return None
    if len(values) > 1 or not _DIGITS.match(values[0]):
        raise WireError(f"not one Content-Length: {values}")
    return int(values[0])


def encode_head(start: str, fields: tuple[Field, ...] | list[Field]) -> bytes:
    """Write a head."""
    lines = [start, *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def encode_chunks(pieces: list[bytes], trailers: tuple[Field, ...] = ()) -> bytes:
    """Write a whole chunked body."""
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)
    last = "".join(f"{name}: {value}\r\n" for name, value in trailers).encode("latin-1")
    return chunks + b"0\r\n" + last + b"\r\n"
