"""What becomes of the request target and of Host on the way to the origin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conformance.conftest import Proxy


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "//",
        "//other.test/x",
        "/a/../b",
        "/a/./b",
        "/%2e%2e/b",
        "/a%2Fb",
        "/a%00b",
        "/%C3%A4",
        "/a;b=c,d:e@f!$&'()*+~-._",
        "/?",
        "/?a=b&c=%20+d?e/f",
        "/a?http://b/c",
    ],
)
def test_a_target_is_forwarded_byte_for_byte(proxy: Proxy, target: str) -> None:
    got = proxy.forwarded(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert got.target == target


@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH", "PROPFIND", "get", "X-Y!"])
def test_any_method_that_is_a_token_is_forwarded(proxy: Proxy, method: str) -> None:
    got = proxy.forwarded(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert got.method == method


@pytest.mark.parametrize(
    "host",
    ["a", "a.test", "A.Test:80", "127.0.0.1:8080", "[::1]", "[::1]:8080", "a_b", "xn--4ca.test"],
)
def test_host_is_forwarded_as_sent(proxy: Proxy, host: str) -> None:
    got = proxy.forwarded(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert got.head.all("host") == [host]


@pytest.mark.parametrize(
    ("target", "host", "path"),
    [
        ("http://b.test/x?y", "b.test", "/x?y"),
        ("http://b.test:8080/x", "b.test:8080", "/x"),
        ("HTTP://b.test/x", "b.test", "/x"),
        ("http://[::1]:8080/", "[::1]:8080", "/"),
        ("http://b.test", "b.test", "/"),
        ("http://b.test?y", "b.test", "/?y"),
    ],
)
def test_an_absolute_target_wins_over_host(proxy: Proxy, target: str, host: str, path: str) -> None:
    got = proxy.forwarded(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert (got.head.all("host"), got.target) == ([host], path)


def test_options_for_the_whole_server_is_forwarded(proxy: Proxy) -> None:
    assert proxy.forwarded(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").target == "*"


def test_options_with_an_absolute_target_without_a_path_is_for_the_whole_server(
    proxy: Proxy,
) -> None:
    got = proxy.forwarded(b"OPTIONS http://b.test HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (got.head.all("host"), got.target) == (["b.test"], "*")


def test_trace_is_refused_where_it_is_not_allowed(proxy: Proxy) -> None:
    answer = proxy.request("TRACE", "/", headers=[("Cookie", "secret=1")])
    assert answer.status == 405
    assert answer.header("allow") == "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
    assert b"secret" not in answer.body
    proxy.expect_untouched()


def test_options_whose_last_hop_this_is_are_answered_here(proxy: Proxy) -> None:
    answer = proxy.request("OPTIONS", "/x", headers=[("Max-Forwards", "0")])
    assert answer.status == 204
    assert answer.header("allow") == "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
    proxy.expect_untouched()


@pytest.mark.parametrize(("sent", "passed_on"), [("1", "0"), ("10", "9"), ("100", "99")])
def test_max_forwards_of_options_is_lowered(proxy: Proxy, sent: str, passed_on: str) -> None:
    got = proxy.forwarded(f"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: {sent}\r\n\r\n".encode())
    assert got.head.all("max-forwards") == [passed_on]


def test_max_forwards_means_nothing_for_other_methods(proxy: Proxy) -> None:
    got = proxy.forwarded(b"GET / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n")
    assert got.head.all("max-forwards") == ["0"]


@pytest.mark.parametrize("sent", ["-1", "x", "", "1, 2"])
def test_max_forwards_that_is_no_number_is_refused(proxy: Proxy, sent: str) -> None:
    proxy.expect_refused(f"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: {sent}\r\n\r\n".encode())


def test_a_request_without_host_by_http_1_0_reaches_the_origin_with_one(proxy: Proxy) -> None:
    with proxy.client() as client:
        client.send(b"GET /old HTTP/1.0\r\n\r\n").expect(200)
    (got,) = proxy.origin.requests
    assert got.line.version == "HTTP/1.1"
    assert len(got.head.all("host")) == 1
