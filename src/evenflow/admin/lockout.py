"""Clients that keep presenting wrong tokens have to wait, longer each time.

Pure: the clock comes in. The table is bounded; the client heard of longest ago is forgotten first.
Only wrong credentials count, so a caller without a token is never locked out by this.
"""

import asyncio
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from weakref import WeakValueDictionary

FREE_FAILURES: Final = 5
"""Wrong tokens before the first delay."""
FIRST_DELAY_S: Final = 1.0
LONGEST_DELAY_S: Final = 300.0
FORGOTTEN_AFTER_S: Final = 900.0
"""Without a further failure, counted from the end of the delay."""
CLIENTS: Final = 4096


@dataclass(slots=True)
class _Entry:
    failures: int = 0
    until: float = 0.0


class Lockout:
    """Failures by client. Used on one event loop."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, clients: int = CLIENTS
    ) -> None:
        self._clock = clock
        self._most = clients
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._deciding: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._entries)

    def one_at_a_time(self, client: str) -> asyncio.Lock:
        """Hold this from `locked_for` until the outcome is counted.

        Otherwise credentials sent at once would all be checked before the first failure counts.
        """
        return self._deciding.setdefault(_key(client), asyncio.Lock())

    def locked_for(self, client: str) -> float:
        """For how many more seconds the client's credentials are not looked at; 0: they are."""
        entry = self._entries.get(_key(client))
        return 0.0 if entry is None else max(0.0, entry.until - self._clock())

    def failed(self, client: str) -> float:
        """Count a wrong credential; the delay it brings in seconds."""
        key, now = _key(client), self._clock()
        entry = self._entries.setdefault(key, _Entry())
        self._entries.move_to_end(key)
        if now > entry.until + FORGOTTEN_AFTER_S:
            entry.failures = 0
        entry.failures += 1
        beyond = entry.failures - FREE_FAILURES
        # The exponent is bounded, as a float is.
        delay = min(FIRST_DELAY_S * 2 ** min(beyond - 1, 16), LONGEST_DELAY_S) if beyond > 0 else 0
        entry.until = now + delay
        while len(self._entries) > self._most:
            self._entries.popitem(last=False)
        return delay

    def succeeded(self, client: str) -> None:
        """Forget a client that proved itself."""
        self._entries.pop(_key(client), None)


def _key(client: str) -> str:
    """One key for all addresses that one host can choose from: IPv6 clients count by their /64."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return client[:64]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return str(address)
