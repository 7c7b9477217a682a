"""1xx responses, `Expect: 100-continue`, and origins that answer before the body is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from evenflow.testing import Gate, wait_for
from evenflow.testing.behaviours import early, respond

if TYPE_CHECKING:
    from evenflow.testing import Exchange
    from tests.conformance.conftest import Proxy

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
EXPECT = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"


def test_interim_responses_are_relayed_in_order(proxy: Proxy) -> None:
    proxy.origin.default = respond(
        body=b"abc",
        informational=[(103, [("Link", "</a>")]), (102, []), (103, [("Link", "</b>")])],
    )
    with proxy.client() as client:
        client.send(GET)
        answer = client.expect(200, body=b"abc")
    assert [line.status for line, _ in answer.interim] == [103, 102, 103]
    assert [head.get("link") for _, head in answer.interim] == ["</a>", None, "</b>"]


def test_an_interim_response_arrives_before_the_final_one_is_sent(proxy: Proxy) -> None:
    gate = Gate()
    proxy.origin.default = respond(informational=[(103, [("Link", "</a>")])], before=gate)
    with proxy.client() as client:
        client.send(GET)
        assert client.expect_interim(103).get("link") == "</a>"
        gate.open()
        client.expect(200)


def test_interim_responses_are_kept_from_http_1_0_clients(proxy: Proxy) -> None:
    proxy.origin.default = respond(body=b"abc", informational=[(103, [])])
    with proxy.client() as client:
        client.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        assert client.expect(200, body=b"abc").interim == ()


def test_endless_interim_responses_end_in_502(proxy: Proxy) -> None:
    async def behave(exchange: Exchange) -> None:
        for _ in range(20_000):
            await exchange.send_head(103, [("Link", "</a>")])

    proxy.origin.default = behave
    with proxy.client() as client:
        client.send(GET)
        client.expect(502)


def test_the_origins_go_ahead_reaches_the_client_that_waits_for_it(proxy: Proxy) -> None:
    with proxy.client() as client:
        client.send(EXPECT)
        client.expect_interim(100)
        client.send(b"abc").expect(200, body=b"origin\n")
    (got,) = proxy.origin.requests
    assert (got.header("expect"), bytes(got.body)) == ("100-continue", b"abc")


def test_the_origins_refusal_reaches_the_client_that_waits(proxy: Proxy) -> None:
    proxy.origin.default = early(417, b"no", drain=False, then="close")
    with proxy.client() as client:
        client.send(EXPECT)
        assert client.expect(417, body=b"no").interim == ()


def test_a_client_that_waits_for_nothing_may_send_its_body_at_once(proxy: Proxy) -> None:
    with proxy.client() as client:
        client.send(EXPECT + b"abc" + GET)
        client.expect(200)
        client.expect(200)
    assert bytes(proxy.origin.requests[0].body) == b"abc"


def test_no_go_ahead_is_made_up_for_a_silent_origin(proxy: Proxy) -> None:
    gate = Gate()

    async def behave(exchange: Exchange) -> None:
        await gate.passed()
        await exchange.send_head(403, [("Content-Length", "0"), ("Connection", "close")])
        exchange.close()

    proxy.origin.default = behave
    with proxy.client() as client:
        client.send(EXPECT)
        wait_for(lambda: gate.arrivals, "the request at the origin")
        client.expect_open()
        gate.open()
        assert client.expect(403).interim == ()


@pytest.mark.parametrize("framing", [b"Content-Length: 900000", b"Transfer-Encoding: chunked"])
def test_an_answer_before_the_body_is_relayed_at_once(proxy: Proxy, framing: bytes) -> None:
    proxy.origin.default = early(403, b"no", drain=False, then="close")
    with proxy.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
        client.expect(403, body=b"no")


def test_an_early_answer_survives_a_client_that_goes_on_sending(proxy: Proxy) -> None:
    proxy.origin.default = early(403, b"no", drain=False, then="close")
    with proxy.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        for _ in range(15):
            if not client.send_quietly(b"a" * 65_536):
                break
        client.expect(403, body=b"no")


def test_after_an_early_answer_the_rest_of_the_body_is_no_request(proxy: Proxy) -> None:
    proxy.origin.enqueue(early(403, b"no"))
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    with proxy.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(smuggled))
        answer = client.expect(403, body=b"no")
        client.send_quietly(smuggled)
        if "close" not in answer.head.tokens("connection"):
            client.send(GET).expect(200)
    assert "/smuggled" not in [request.target for request in proxy.origin.requests]
