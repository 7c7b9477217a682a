"""The MySQL check: the server greets and answers a login, whatever it thinks of the user.

A connection that ends after the greeting would count against this host (`max_connect_errors`) until
the server blocks it, so the check logs in, by default as a user that need not exist; being refused
as that user is as good an answer as being let in.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from evenflow.config import HealthCheck
from evenflow.health.dialogue import CheckFailed, ProxyVersion, Wire, connected, with_port
from evenflow.health.verdict import CheckResult

DEFAULT_USER: Final = "evenflow"

_CAPABILITIES: Final = 0x1 | 0x200 | 0x8000 | 0x80000
"""Long passwords, protocol 4.1, its authentication, and naming the plugin."""
_MAX_PACKET: Final = 64 * 1024
_REFUSING: Final = {1040, 1053, 1129, 1203}
"""Too many connections, shutting down, this host blocked, this user's limit reached."""


@dataclass(frozen=True, slots=True)
class MysqlCheck:
    """Speaks MySQL's protocol, version 10."""

    timeout_s: float
    port: int | None
    user: str
    send_proxy: ProxyVersion = None

    @classmethod
    def of(cls, config: HealthCheck, send_proxy: ProxyVersion = None) -> MysqlCheck:
        """The check a configuration asks for."""
        return cls(config.timeout, config.port, config.user or DEFAULT_USER, send_proxy)

    async def run(self, address: str) -> CheckResult:
        """Hold the conversation."""
        async with connected(with_port(address, self.port), self.send_proxy) as wire:
            _, greeting = await _packet(wire)
            version = greeting_version(greeting)
            await wire.send(packet(1, login(self.user)))
            number, answer = await _packet(wire)
            if answer[:1] == b"\xfe":
                # Another plugin is wanted: an empty password is refused by any of them.
                await wire.send(packet(number + 1, b""))
                number, answer = await _packet(wire)
            if answer[:1] == b"\xff":
                _refuse_if_unusable(answer)
            elif answer[:1] == b"\0":
                await wire.send(packet(0, b"\x01"))
        return CheckResult(True, f"MySQL {version} answers")


def greeting_version(body: bytes) -> str:
    """The version that a greeting tells; CheckFailed where it is none."""
    if body[:1] == b"\xff":
        _refuse_if_unusable(body)
        raise CheckFailed(_text(body))
    version, end, _ = body[1:].partition(b"\0")
    if body[:1] != b"\x0a" or not end:
        raise CheckFailed("not a MySQL greeting")
    return version.decode("ascii", "replace")[:64]


def login(user: str) -> bytes:
    """A login without a password."""
    head = struct.pack("<IIB23x", _CAPABILITIES, _MAX_PACKET, 45)
    return head + user.encode() + b"\0" + b"\0" + b"mysql_native_password\0"


def packet(number: int, body: bytes) -> bytes:
    """A packet with its header."""
    return struct.pack("<I", len(body))[:3] + bytes([number & 0xFF]) + body


async def _packet(wire: Wire) -> tuple[int, bytes]:
    head = await wire.read(4)
    size = int.from_bytes(head[:3], "little")
    if not 1 <= size <= _MAX_PACKET:
        raise CheckFailed("not a MySQL greeting")
    return head[3], await wire.read(size)


def _refuse_if_unusable(body: bytes) -> None:
    code = int.from_bytes(body[1:3], "little")
    if code in _REFUSING:
        raise CheckFailed(_text(body))


def _text(body: bytes) -> str:
    text = body[3:].removeprefix(b"#")
    # Five characters of SQLSTATE stand before the text, but not yet in a greeting.
    text = text[5:] if body[3:4] == b"#" else text
    return text.decode("utf-8", "replace")[:200] or "refused"
