"""Names to addresses: what an endpoint's target means to a socket.

Literal addresses and Unix sockets need no resolver. Names are asked for at once but a few at a
time, each within a deadline; a name that does not resolve is an answer (an error text), not an
exception.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

TIMEOUT_S: Final = 5.0
CONCURRENCY: Final = 32

Lookup = Callable[[str], Awaitable[list[str]]]
"""A host name to its IP addresses in order of preference; raises `OSError` for none."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a target resolved to: addresses (`ip:port`, `[v6]:port`, `unix:/path`) or an error."""

    addresses: tuple[str, ...]
    error: str = ""


def literal(target: str) -> Resolution | None:
    """The resolution of a target that names no host: an IP address with a port, a Unix socket."""
    if target.startswith("unix:"):
        return Resolution((target,))
    host, port = _split(target)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if "%" in host:
        return Resolution((), f"{host}: addresses with a zone are not supported")
    return Resolution((_joined(str(address), port),))


async def system_lookup(host: str) -> list[str]:
    """Ask the system's resolver, as `/etc/nsswitch.conf` says.

    Each question has a thread of its own, which nobody waits for: a resolver that hangs neither
    holds up other work that needs threads nor the end of the process.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def tell(addresses: list[str], error: OSError | UnicodeError | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(addresses)

    def ask() -> None:
        addresses: list[str] = []
        problem: OSError | UnicodeError | None = None
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        except (OSError, UnicodeError) as error:
            problem = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
            loop.call_soon_threadsafe(tell, addresses, problem)

    threading.Thread(target=ask, name=f"resolve {host}", daemon=True).start()
    return await answer


async def resolve_targets(
    targets: Iterable[str],
    lookup: Lookup = system_lookup,
    timeout_s: float = TIMEOUT_S,
    concurrency: int = CONCURRENCY,
) -> dict[str, Resolution]:
    """Resolve every target; all of them are in the answer.

    Takes at most about `timeout_s` for every `concurrency` names.
    """
    resolved: dict[str, Resolution] = {}
    waiting: dict[str, list[str]] = {}
    for target in dict.fromkeys(targets):
        if (known := literal(target)) is not None:
            resolved[target] = known
        else:
            waiting.setdefault(_split(target)[0], []).append(target)
    if not waiting:
        return resolved

    limit = asyncio.Semaphore(concurrency)

    async def one(host: str, names: list[str]) -> None:
        async with limit:
            found = await _look_up(host, lookup, timeout_s)
        for target in names:
            resolved[target] = _with_port(found, _split(target)[1])

    async with asyncio.TaskGroup() as group:
        for host, names in waiting.items():
            group.create_task(one(host, names))
    return resolved


async def _look_up(host: str, lookup: Lookup, timeout_s: float) -> Resolution:
    try:
        async with asyncio.timeout(timeout_s):
            addresses = await lookup(host)
    except TimeoutError:
        return Resolution((), f"{host} did not resolve within {timeout_s:g} s")
    except (OSError, UnicodeError) as error:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return Resolution((), f"{host} does not resolve: {text}")
    usable = tuple(address for address in addresses if "%" not in address)
    if not usable:
        return Resolution((), f"{host} does not resolve: it has no address")
    return Resolution(usable)


def _with_port(found: Resolution, port: str) -> Resolution:
    return Resolution(tuple(_joined(address, port) for address in found.addresses), found.error)


def _split(target: str) -> tuple[str, str]:
    host, _, port = target.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), port


def _joined(address: str, port: str) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def changed(old: Mapping[str, Resolution], new: Mapping[str, Resolution]) -> list[str]:
    """The targets whose addresses are not those of before, in any order.

    A resolver that rotates its answers changes nothing. A name that stopped resolving keeps what
    it had: an outage of the resolver must not take backends away.
    """
    return [
        target
        for target, resolution in new.items()
        if resolution.addresses
        and set(resolution.addresses) != set(old.get(target, Resolution(())).addresses)
    ]
