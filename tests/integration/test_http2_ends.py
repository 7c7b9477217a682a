"""HTTP/2 streams that end early: clients that leave, and backends that reset a stream."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from h2.errors import ErrorCodes

from evenflow.testing import Gate, document, wait_for
from evenflow.testing.behaviours import silent
from tests.http2_peers import Asked, H2Client, H2Origin, Line, answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from evenflow.testing import EvenflowProcess
    from tests.conftest import StartEvenflow, StartOrigins

GONE = 'evenflow_errors_total{reason="client_gone"}'
ACTIVE = 'evenflow_backend_active_connections{pool="default",backend="a"}'
SOON_S = 0.5
"""How soon the end of a client must show: 100 ms, and room for a busy machine."""


def cancel(client: H2Client, stream: int) -> None:
    client.reset(stream)


def hang_up(client: H2Client, _stream: int) -> None:
    client.socket.close()


def say_goodbye(client: H2Client, _stream: int) -> None:
    client.h2.close_connection()
    client.flush()
    client.socket.close()


WAYS = pytest.mark.parametrize("leave", [cancel, hang_up, say_goodbye])


def gone_soon(balancer: EvenflowProcess) -> None:
    began = time.monotonic()
    wait_for(lambda: balancer.metrics().get(GONE, 0) == 1, "the client's end being noticed")
    assert time.monotonic() - began < SOON_S


@WAYS
def test_a_client_that_leaves_ends_a_request_that_waits_for_its_answer(
    evenflow: StartEvenflow, origins: StartOrigins, leave: Callable[[H2Client, int], None]
) -> None:
    gate = Gate()
    (origin,) = origins("a")
    origin.default = silent(gate)
    balancer = evenflow(document({"id": "a", "url": origin.url}))
    with H2Client(balancer.port) as client:
        stream = client.send(client.head("GET", "/"))
        origin.wait_for_requests(1)
        leave(client, stream)
        gone_soon(balancer)
        assert balancer.metrics()[ACTIVE] == 0
    gate.open()


@WAYS
def test_a_client_that_leaves_ends_a_request_that_waits_for_a_place(
    evenflow: StartEvenflow, origins: StartOrigins, leave: Callable[[H2Client, int], None]
) -> None:
    gate = Gate()
    (origin,) = origins("a")
    origin.on("/first", silent(gate))
    backend = {"id": "a", "url": origin.url, "max_connections": 1}
    balancer = evenflow(document(backend, load_balancer={"queue": {"max": 9, "timeout": "30s"}}))
    waiting = 'evenflow_queue_length{pool="default"}'
    with H2Client(balancer.port) as other, H2Client(balancer.port) as client:
        first = other.send(other.head("GET", "/first"))
        origin.wait_for_requests(1)
        stream = client.send(client.head("GET", "/second"))
        wait_for(lambda: balancer.metrics()[waiting] == 1, "the request in the queue")
        leave(client, stream)
        gone_soon(balancer)
        assert balancer.metrics()[waiting] == 0
        other.reset(first)
        assert other.ask("GET", "/third").status == 200
    gate.open()
    assert [request.target for request in origin.requests] == ["/first", "/third"]


@pytest.fixture
def h2_origin() -> Iterator[H2Origin]:
    with H2Origin() as origin:
        yield origin


def reset(code: ErrorCodes) -> Callable[[Line, int, Asked], None]:
    """A script that resets the stream."""

    def script(line: Line, stream: int, _asked: Asked) -> None:
        line.h2.reset_stream(stream, code)
        line.flush()

    return script


@pytest.mark.parametrize(
    "code", [ErrorCodes.INTERNAL_ERROR, ErrorCodes.CANCEL, ErrorCodes.NO_ERROR]
)
def test_a_stream_that_the_backend_resets_may_have_been_processed(
    evenflow: StartEvenflow, h2_origin: H2Origin, code: ErrorCodes
) -> None:
    """It counts as an attempt on a kept connection as well, and a POST is not repeated."""
    retries = {"max_retries": 1, "outlier": {"enabled": False}}
    balancer = evenflow(document(h2_origin.url, load_balancer=retries))
    assert balancer.request("GET", "/kept").status == 200
    h2_origin.default = reset(code)
    assert balancer.request("POST", "/post", body=b"paid").status == 502
    assert balancer.request("GET", "/get").status == 502
    paths = [asked[":path"] for asked in h2_origin.requests]
    assert paths == ["/kept", "/post", "/get", "/get"]
    h2_origin.default = answer()
    assert balancer.request("GET", "/after").status == 200
    assert h2_origin.connections == 1, "a reset stream ended its connection"


def test_a_refused_stream_is_tried_again_within_the_bounds(
    evenflow: StartEvenflow, h2_origin: H2Origin
) -> None:
    """REFUSED_STREAM says that nothing was done (RFC 9113 §8.7), and yet not without end."""
    h2_origin.default = reset(ErrorCodes.REFUSED_STREAM)
    outlier = {"enabled": False}
    balancer = evenflow(
        document(h2_origin.url, load_balancer={"max_retries": 2, "outlier": outlier})
    )
    assert balancer.request("POST", "/", body=b"paid").status in {502, 503}
    assert 2 <= len(h2_origin.requests) <= 4
