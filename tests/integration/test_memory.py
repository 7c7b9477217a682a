"""`server.memory`: what buffers hold stays below it, whatever clients read."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from evenflow.testing import document, wait_for
from evenflow.testing.behaviours import respond
from tests.http2_peers import H2Client

if TYPE_CHECKING:
    from evenflow.testing import EvenflowProcess
    from tests.conftest import StartEvenflow, StartOrigins

MIB = 1024 * 1024
HELD = "evenflow_buffer_bytes"
LIMIT = "evenflow_buffer_limit_bytes"
REFUSED = 'evenflow_errors_total{reason="memory_full"}'
CONNECTIONS, STREAMS = 6, 100


def held(balancer: EvenflowProcess) -> float:
    return balancer.metrics()[HELD]


def await_heads(client: H2Client, streams: list[int]) -> None:
    client.until(lambda: all(client.answers[stream].headers for stream in streams))


def test_clients_that_read_nothing_stay_within_the_memory_for_buffers(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    limit = 16 * MIB
    (origin,) = origins("a")
    origin.default = respond(200, bytes(MIB))
    origin.on("/small", respond(200, b"small"))
    balancer = evenflow(document(origin.url, server={"memory": limit, "write_timeout": "60s"}))
    assert balancer.metrics()[LIMIT] == limit
    with contextlib.ExitStack() as stack:
        for _ in range(CONNECTIONS):
            client = stack.enter_context(H2Client(balancer.port))
            client.consume = False
            streams = [client.send(client.head("GET", f"/{at}")) for at in range(STREAMS)]
            await_heads(client, streams)
            assert {client.answers[stream].status for stream in streams} <= {200, 503}
            assert held(balancer) <= limit
            assert balancer.request("GET", "/small").status in {200, 503}
        assert balancer.metrics()[REFUSED] > 0
        # The control plane's pages are served whatever the traffic does.
        assert balancer.request("GET", "/health/live").status == 200
    wait_for(lambda: held(balancer) < MIB, "the buffers' return")
    assert balancer.request("GET", "/small").status == 200


def test_a_reload_changes_the_memory_for_buffers(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (origin,) = origins("a")
    balancer = evenflow(document(origin.url))
    assert balancer.metrics()[LIMIT] >= 64 * MIB
    balancer.write_config(document(origin.url, server={"memory": "32MB"}))
    balancer.reload()
    wait_for(lambda: balancer.metrics()[LIMIT] == 32_000_000, "the new limit")
