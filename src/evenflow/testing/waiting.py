"""Waiting for conditions with a bound, and free ports: what every test with processes needs."""

from __future__ import annotations

import random
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

DEFAULT_TIMEOUT_S = 20.0
"""How long a wait may last unless the caller says otherwise; generous, for busy machines."""


class WaitTimeoutError(AssertionError):
    """A condition did not come true in time."""


def wait_for(
    condition: Callable[[], T],
    what: str,
    *,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    interval_s: float = 0.02,
    describe: Callable[[], str] | None = None,
) -> T:
    """Poll until `condition` returns something true, and return that.

    `what` completes the sentence "… did not happen"; `describe` adds the state at the end to it.
    An `OSError` from the condition counts as "not yet".
    """
    deadline = time.monotonic() + timeout_s
    last: object = None
    while True:
        try:
            last = value = condition()
            if value:
                return value
        except OSError as error:
            last = error
        if time.monotonic() > deadline:
            state = describe() if describe else f"last: {last!r}"
            raise WaitTimeoutError(f"{what} did not happen within {timeout_s:g} s; {state}")
        time.sleep(interval_s)


_given: deque[int] = deque(maxlen=1000)
"""Ports given out lately, which nobody may listen on yet: two servers must not get the same."""


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port that nobody listens on, with its successor free too.

    Ports are taken below the range from which systems choose for outgoing connections, so that no
    connection takes the port before the server under test binds it. The successor is where the
    admin interface of a layer-4 balancer listens.
    """
    for _ in range(500):
        port = random.randrange(20_000, 32_000)  # noqa: S311 - no secret
        if port in _given:
            continue
        if _can_bind(host, port) and _can_bind(host, port + 1):
            _given.extend((port, port + 1))
            return port
    raise OSError("found no free port between 20000 and 32000")


def _can_bind(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
