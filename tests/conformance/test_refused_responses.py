"""Responses that break HTTP/1.1 become 502 and are never forwarded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from evenflow.testing import TranscriptError, wait_for
from evenflow.testing.behaviours import hang_up, raw
from evenflow.testing.wire import WireError, take_head

if TYPE_CHECKING:
    from evenflow.testing import Exchange
    from tests.conformance.conftest import Proxy

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"

BROKEN = {
    "no HTTP at all": b"SSH-2.0-OpenSSH_9.2\r\n",
    "nonsense": b"\0\1\2\3" * 100 + b"\r\n\r\n",
    "status of letters": b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "negative status": b"HTTP/1.1 -20 OK\r\nContent-Length: 0\r\n\r\n",
    "status 000": b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n",
    "status 099": b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    "no status": b"HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "lower-case protocol": b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "bare CR in the reason": b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n",
    "NUL in the reason": b"HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n",
    "bare LF line endings": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "different lengths": OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "list of different lengths": OK + b"Content-Length: 3, 4\r\n\r\nabc",
    "negative length": OK + b"Content-Length: -1\r\n\r\n",
    "length with a sign": OK + b"Content-Length: +3\r\n\r\nabc",
    "length of letters": OK + b"Content-Length: x\r\n\r\n",
    "length beyond 64 bits": OK + b"Content-Length: 18446744073709551619\r\n\r\nabc",
    "length and coding": (
        OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    ),
    "unknown coding": OK + b"Transfer-Encoding: gzip\r\n\r\nabc",
    "chunked not last": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "NUL in a value": OK + b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    "bare CR in a value": OK + b"X: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
    "bare LF in a value": OK + b"X: a\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
    "control character in a value": OK + b"X: a\x01b\r\nContent-Length: 0\r\n\r\n",
    "space in a name": OK + b"X Y: a\r\nContent-Length: 0\r\n\r\n",
    "no name": OK + b": a\r\nContent-Length: 0\r\n\r\n",
    "no colon": OK + b"X\r\nContent-Length: 0\r\n\r\n",
    "folded field": OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "space before the colon": OK + b"Content-Length : 0\r\n\r\n",
    "a head of 2 MiB": OK + b"X: " + b"a" * (2 << 20) + b"\r\n\r\n",
    "ten thousand fields": OK + b"X: a\r\n" * 10_000 + b"\r\n",
    "a switch nobody asked for": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "an end inside the head": OK + b"X: a\r\n",
    "an end inside the status line": b"HTTP/1.1 2",
    "an end after an interim response": b"HTTP/1.1 103 Early Hints\r\n\r\n",
}

BROKEN_CHUNKS = {
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "0x prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "size beyond 64 bits": b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "bare LF after the size": b"3\nabc\r\n0\r\n\r\n",
    "no line end after the data": b"3\r\nabc0\r\n\r\n",
    "an end before the last chunk": b"3\r\nabc\r\n",
    "an end inside a chunk": b"ff\r\nabc",
    "an end inside the trailers": b"3\r\nabc\r\n0\r\nX: a\r\n",
    "a malformed trailer": b"3\r\nabc\r\n0\r\nX : a\r\n\r\n",
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN.keys())
def test_a_malformed_head_becomes_502(proxy: Proxy, answer: bytes) -> None:
    proxy.origin.default = raw(answer)
    with proxy.client() as client:
        client.send(GET)
        got = client.expect(502)
        assert b"Set-Cookie" not in got.head.raw
        assert got.header("x") is None
        proxy.origin.forget()
        client.send(GET).expect(200, body=b"origin\n")


@pytest.mark.parametrize("then", ["close", "reset"])
def test_an_origin_that_ends_without_an_answer_is_502(proxy: Proxy, then: str) -> None:
    proxy.origin.default = hang_up(then=then)  # type: ignore[arg-type]
    assert proxy.request("POST", body=b"abc").status == 502


@pytest.mark.parametrize("chunks", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS.keys())
def test_a_malformed_chunked_body_never_looks_complete(proxy: Proxy, chunks: bytes) -> None:
    proxy.origin.default = raw(OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    with proxy.client() as client:
        client.send(GET)
        try:
            answer = client.read_response()
        except TranscriptError:
            return
        assert answer.status == 502


def test_a_body_shorter_than_announced_never_looks_complete(proxy: Proxy) -> None:
    proxy.origin.default = raw(OK + b"Content-Length: 10\r\n\r\nabc")
    with proxy.client() as client:
        client.send(GET)
        with pytest.raises(TranscriptError, match="too early"):
            client.read_response()


def test_a_body_cut_by_a_reset_never_looks_complete(proxy: Proxy) -> None:
    proxy.origin.default = hang_up(
        after_head=OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", then="reset"
    )
    with proxy.client() as client:
        client.send(GET)
        said = bytearray(client.read_to_end())
    assert not said.endswith(b"0\r\n\r\n")
    head = take_head(said)
    assert head is not None
    assert head.start.startswith((b"HTTP/1.1 200", b"HTTP/1.1 502"))


def test_bytes_after_a_response_are_not_the_next_one(proxy: Proxy) -> None:
    poison = OK + b"Content-Length: 6\r\nX-Poison: 1\r\n\r\npoison"
    proxy.origin.enqueue(raw(OK + b"Content-Length: 3\r\n\r\nabc" + poison, then="keep"))
    with proxy.client() as client:
        client.send(GET).expect(200, body=b"abc")
        for _ in range(3):
            client.send(GET).expect(200, body=b"origin\n")


def test_a_response_nobody_asked_for_is_not_the_next_one(proxy: Proxy) -> None:
    poison = OK + b"Content-Length: 6\r\n\r\npoison"
    poisoned: list[bool] = []

    async def answer_twice(exchange: Exchange) -> None:
        await exchange.send(OK + b"Content-Length: 3\r\n\r\nabc")
        proxy.origin.forget()
        await exchange.send(poison)
        poisoned.append(True)

    proxy.origin.enqueue(answer_twice)
    with proxy.client() as client:
        client.send(GET).expect(200, body=b"abc")
        # Once a request is on its way, nobody can tell such an answer from a true one.
        wait_for(lambda: poisoned, "the answer nobody asked for being sent")
        for _ in range(5):
            client.send(GET).expect(200, body=b"origin\n")


def test_a_body_after_an_answer_to_head_is_not_relayed(proxy: Proxy) -> None:
    proxy.origin.enqueue(raw(OK + b"Content-Length: 6\r\n\r\npoison", then="keep"))
    with proxy.client() as client:
        client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.expect(200, method="HEAD", headers={"content-length": "6"})
        client.send(GET).expect(200, body=b"origin\n")


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_a_body_after_a_status_that_has_none_is_not_relayed(proxy: Proxy, status: bytes) -> None:
    proxy.origin.enqueue(
        raw(b"HTTP/1.1 " + status + b"\r\nContent-Length: 6\r\n\r\npoison", then="keep")
    )
    with proxy.client() as client:
        client.send(GET).expect(int(status[:3]))
        client.send(GET).expect(200, body=b"origin\n")


def test_204_is_relayed_without_framing_fields(proxy: Proxy) -> None:
    for field in (b"Content-Length: 0", b"Transfer-Encoding: chunked"):
        proxy.origin.enqueue(raw(b"HTTP/1.1 204 No Content\r\n" + field + b"\r\n\r\n"))
        answer = proxy.request()
        if answer.status != 502:
            assert answer.status == 204
            assert answer.header("transfer-encoding") is None
            assert answer.header("content-length") is None


def test_the_strict_client_would_notice_an_injected_field() -> None:
    with pytest.raises(WireError):
        take_head(bytearray(OK + b"X: a\rSet-Cookie: b\r\n\r\n"))
