"""Requests beyond the configured sizes get the status that says which bound they broke."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conformance.conftest import Proxy

POST = b"POST / HTTP/1.1\r\nHost: a\r\n"


def test_a_large_field_is_431(proxy: Proxy) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 40_000 + b"\r\n\r\n"
    proxy.expect_refused(head, 431)


def test_many_small_fields_are_431(proxy: Proxy) -> None:
    fields = b"".join(b"X-%d: a\r\n" % n for n in range(150))
    proxy.expect_refused(b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n", 431)


def test_a_head_that_never_ends_is_431(proxy: Proxy) -> None:
    with proxy.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        for _ in range(64):
            if not client.send_quietly(b"X: " + b"a" * 1000 + b"\r\n"):
                break
        client.expect(431)
        client.expect_closed()
    proxy.expect_untouched()


def test_a_head_just_below_the_bound_is_served(proxy: Proxy) -> None:
    value = b"a" * 30_000
    got = proxy.forwarded(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + value + b"\r\n\r\n")
    assert got.header("x") == value.decode()


def test_as_many_fields_as_allowed_are_served(proxy: Proxy) -> None:
    fields = b"".join(b"X-%d: a\r\n" % n for n in range(99))
    proxy.forwarded(b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n")


def test_a_long_target_is_414(proxy: Proxy) -> None:
    proxy.expect_refused(b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414)


def test_a_target_that_never_ends_is_414(proxy: Proxy) -> None:
    with proxy.client() as client:
        client.send_quietly(b"GET /" + b"a" * 40_000)
        client.expect(414)
        client.expect_closed()


def test_a_target_just_below_the_bound_is_served(proxy: Proxy) -> None:
    target = b"/" + b"a" * 8_000
    got = proxy.forwarded(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert got.target == target.decode()


def test_an_announced_body_that_is_too_large_is_413_at_once(proxy: Proxy) -> None:
    proxy.expect_refused(POST + b"Content-Length: %d\r\n\r\n" % (proxy.max_body + 1), 413)


def test_an_expected_body_that_is_too_large_is_413_without_a_100(proxy: Proxy) -> None:
    head = POST + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % (proxy.max_body + 1)
    assert proxy.expect_refused(head, 413).interim == ()


def test_a_413_arrives_while_the_client_still_sends(proxy: Proxy) -> None:
    with proxy.client() as client:
        client.send(POST + b"Content-Length: %d\r\n\r\n" % (8 * proxy.max_body))
        for _ in range(128):
            if not client.send_quietly(b"a" * 65_536):
                break
        client.expect(413)
    proxy.expect_nothing_complete()


def test_a_chunked_body_that_grows_too_large_is_413(proxy: Proxy) -> None:
    piece = b"10000\r\n" + b"a" * 65_536 + b"\r\n"
    with proxy.client() as client:
        client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(2 * proxy.max_body // 65_536):
            if not client.send_quietly(piece):
                break
        client.expect(413)
        client.expect_closed()
    proxy.expect_nothing_complete()


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_of_exactly_the_bound_is_served(proxy: Proxy, chunked: bool) -> None:
    body = b"a" * proxy.max_body
    if chunked:
        data = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        data = b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    assert proxy.forwarded(POST + data).body_length == proxy.max_body
