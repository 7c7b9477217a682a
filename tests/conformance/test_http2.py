"""HTTP/2 from clients: what a request and its answer become on the way."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from evenflow.testing.behaviours import hang_up, respond
from tests.http2_peers import H2Client

if TYPE_CHECKING:
    from tests.conformance.conftest import Proxy

NO_ERROR = 0


def test_the_preface_may_come_in_pieces_and_is_told_from_a_request(proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.process.port), 10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in (b"P", b"RI", b" * HTTP/2.0\r\n", b"\r\nSM\r\n\r\n", b"\0\0\0\4\0\0\0\0\0"):
            connection.sendall(piece)
        assert connection.recv(9)[3] == 4, "the first frame is SETTINGS"
    with socket.create_connection(("127.0.0.1", proxy.process.port), 10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in (b"P", b"OST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"):
            connection.sendall(piece)
        assert connection.recv(12) == b"HTTP/1.1 200"


def test_trailers_go_both_ways_and_cookies_are_joined(proxy: Proxy) -> None:
    origin = proxy.origin
    origin.default = respond(200, b"body", framing="chunked", trailers=[("X-Sum", "7")])
    with H2Client(proxy.process.port) as client:
        crumbs = (("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers"))
        stream = client.send(client.head("POST", "/", *crumbs), b"half", end=False)
        client.h2.send_data(stream, b"other")
        client.h2.send_headers(stream, [("x-check", "9")], end_stream=True)
        client.flush()
        got = client.answer(stream)
    assert (got.status, got.body, got.trailers) == (200, b"body", {"x-sum": "7"})
    assert not {"transfer-encoding", "connection", "keep-alive"} & set(got.headers)
    (request,) = origin.requests
    assert bytes(request.body) == b"halfother"
    assert request.trailers == (("x-check", "9"),)
    assert request.header("cookie") == "a=1; b=2"
    assert request.header("te") is None


def test_answers_without_a_body_end_with_their_head(proxy: Proxy) -> None:
    origin = proxy.origin
    origin.on("/none", respond(204))
    origin.on("/same", respond(304, headers=[("ETag", '"x"')]))
    origin.on("/empty", respond(200, b""))
    origin.on("/head", respond(200, b"12345"))
    with H2Client(proxy.process.port) as client:
        for method, path, status in (
            ("GET", "/none", 204),
            ("GET", "/same", 304),
            ("GET", "/empty", 200),
            ("HEAD", "/head", 200),
        ):
            got = client.ask(method, path)
            assert (got.status, got.body, got.reset) == (status, b"", None), path
            if path == "/head":
                assert got.headers["content-length"] == "5"


def test_interim_answers_pass(proxy: Proxy) -> None:
    origin = proxy.origin
    origin.default = respond(200, b"ok", informational=[(103, [("Link", "</a.css>")])])
    with H2Client(proxy.process.port) as client:
        fields = client.head("POST", "/", ("expect", "100-continue"), ("content-length", "3"))
        stream = client.send(fields, None, end=False)
        client.until(lambda: client.answers[stream].interim == [100])
        client.data(stream, b"abc", end=True)
        got = client.answer(stream)
    assert (got.interim, got.status, got.body) == ([100, 103], 200, b"ok")


def test_an_answer_that_breaks_off_does_not_look_complete(proxy: Proxy) -> None:
    origin = proxy.origin
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot all of it"
    origin.on("/cut", hang_up(after_head=head))
    with H2Client(proxy.process.port) as client:
        got = client.ask("GET", "/cut")
        assert got.reset not in (None, NO_ERROR)
        assert not got.ended
        assert client.ask().status == 200
