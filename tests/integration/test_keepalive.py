"""Connections to backends whose other end disappears without a word."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evenflow.testing import document, wait_for
from tests.http2_peers import Asked, H2Origin, Line

if TYPE_CHECKING:
    from tests.conftest import StartEvenflow, StartOrigins

ESTABLISHED, KEEPALIVE = "01", "02"


def timers(port: int) -> list[str]:
    """The kernel's timers of established connections to a port of this machine (proc(5))."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    wanted = f"0100007F:{port:04X}"
    return [each[5][:2] for each in fields if each[2] == wanted and each[3] == ESTABLISHED]


@pytest.mark.parametrize(("setting", "probed"), [(None, True), ("10s", True), ("0s", False)])
def test_the_kernel_probes_silent_connections_to_backends(
    evenflow: StartEvenflow, origins: StartOrigins, setting: str | None, *, probed: bool
) -> None:
    (origin,) = origins("a")
    connections = {} if setting is None else {"tcp_keepalive": setting}
    balancer = evenflow(document(origin.url, load_balancer={"connections": connections}))
    assert balancer.request().status == 200
    # The one that is kept; clients of the health check and of this test are closed.
    assert (KEEPALIVE in timers(origin.port)) is probed


PINGS = {"ping_interval": "1s", "ping_timeout": "1s"}


def test_a_silent_connection_of_http2_that_answers_pings_is_kept(evenflow: StartEvenflow) -> None:
    with H2Origin() as origin:
        balancer = evenflow(document(origin.url, load_balancer={"connections": PINGS}))
        assert balancer.request().status == 200
        wait_for(lambda: origin.pings >= 2, "two PINGs")
        assert balancer.request().status == 200
        assert origin.connections == 1


def test_a_connection_of_http2_whose_backend_is_gone_without_a_word_ends(
    evenflow: StartEvenflow,
) -> None:
    released = threading.Event()

    def freeze(_line: Line, _stream: int, _asked: Asked) -> None:
        """Read no more on this connection, so that PINGs get no answer either."""
        released.wait(30)

    with H2Origin() as origin:
        origin.queue.append(freeze)
        balancer = evenflow(document(origin.url, load_balancer={"connections": PINGS}))
        # The first connection ends, and the request is repeated on another one.
        assert balancer.request().status == 200
        assert origin.connections == 2
        released.set()
