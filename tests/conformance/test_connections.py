"""The client's connection: pipelining, keep-alive, HTTP/1.0, half-closed and aborted clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from evenflow.testing import Client, EvenflowProcess, Gate, Origin, document, wait_for
from evenflow.testing.behaviours import respond, silent, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from evenflow.testing import Exchange
    from tests.conformance.conftest import Proxy

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def say_target(exchange: Exchange) -> None:
    """Answer with the request's target, read from the body where there is one."""
    body = exchange.request.target.encode() + await exchange.read_body()
    await exchange.send_head(200, [("Content-Length", str(len(body)))])
    await exchange.send(body)


def test_pipelined_requests_are_answered_in_order(proxy: Proxy) -> None:
    proxy.origin.default = say_target
    with proxy.client() as client:
        client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(50)))
        for n in range(50):
            client.expect(200, body=b"/%d" % n)


def test_pipelined_requests_with_bodies_are_answered_in_order(proxy: Proxy) -> None:
    proxy.origin.default = say_target
    with proxy.client() as client:
        client.send(
            b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n-1"
            b"POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n-2\r\n0\r\n\r\n"
            b"GET /c HTTP/1.1\r\nHost: a\r\n\r\n"
            b"PUT /d HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\n-4"
        )
        for body in (b"/a-1", b"/b-2", b"/c", b"/d-4"):
            client.expect(200, body=body)
        client.expect_closed()


def test_a_slow_first_answer_holds_back_the_second(proxy: Proxy) -> None:
    gate = Gate()
    proxy.origin.on("/slow", respond(body=b"slow", before=gate))
    with proxy.client() as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
        wait_for(lambda: gate.arrivals, "the slow request at the origin")
        client.expect_open()
        gate.open()
        client.expect(200, body=b"slow")
        client.expect(200, body=b"origin\n")


def test_requests_before_a_malformed_one_are_answered(proxy: Proxy) -> None:
    with proxy.client() as client:
        client.send(GET + GET + b"GET / HTTP/1.1\r\nX Y: z\r\n\r\n" + GET)
        client.expect(200)
        client.expect(200)
        client.expect(400, headers={"connection": "close"})
        client.expect_closed()
    assert len(proxy.origin.requests) == 2


def test_nothing_after_a_request_that_closes_is_served(proxy: Proxy) -> None:
    with proxy.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + GET)
        client.expect(200, headers={"connection": "close"})
        client.expect_closed()
    assert len(proxy.origin.requests) == 1


def test_a_connection_serves_many_requests_over_one_upstream_connection(proxy: Proxy) -> None:
    proxy.request()
    proxy.origin.forget()
    with proxy.client() as client:
        for _ in range(100):
            client.send(GET).expect(200)
    assert len({request.connection for request in proxy.origin.requests}) == 1


def test_a_connection_stays_open_after_an_error_of_the_origin(proxy: Proxy) -> None:
    proxy.origin.enqueue(respond(500, b"broken"), respond(404, b"none"))
    with proxy.client() as client:
        client.send(GET).expect(500, body=b"broken")
        client.send(GET).expect(404, body=b"none")
        client.send(GET).expect(200)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_an_http_1_0_client_gets_a_body_and_a_close(proxy: Proxy, framing: str) -> None:
    proxy.origin.default = stream(100_000, framing=framing)  # type: ignore[arg-type]
    with proxy.client() as client:
        client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        answer = client.expect(200)
        assert len(answer.body) == 100_000
        assert answer.header("transfer-encoding") is None
        client.expect_closed()


def test_an_http_1_0_client_may_ask_to_keep_the_connection(proxy: Proxy) -> None:
    with proxy.client() as client:
        for _ in range(3):
            client.send(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n")
            answer = client.expect(200, body=b"origin\n")
            assert "keep-alive" in answer.head.tokens("connection")


def test_a_body_of_unknown_length_ends_the_connection_of_an_http_1_0_client(
    proxy: Proxy,
) -> None:
    proxy.origin.default = stream(1000, framing="chunked")
    with proxy.client() as client:
        client.send(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        answer = client.expect(200)
        assert (answer.framing, len(answer.body)) == ("close", 1000)
        assert "keep-alive" not in answer.head.tokens("connection")


def test_an_http_1_0_client_may_send_a_measured_body(proxy: Proxy) -> None:
    with proxy.client() as client:
        client.send(b"POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc").expect(200)
        client.expect_closed()
    assert bytes(proxy.origin.requests[0].body) == b"abc"


@pytest.fixture
def finishing() -> Iterator[tuple[Origin, EvenflowProcess]]:
    """A balancer that serves clients that have closed their sending side."""
    with (
        Origin() as origin,
        EvenflowProcess(document(origin.url, server={"on_client_close": "finish"})) as process,
    ):
        yield origin, process


def test_a_half_closed_client_gets_its_answer_where_requests_are_finished(
    finishing: tuple[Origin, EvenflowProcess],
) -> None:
    origin, process = finishing
    gate = Gate()
    origin.default = respond(body=b"late", before=gate)
    with process.client() as client:
        client.send(GET).half_close()
        wait_for(lambda: gate.arrivals, "the request at the origin")
        gate.open()
        client.expect(200, body=b"late")
        client.expect_closed()


def test_a_half_closed_client_gets_every_pipelined_answer_where_requests_are_finished(
    finishing: tuple[Origin, EvenflowProcess],
) -> None:
    origin, process = finishing
    origin.default = say_target
    with process.client() as client:
        client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(5)))
        client.half_close()
        for n in range(5):
            client.expect(200, body=b"/%d" % n)
        client.expect_closed()


def test_a_client_that_connects_and_says_nothing_is_no_error(proxy: Proxy) -> None:
    with proxy.client() as client:
        client.half_close().expect_closed()
    assert proxy.request().status == 200


@pytest.mark.parametrize("leave", [Client.reset, Client.half_close])
def test_a_client_that_leaves_ends_the_work_at_the_origin(
    proxy: Proxy, leave: Callable[[Client], object]
) -> None:
    gate = Gate()
    proxy.origin.default = silent(gate)
    left: list[int] = []

    async def behave(exchange: Exchange) -> None:
        await exchange.read_body()
        gate.open()
        await exchange.client_left()
        left.append(1)
        exchange.close()

    proxy.origin.default = behave
    client = proxy.client()
    client.send(GET)
    proxy.origin.wait_for_requests(1)
    leave(client)
    wait_for(lambda: left, "the balancer leaving the origin")


def test_a_client_that_leaves_during_a_body_ends_the_work_at_the_origin(proxy: Proxy) -> None:
    left: list[int] = []

    async def behave(exchange: Exchange) -> None:
        await exchange.send_head(200, [("Transfer-Encoding", "chunked")])
        try:
            while True:
                await exchange.send(b"10000\r\n" + b"a" * 65_536 + b"\r\n")
        finally:
            left.append(1)

    proxy.origin.default = behave
    client = proxy.client()
    client.send(GET)
    client.read_head()
    client.reset()
    wait_for(lambda: left, "the balancer leaving the origin")


def test_a_slow_reader_gets_everything(proxy: Proxy) -> None:
    proxy.origin.default = stream(5_000_000)
    with proxy.client(receive_buffer=4096) as client:
        client.send(GET)
        assert len(client.expect(200).body) == 5_000_000
