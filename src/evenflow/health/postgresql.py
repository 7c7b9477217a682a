"""The PostgreSQL check: the server answers the protocol, and where asked for, plays a role.

Without a user it goes as far as `pg_isready` does: a start-up message must be answered, by a request
for a password or by an error other than "cannot connect now". With a user it logs in and asks
whether the server is in recovery, which tells a replica from a primary.
"""

from __future__ import annotations

import hashlib
import ssl
import struct
from dataclasses import dataclass
from typing import Final, Literal

from evenflow.config import HealthCheck
from evenflow.health.dialogue import CheckFailed, ProxyVersion, Wire, connected, with_port
from evenflow.health.scram import Scram, ScramError
from evenflow.health.verdict import CheckResult

Role = Literal["primary", "replica"]

_PROTOCOL: Final = 3 << 16
_SSL_REQUEST: Final = struct.pack("!ii", 8, 80877103)
_MAX_MESSAGE: Final = 64 * 1024
_REFUSING: Final = ("57P", "53")
"""SQLSTATE classes of a server that is there and takes nobody: starting, stopping, full."""


@dataclass(frozen=True, slots=True)
class Login:
    """Whom the check is to be."""

    user: str
    password: str
    database: str


@dataclass(frozen=True, slots=True)
class PostgresqlCheck:
    """Speaks PostgreSQL's protocol, version 3."""

    timeout_s: float
    port: int | None
    login: Login | None
    role: Role | None
    send_proxy: ProxyVersion = None

    @classmethod
    def of(cls, config: HealthCheck, send_proxy: ProxyVersion = None) -> PostgresqlCheck:
        """The check a configuration asks for."""
        login = None
        if config.user is not None:
            password = "" if config.password is None else config.password.value
            login = Login(config.user, password, config.database or config.user)
        return cls(config.timeout, config.port, login, config.role, send_proxy)

    async def run(self, address: str) -> CheckResult:
        """Hold the conversation."""
        async with connected(with_port(address, self.port), self.send_proxy) as wire:
            if self.login is None:
                await wire.send(startup("evenflow", "postgres"))
                return CheckResult(True, await _answered(wire))
            secure = await _secured(wire) or address.startswith("unix:")
            await wire.send(startup(self.login.user, self.login.database))
            await _log_in(wire, self.login, secure=secure)
            role: Role = "replica" if await _in_recovery(wire) else "primary"
            await wire.send(message(b"X"))
        if self.role is None:
            return CheckResult(True, f"answers queries as a {role}")
        # The server itself says what it is: no need to wait for it to say so again.
        if role != self.role:
            return CheckResult(False, f"is a {role}, expected a {self.role}", certain=True)
        return CheckResult(True, f"is a {role}", certain=True)


def startup(user: str, database: str) -> bytes:
    """The start-up message."""
    fields = {"user": user, "database": database, "application_name": "evenflow health check"}
    body = struct.pack("!i", _PROTOCOL)
    for name, value in fields.items():
        body += name.encode() + b"\0" + value.encode() + b"\0"
    return message(b"", body + b"\0")


def message(kind: bytes, body: bytes = b"") -> bytes:
    """A message with its length."""
    return kind + struct.pack("!i", len(body) + 4) + body


async def _next(wire: Wire) -> tuple[bytes, bytes]:
    """The server's next message that matters; CheckFailed where it is not this protocol."""
    while True:
        kind, size = struct.unpack("!ci", await wire.read(5))
        if not kind.isalpha() or not 4 <= size <= _MAX_MESSAGE:
            raise CheckFailed("not a PostgreSQL answer")
        body = await wire.read(size - 4)
        if kind not in (b"N", b"S", b"K", b"v"):
            return kind, body


def error_fields(body: bytes) -> tuple[str, str]:
    """The SQLSTATE and the text of an error message."""
    fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}
    return fields.get(b"C", ""), fields.get(b"M", "")


async def _answered(wire: Wire) -> str:
    kind, body = await _next(wire)
    if kind == b"R":
        return "answers the protocol"
    if kind != b"E":
        raise CheckFailed("not a PostgreSQL answer")
    state, text = error_fields(body)
    if state.startswith(_REFUSING):
        raise CheckFailed(text)
    return "answers the protocol"


async def _secured(wire: Wire) -> bool:
    """Whether the server went over to TLS, as it is asked to."""
    await wire.send(_SSL_REQUEST)
    match await wire.read(1):
        case b"S":
            # As libpq's default does: against eavesdroppers, with no authority to ask.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            await wire.writer.start_tls(context)
            return True
        case b"N":
            return False
        case _:
            raise CheckFailed("not a PostgreSQL answer")


async def _log_in(wire: Wire, login: Login, *, secure: bool) -> None:
    scram = Scram(login.password)
    while True:
        kind, body = await _next(wire)
        if kind == b"E":
            raise CheckFailed(error_fields(body)[1])
        if kind == b"Z":
            return
        if kind != b"R" or len(body) < 4:
            raise CheckFailed("not a PostgreSQL answer")
        (method,) = struct.unpack("!i", body[:4])
        rest = body[4:]
        try:
            match method:
                case 0:
                    continue
                case 3 if not secure:
                    raise CheckFailed("asks for the password in clear text without TLS")
                case 3:
                    await wire.send(message(b"p", login.password.encode() + b"\0"))
                case 5:
                    await wire.send(message(b"p", md5_answer(login, rest)))
                case 10 if b"SCRAM-SHA-256" in rest.split(b"\0"):
                    first = scram.first()
                    body = b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first
                    await wire.send(message(b"p", body))
                case 11:
                    await wire.send(message(b"p", scram.final(rest)))
                case 12:
                    scram.verify(rest)
                case _:
                    raise CheckFailed("asks for a way to log in that a health check does not know")
        except ScramError as error:
            raise CheckFailed(f"login: {error}") from None


def md5_answer(login: Login, salt: bytes) -> bytes:
    """The answer to PostgreSQL's own challenge, for servers that still use it."""
    inner = hashlib.md5((login.password + login.user).encode(), usedforsecurity=False)
    outer = hashlib.md5(inner.hexdigest().encode() + salt, usedforsecurity=False)
    return f"md5{outer.hexdigest()}\0".encode()


async def _in_recovery(wire: Wire) -> bool:
    await wire.send(message(b"Q", b"select pg_is_in_recovery()\0"))
    found: bool | None = None
    while True:
        kind, body = await _next(wire)
        match kind:
            case b"E":
                raise CheckFailed(error_fields(body)[1])
            case b"D":
                found = body.endswith(b"t")
            case b"Z" if found is not None:
                return found
            case b"Z":
                raise CheckFailed("pg_is_in_recovery() has no answer")
            case _:
                pass
