"""Every status that the balancer answers with by itself, provoked once for real."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from evenflow.testing import Gate, document, free_port
from evenflow.testing.behaviours import respond, silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evenflow.testing import EvenflowProcess
    from tests.conftest import StartEvenflow, StartOrigins

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Hold origins back until the end of the test."""
    made = Gate()
    yield made
    made.open()


def impatient(evenflow: StartEvenflow, url: str) -> EvenflowProcess:
    """Start a balancer that waits for nothing longer than 300 ms."""
    return evenflow(
        document(
            url,
            load_balancer={"timeout": "300ms", "connect_timeout": "300ms", "max_retries": 0},
            server={
                "read_timeout": "300ms",
                "idle_timeout": "300ms",
                "limits": {"max_body_size": "1KiB"},
            },
        )
    )


def test_400_413_414_and_431(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (a,) = origins("a")
    balancer = impatient(evenflow, a.url)
    assert balancer.request(headers=[("Host", "a b")]).status == 400
    assert balancer.request("PUT", body=b"a" * 1025).status == 413
    assert balancer.request(target="/" + "a" * 9000).status == 414
    assert balancer.request(headers=[("X", "a" * 40_000)]).status == 431
    assert not a.requests


def test_408_for_a_head_that_does_not_end(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (a,) = origins("a")
    balancer = impatient(evenflow, a.url)
    with balancer.client() as client:
        client.send(b"GET / HTTP/1.1\r\n")
        client.expect(408)
        client.expect_closed()


def test_408_for_a_head_that_trickles(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (a,) = origins("a")
    balancer = impatient(evenflow, a.url)
    with balancer.client(timeout_s=0.05) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        for _ in range(200):
            client.send_quietly(b"X: y\r\n")
            with contextlib.suppress(AssertionError):
                client.expect(408)
                return
    raise AssertionError("a head that never ends was read for ten seconds")


def test_408_for_a_body_that_stalls(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (a,) = origins("a")
    balancer = impatient(evenflow, a.url)
    with balancer.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        client.expect(408)
        client.expect_closed()
    assert not any(request.complete for request in a.requests)


def test_an_idle_connection_is_closed_without_a_word(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    balancer = impatient(evenflow, a.url)
    with balancer.client() as client:
        client.send(GET).expect(200)
        client.expect_closed()
    with balancer.client() as client:
        client.expect_closed()


def test_502_when_no_backend_accepts(evenflow: StartEvenflow) -> None:
    balancer = evenflow(
        document(
            f"http://127.0.0.1:{free_port()}",
            load_balancer={"outlier": {"enabled": False}},
        )
    )
    assert balancer.request().status == 502


def test_503_without_any_backend(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (a,) = origins("a")
    balancer = evenflow(document({"id": "a", "url": a.url}))
    balancer.api("DELETE", "/admin/backends/a")
    assert balancer.request().status == 503


def test_503_when_the_only_backend_drains(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (a,) = origins("a")
    balancer = evenflow(document({"id": "a", "url": a.url, "drain": True}))
    assert balancer.request().status == 503


def test_504_when_the_backend_says_nothing(
    evenflow: StartEvenflow, origins: StartOrigins, gate: Gate
) -> None:
    (a,) = origins("a", default=silent(gate))
    balancer = impatient(evenflow, a.url)
    assert balancer.request().status == 504


def test_504_when_the_backends_own_bound_is_shorter(
    evenflow: StartEvenflow, origins: StartOrigins, gate: Gate
) -> None:
    (a,) = origins("a", default=silent(gate))
    balancer = evenflow(
        document({"id": "a", "url": a.url, "timeout": "200ms"}, load_balancer={"max_retries": 0})
    )
    assert balancer.request().status == 504


def test_504_when_the_route_has_had_its_time(
    evenflow: StartEvenflow, origins: StartOrigins, gate: Gate
) -> None:
    (a,) = origins("a", default=silent(gate))
    full = document(
        routes=[{"name": "all", "pool": "only", "timeout": "300ms"}],
        pools=[{"name": "only", "backends": [{"id": "a", "url": a.url}]}],
    )
    assert evenflow(full).request().status == 504


def test_504_when_connecting_takes_too_long(evenflow: StartEvenflow, full_backlog: int) -> None:
    balancer = impatient(evenflow, f"http://127.0.0.1:{full_backlog}")
    assert balancer.request().status in (502, 504)


@pytest.fixture
def full_backlog() -> Iterator[int]:
    """Listen on a port whose queue of connections is full, so that connecting hangs."""
    import socket

    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = int(listener.getsockname()[1])
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port


def test_a_response_that_stalls_is_cut(
    evenflow: StartEvenflow, origins: StartOrigins, gate: Gate
) -> None:
    (a,) = origins("a", default=respond(body=b"abcd", midway=gate))
    balancer = evenflow(document(a.url, load_balancer={"idle_timeout": "300ms"}))
    with balancer.client() as client:
        client.send(GET)
        assert client.read_to_end().endswith(b"\r\n\r\nab")


def test_a_client_that_does_not_read_is_cut(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    from evenflow.testing import wait_for
    from evenflow.testing.behaviours import stream

    (a,) = origins("a", default=stream(200_000_000))
    balancer = evenflow(document(a.url, server={"write_timeout": "300ms"}))
    with balancer.client(receive_buffer=4096) as client:
        client.send(GET)
        a.wait_for_requests(1)
        wait_for(lambda: a.open_connections == 0, "the balancer leaving the origin")
