"""Bodies in both directions: chunked, measured, ended by close, none, with trailers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from evenflow.testing import Gate, document
from evenflow.testing.behaviours import echo, pattern, raw, respond, stream

if TYPE_CHECKING:
    from evenflow.testing.behaviours import Framing
    from tests.conformance.conftest import Proxy
    from tests.conftest import StartEvenflow, StartOrigins

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize("size", [0, 1, 100, 65_535, 65_536, 65_537, 500_000])
def test_a_measured_request_body_arrives_whole(proxy: Proxy, size: int) -> None:
    body = pattern(0, size)
    got = proxy.forwarded(POST + b"Content-Length: %d\r\n\r\n" % size + body)
    assert bytes(got.body) == body
    assert got.head.all("content-length") == [str(size)]
    assert got.header("transfer-encoding") is None


@pytest.mark.parametrize("piece", [1, 7, 4_096, 65_536, 300_000])
def test_a_chunked_request_body_arrives_whole_and_chunked(proxy: Proxy, piece: int) -> None:
    body = pattern(0, min(300_000, piece * 500))
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(part), part)
        for part in (body[i : i + piece] for i in range(0, len(body), piece))
    )
    got = proxy.forwarded(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    assert bytes(got.body) == body
    assert got.header("content-length") is None


def test_a_chunked_body_in_pieces_of_one_byte_arrives_whole(proxy: Proxy) -> None:
    data = b"5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 11\r\n\r\n"
    with proxy.client() as client:
        client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        client.send(*(data[i : i + 1] for i in range(len(data))))
        client.expect(200)
    (got,) = proxy.origin.requests
    assert bytes(got.body) == b"hello world"


def test_a_post_without_a_body_has_none_at_the_origin(proxy: Proxy) -> None:
    got = proxy.forwarded(POST + b"\r\n")
    assert got.body_length == 0
    assert got.header("transfer-encoding") is None


def test_trailers_of_a_request_are_forwarded(proxy: Proxy) -> None:
    got = proxy.forwarded(
        POST + b"Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n0\r\nX-Sum: 3\r\n\r\n"
    )
    assert got.trailers == (("X-Sum", "3"),)


def test_trailers_of_a_response_are_relayed(proxy: Proxy) -> None:
    proxy.origin.default = respond(body=b"abc", framing="chunked", trailers=[("X-Sum", "3")])
    with proxy.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n")
        assert client.expect(200, body=b"abc").trailers == (("X-Sum", "3"),)


def test_trailers_of_a_response_obey_its_header_rules(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (origin,) = origins("a")
    trailers = [("X-Internal", "1"), ("X-Sum", "3")]
    origin.default = respond(body=b"abc", framing="chunked", trailers=trailers)
    balancer = evenflow(
        document(origin.url, security={"headers": {"response": {"remove": ["X-Internal"]}}})
    )
    with balancer.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n")
        assert client.expect(200, body=b"abc").trailers == (("X-Sum", "3"),)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("size", [0, 1, 65_536, 1_000_000])
def test_a_response_body_arrives_whole_and_the_connection_stays(
    proxy: Proxy, framing: Framing, size: int
) -> None:
    proxy.origin.default = stream(size, framing=framing)
    with proxy.client() as client:
        for _ in range(2):
            client.send(GET)
            answer = client.expect(200)
            assert answer.body == pattern(0, size)
            assert answer.framing == ("length" if framing == "length" else "chunked")
            assert answer.header("content-length") == (str(size) if framing == "length" else None)


def test_a_response_of_http_1_0_origins_is_relayed_as_http_1_1(proxy: Proxy) -> None:
    proxy.origin.default = raw(b"HTTP/1.0 200 OK\r\nX-Old: 1\r\n\r\nabc")
    with proxy.client() as client:
        for _ in range(2):
            client.send(GET)
            answer = client.expect(200, body=b"abc", headers={"x-old": "1"})
            assert answer.line.version == "HTTP/1.1"


def test_the_first_half_of_a_body_arrives_before_the_second_is_sent(proxy: Proxy) -> None:
    for framing, end in (("length", b"ab"), ("chunked", b"2\r\nab\r\n")):
        gate = Gate()
        proxy.origin.enqueue(respond(body=b"abcd", framing=framing, midway=gate))  # type: ignore[arg-type]
        with proxy.client() as client:
            client.send(GET)
            client.read_head()
            assert client.read_until(end) == end
            gate.open()
            assert b"cd" in client.read_until(b"cd")


def test_the_first_half_of_a_request_body_arrives_before_the_second_is_sent(proxy: Proxy) -> None:
    gate = Gate()
    from evenflow.testing import Exchange, wait_for

    async def note_first_half(exchange: Exchange) -> None:
        assert await exchange.read_some() == b"abc"
        gate.open()
        await exchange.read_body()
        await exchange.send_head(204, [])

    proxy.origin.default = note_first_half
    with proxy.client() as client:
        client.send(POST + b"Content-Length: 6\r\n\r\nabc")
        wait_for(lambda: proxy.origin.requests, "the head at the origin")
        wait_for(lambda: proxy.origin.requests[0].body_length == 3, "the first half")
        client.send(b"def").expect(204)


@pytest.mark.parametrize("field", [b"Content-Length: 1234", b"Transfer-Encoding: chunked"])
def test_an_answer_to_head_keeps_its_fields_and_has_no_body(proxy: Proxy, field: bytes) -> None:
    proxy.origin.default = raw(b"HTTP/1.1 200 OK\r\n" + field + b"\r\n\r\n", then="keep")
    with proxy.client() as client:
        for _ in range(2):
            client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = client.expect(200, method="HEAD")
            if field.startswith(b"Content-Length"):
                assert answer.header("content-length") == "1234"


def test_304_keeps_its_length_and_has_no_body(proxy: Proxy) -> None:
    proxy.origin.default = raw(
        b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 1234\r\n\r\n', then="keep"
    )
    with proxy.client() as client:
        for _ in range(2):
            client.send(GET).expect(304, body=b"", headers={"etag": '"a"'})


def test_204_has_no_body(proxy: Proxy) -> None:
    proxy.origin.default = respond(204)
    with proxy.client() as client:
        for _ in range(2):
            client.send(GET).expect(204, body=b"", headers={"content-length": None})


def test_a_response_with_a_length_of_zero_has_no_body(proxy: Proxy) -> None:
    proxy.origin.default = respond(200, b"")
    with proxy.client() as client:
        for _ in range(2):
            client.send(GET).expect(200, body=b"", headers={"content-length": "0"})


def test_body_bytes_are_not_looked_into(proxy: Proxy) -> None:
    body = b"GET / HTTP/1.1\r\n\r\n0\r\n\r\n\0\xff" + bytes(range(256))
    proxy.origin.default = echo()
    answer = proxy.request("PUT", body=body)
    assert answer.body.endswith(body)
