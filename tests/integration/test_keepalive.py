"""Connections to backends whose other end disappears without a word."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evenflow.testing import document

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
