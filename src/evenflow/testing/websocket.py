"""WebSocket (RFC 6455) over the raw test client and origin: handshake and whole frames, no more.

Both ends check what the other says, so a proxy that loses, doubles or reorders a byte is noticed.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from evenflow.testing.client import Client, TranscriptError
from evenflow.testing.wire import WireError, encode_head, parse_status_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evenflow.testing.exchange import Behaviour, Exchange

TEXT: Final = 1
CLOSE: Final = 8
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CLOSED: Final = struct.pack("!H", 1000)


@dataclass(frozen=True)
class Frame:
    """One whole message, or a control frame."""

    opcode: int
    payload: bytes


def accept_key(key: str) -> str:
    """What a server answers to a client's `Sec-WebSocket-Key`."""
    digest = hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def encode_frame(frame: Frame, *, masked: bool) -> bytes:
    """A frame as it is sent; clients must mask."""
    size, mask_bit = len(frame.payload), 0x80 if masked else 0
    out = bytearray([0x80 | frame.opcode])
    if size < 126:
        out.append(mask_bit | size)
    elif size < 1 << 16:
        out += struct.pack("!BH", mask_bit | 126, size)
    else:
        out += struct.pack("!BQ", mask_bit | 127, size)
    if not masked:
        return bytes(out + frame.payload)
    key = secrets.token_bytes(4)
    return bytes(out + key + _masked(frame.payload, key))


def take_frame(buffer: bytearray, *, masked: bool) -> Frame | None:
    """Remove one whole frame from the front of `buffer`; `None` while it is incomplete."""
    if len(buffer) < 2:
        return None
    if buffer[0] & 0x70 or not buffer[0] & 0x80:
        raise WireError(f"not a whole frame without extensions: {bytes(buffer[:20])!r}")
    if bool(buffer[1] & 0x80) is not masked:
        raise WireError("clients mask, servers do not")
    size, at = buffer[1] & 0x7F, 2
    if size > 125:
        at = 4 if size == 126 else 10
        if len(buffer) < at:
            return None
        size = int.from_bytes(buffer[2:at])
    key = bytes(buffer[at : at + 4]) if masked else b""
    at += len(key)
    if len(buffer) < at + size or (masked and len(key) < 4):
        return None
    payload = bytes(buffer[at : at + size])
    frame = Frame(buffer[0] & 0x0F, _masked(payload, key) if masked else payload)
    del buffer[: at + size]
    return frame


def _masked(payload: bytes, key: bytes) -> bytes:
    size = len(payload)
    stream = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(stream)).to_bytes(size)


def echo_websocket() -> Behaviour:
    """Switch to WebSocket, send every frame back, and close when asked to."""

    async def behave(exchange: Exchange) -> None:
        request = exchange.request
        key = request.header("sec-websocket-key")
        if "websocket" not in request.head.tokens("upgrade") or key is None:
            await exchange.send_whole(426, [("Content-Length", "0")], "Upgrade Required", b"")
            return
        fields = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Accept", accept_key(key)),
        ]
        await exchange.send_head(101, fields, "Switching Protocols")
        exchange.close()
        buffer = bytearray()
        while data := await exchange.read_raw():
            buffer += data
            while (frame := take_frame(buffer, masked=True)) is not None:
                await exchange.send(encode_frame(frame, masked=False))
                if frame.opcode == CLOSE:
                    return

    return behave


class WebSocket:
    """A client's end of a WebSocket."""

    def __init__(
        self, client: Client, target: str = "/", *, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Make the handshake on a fresh connection, with these further fields."""
        self._client = client
        self._buffer = bytearray()
        try:
            self._shake_hands(target, headers)
        except BaseException:
            client.close()
            raise

    def _shake_hands(self, target: str, headers: Sequence[tuple[str, str]]) -> None:
        client = self._client
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        fields = [
            ("Host", "socket.test"),
            ("Connection", "keep-alive, Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", key),
            *headers,
        ]
        head = client.send(encode_head(f"GET {target} HTTP/1.1", fields)).read_head()
        if parse_status_line(head).status != 101 or "websocket" not in head.tokens("upgrade"):
            raise TranscriptError(f"expected a switch to websocket, got {head.raw!r}")
        if head.get("sec-websocket-accept") != accept_key(key):
            raise TranscriptError(f"expected {accept_key(key)!r} to be accepted, got {head.raw!r}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def send(self, text: str) -> None:
        """Send a message."""
        self._client.send(encode_frame(Frame(TEXT, text.encode()), masked=True))

    def receive(self) -> Frame:
        """Wait for a whole frame."""
        while (frame := take_frame(self._buffer, masked=False)) is None:
            data = self._client.read_some()
            if not data:
                raise TranscriptError(f"the connection ended within {bytes(self._buffer)!r}")
            self._buffer += data
        return frame

    def say(self, text: str) -> None:
        """Send a message and check that it comes back."""
        self.send(text)
        got = self.receive()
        if got != Frame(TEXT, text.encode()):
            raise TranscriptError(f"expected {text[:200]!r} back, got {got.payload[:200]!r}")

    def close(self) -> None:
        """Close in order: one says so, the other agrees, then the connection ends."""
        self._client.send(encode_frame(Frame(CLOSE, _CLOSED), masked=True))
        if self.receive() != Frame(CLOSE, _CLOSED):
            raise TranscriptError("expected the close to be answered")
        self._client.expect_closed()
        self._client.close()
