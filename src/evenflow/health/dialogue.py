"""Checks that speak a protocol: what they share, and the bounded number of them at once.

A check of this kind holds a short conversation with the server, in Python, because nothing of it
is worth a line in the engine: some hundred checks a second at the most, none on a request's way.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol, runtime_checkable

from evenflow.health.verdict import CheckResult

CONCURRENCY: Final = 128
"""Conversations at once; further ones wait for their turn."""

ProxyVersion = Literal["v1", "v2"] | None
"""Of the PROXY header that a server expects first."""

READ_LIMIT: Final = 64 * 1024
"""The most that is buffered of what a server says unasked."""


class CheckFailed(Exception):
    """The server answered, and not as a usable one does. The text says how."""


@runtime_checkable
class Dialogue(Protocol):
    """One kind of check that speaks with the server itself."""

    @property
    def timeout_s(self) -> float:
        """For the whole conversation."""

    async def run(self, address: str) -> CheckResult:
        """Hold the conversation. Raises CheckFailed, OSError or EOFError where it fails."""


@dataclass(frozen=True, slots=True)
class Wire:
    """A connection to the server under check."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Write all of it."""
        self.writer.write(data)
        await self.writer.drain()

    async def read(self, size: int) -> bytes:
        """Read exactly so many bytes; EOFError when the server ends before."""
        return await self.reader.readexactly(size)

    async def line(self) -> bytes:
        """Read a line without its end; EOFError when the server ends before."""
        try:
            line = await self.reader.readline()
        except ValueError:
            raise CheckFailed("the answer's line is too long") from None
        if not line.endswith(b"\n"):
            raise EOFError
        return line.rstrip(b"\r\n")


def with_port(address: str, port: int | None) -> str:
    """`ip:port` with another port, where one is given."""
    if port is None or address.startswith("unix:"):
        return address
    return f"{address.rpartition(':')[0]}:{port}"


def split(address: str) -> tuple[str, int]:
    """The host and port of `ip:port` or `[v6]:port`."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


_HEADERS: Final = {
    None: b"",
    "v1": b"PROXY UNKNOWN\r\n",
    "v2": b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
}
"""PROXY headers that say: this connection is the balancer's own."""


@contextlib.asynccontextmanager
async def connected(address: str, send_proxy: ProxyVersion = None) -> AsyncIterator[Wire]:
    """A connection to `ip:port`, `[v6]:port` or `unix:/path`, closed at the end."""
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        reader, writer = await asyncio.open_unix_connection(path, limit=READ_LIMIT)
    else:
        host, port = split(address)
        reader, writer = await asyncio.open_connection(host, port, limit=READ_LIMIT)
    plain = writer.transport
    try:
        writer.write(_HEADERS[send_proxy])
        yield Wire(reader, writer)
    finally:
        writer.close()
        if writer.transport is not plain:
            plain.abort()


_OURS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


async def hold(check: Dialogue, address: str) -> CheckResult | None:
    """Hold one conversation; every way it can fail becomes a result.

    `None` is no result at all: this machine has no socket left for it, whoever it is for.
    """
    try:
        async with asyncio.timeout(check.timeout_s):
            return await check.run(address)
    except CheckFailed as error:
        return CheckResult(False, str(error))
    except TimeoutError:
        return CheckResult(False, f"no answer within {check.timeout_s:g} s")
    except (ConnectionRefusedError, FileNotFoundError):
        return CheckResult(False, "connection refused")
    except EOFError:
        return CheckResult(False, "closed the connection without an answer")
    except ConnectionError:
        return CheckResult(False, "connection reset")
    except OSError as error:
        if error.errno in _OURS:
            return None
        return CheckResult(False, error.strerror or str(error) or "unreachable")
    except ValueError as error:
        return CheckResult(False, f"cannot be checked: {error}")


Told = Callable[[CheckResult | None], None]


class Dialogues:
    """Conversations under way, so many at once; their tasks end with `close`."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(CONCURRENCY)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, check: Dialogue, address: str, done: Told) -> None:
        """Hold a conversation as soon as there is a turn, and tell what came of it."""
        task = asyncio.get_running_loop().create_task(self._hold(check, address, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Give up those under way; their results are not told."""
        for task in self._tasks:
            task.cancel()

    async def _hold(self, check: Dialogue, address: str, done: Told) -> None:
        async with self._turns:
            found = await hold(check, address)
        done(found)
