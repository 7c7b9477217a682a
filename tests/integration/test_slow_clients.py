"""Clients that are slow on purpose, by the thousand: they are shed, and nobody else notices.

Each test holds a crowd of slow connections open while a few good clients go on asking. No good
request may fail, every slow client must be told or cut off for the right reason, and the reasons
are counted. No figure of speed decides.
"""

from __future__ import annotations

import contextlib
import resource
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Self

import pytest

from evenflow.testing import Load, document, wait_for
from evenflow.testing.behaviours import stream

if TYPE_CHECKING:
    from evenflow.testing import EvenflowProcess
    from tests.conftest import StartEvenflow, StartOrigins

CROWD = 4_000
"""Slow heads; the other crowds need connections to an origin as well and are smaller."""


@pytest.fixture(autouse=True)
def _many_descriptors() -> Iterator[None]:
    """Raise the limit on open files for this process and the balancer that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def affordable(wanted: int, descriptors_each: int = 1) -> int:
    """Return how large a crowd this system's limit allows."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return (
        wanted if limit == resource.RLIM_INFINITY else min(wanted, limit // 2 // descriptors_each)
    )


class Crowd:
    """Connections that say and read as little as they can."""

    def __init__(self, port: int, count: int, opening: bytes, receive_buffer: int = 0) -> None:
        self.count = count
        self.endings: Counter[bytes] = Counter()
        self._open: dict[int, socket.socket] = {}
        self._said: dict[int, bytes] = {}
        for _ in range(count):
            sock = socket.socket()
            if receive_buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            sock.connect(("127.0.0.1", port))
            sock.setblocking(False)
            sock.send(opening)
            self._open[sock.fileno()] = sock
            self._said[sock.fileno()] = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._open.values():
            sock.close()

    def dribble(self, piece: bytes) -> bool:
        """Send a little on every connection and take what came; return whether all have ended."""
        for sock in self._open.values():
            with contextlib.suppress(OSError):
                sock.send(piece)
        self.sip(4_096)
        return not self._open

    def sip(self, size: int) -> bool:
        """Read a little from every connection that has something; return whether all have ended."""
        for number, sock in list(self._open.items()):
            try:
                data = sock.recv(size)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            self._said[number] = (self._said[number] + data)[:12]
            if not data:
                self.endings[self._said[number]] += 1
                sock.close()
                del self._open[number]
        return not self._open


def outlast(crowd: Crowd, load: Load, step: Callable[[], bool]) -> None:
    """Go on until the whole crowd is gone, while good clients are served all the time."""
    before = load.completed
    wait_for(
        step,
        "the end of the last slow client",
        timeout_s=60,
        interval_s=0.05,
        describe=lambda: f"{crowd.endings} of {crowd.count}; {load.describe()}",
    )
    load.wait_for_more(10)
    assert load.completed - before >= 20, load.describe()


def counted(balancer: EvenflowProcess, reason: str) -> float:
    return balancer.metrics().get(f'evenflow_errors_total{{reason="{reason}"}}', 0.0)


def test_slow_heads_are_shed_with_408(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (origin,) = origins("a")
    balancer = evenflow(document(origin.url, server={"workers": 2, "read_timeout": "3s"}))
    opening = b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: "
    with (
        Load(balancer.port, connections=4, pause_s=0.005) as load,
        Crowd(balancer.port, affordable(CROWD), opening) as crowd,
    ):
        outlast(crowd, load, lambda: crowd.dribble(b"a"))
        assert crowd.endings == {b"HTTP/1.1 408": crowd.count}
    load.expect_no_failure()
    assert counted(balancer, "head_timeout") == crowd.count
    assert "/slow" not in {request.target for request in origin.requests}


def test_slow_bodies_are_shed_with_408(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (origin,) = origins("a")
    server = {"workers": 2, "read_timeout": "2s", "min_body_rate": 10_000}
    balancer = evenflow(document(origin.url, server=server))
    opening = b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
    # A connection to the balancer, and one from it that this process accepts.
    with (
        Load(balancer.port, connections=4, pause_s=0.005) as load,
        Crowd(balancer.port, affordable(1_000, 3), opening) as crowd,
    ):
        outlast(crowd, load, lambda: crowd.dribble(b"a"))
        assert crowd.endings == {b"HTTP/1.1 408": crowd.count}
    load.expect_no_failure()
    assert counted(balancer, "body_timeout") == crowd.count
    assert not [r for r in origin.requests if r.target == "/slow" and r.complete]


@pytest.mark.parametrize("sip", [0, 16], ids=["nothing", "a little"])
def test_slow_readers_are_cut_off(evenflow: StartEvenflow, origins: StartOrigins, sip: int) -> None:
    (origin,) = origins("a")
    origin.on("/large", stream(64 << 20))
    server = {"workers": 2, "write_timeout": "2s", "min_body_rate": 1 << 20}
    balancer = evenflow(document(origin.url, server=server))
    opening = b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n"
    count = affordable(100, 3)
    with (
        Load(balancer.port, connections=4, pause_s=0.005) as load,
        Crowd(balancer.port, count, opening, receive_buffer=4_096) as crowd,
    ):

        def all_counted() -> bool:
            if sip:
                crowd.sip(sip)
            return counted(balancer, "client_slow") >= count

        outlast(crowd, load, all_counted)
    load.expect_no_failure()


def test_a_slow_reader_that_keeps_pace_is_served(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (origin,) = origins("a")
    origin.on("/large", stream(8 << 20))
    server = {"write_timeout": "1s", "min_body_rate": 1}
    balancer = evenflow(document(origin.url, server=server))
    with balancer.client(receive_buffer=4_096) as client:
        client.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        assert len(client.expect(200).body) == 8 << 20
    assert counted(balancer, "client_slow") == 0


def test_silent_connections_are_closed_without_a_word(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (origin,) = origins("a")
    balancer = evenflow(document(origin.url, server={"workers": 2, "idle_timeout": "2s"}))
    with (
        Load(balancer.port, connections=4, pause_s=0.005) as load,
        Crowd(balancer.port, affordable(CROWD), b"") as crowd,
    ):
        outlast(crowd, load, lambda: crowd.sip(64))
        assert crowd.endings == {b"": crowd.count}
    load.expect_no_failure()
