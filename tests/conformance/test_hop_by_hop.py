"""Fields of one connection stay on it (RFC 9110, section 7.6.1), in both directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from evenflow.testing.behaviours import respond

if TYPE_CHECKING:
    from tests.conformance.conftest import Proxy

START = b"GET / HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize(
    "field",
    [
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Upgrade: h2c",
        "TE: gzip",
    ],
)
def test_fields_of_the_clients_connection_are_not_forwarded(proxy: Proxy, field: str) -> None:
    got = proxy.forwarded(START + field.encode() + b"\r\n\r\n")
    assert got.header(field.partition(":")[0]) is None


@pytest.mark.parametrize(
    "connection",
    ["X-Listed", "x-listed", "keep-alive, X-LISTED", "X-Listed,,close", " , X-Listed ,"],
)
def test_fields_listed_in_connection_are_not_forwarded(proxy: Proxy, connection: str) -> None:
    got = proxy.forwarded(
        START + f"Connection: {connection}\r\nX-Listed: 1\r\nX-Kept: 2\r\n\r\n".encode()
    )
    assert (got.header("x-listed"), got.header("x-kept")) == (None, "2")


def test_fields_listed_in_a_second_connection_field_are_not_forwarded(proxy: Proxy) -> None:
    got = proxy.forwarded(
        START + b"Connection: X-One\r\nX-One: 1\r\nConnection: X-Two\r\nX-Two: 2\r\n\r\n"
    )
    assert (got.header("x-one"), got.header("x-two")) == (None, None)


def test_a_client_cannot_have_host_framing_or_forwarding_fields_removed(proxy: Proxy) -> None:
    listed = "Host, Content-Length, X-Forwarded-For, X-Forwarded-Proto, X-Real-IP, X-Request-ID"
    got = proxy.forwarded(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: "
        + listed.encode()
        + b"\r\n\r\nabc"
    )
    assert got.header("host") == "a"
    assert bytes(got.body) == b"abc"
    assert got.header("x-forwarded-for") == "127.0.0.1"
    assert got.header("x-forwarded-proto") == "http"
    assert got.header("x-real-ip") == "127.0.0.1"
    assert got.header("x-request-id")


def test_an_upgrade_to_http_2_in_the_clear_does_not_reach_the_origin(proxy: Proxy) -> None:
    got = proxy.forwarded(
        START + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n"
    )
    assert got.header("upgrade") is None
    assert got.header("http2-settings") is None
    assert "upgrade" not in got.head.tokens("connection")


def test_the_clients_wish_to_close_is_not_the_origins(proxy: Proxy) -> None:
    with proxy.client() as client:
        client.send(START + b"Connection: close\r\n\r\n")
        client.expect(200, headers={"connection": "close"})
        client.expect_closed()
    (got,) = proxy.origin.requests
    assert "close" not in got.head.tokens("connection")


def test_end_to_end_fields_are_forwarded_in_order_and_as_sent(proxy: Proxy) -> None:
    sent = [
        ("Accept", "*/*"),
        ("X-Repeated", "1"),
        ("Cookie", "a=b; c=d"),
        ("X-Repeated", "2"),
        ("Authorization", "Basic eDp5"),
        ("X-Empty", ""),
        ("X-Bytes", "\xe4\xf6"),
        ("x-lower", "3"),
    ]
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent).encode("latin-1")
    got = proxy.forwarded(START + lines + b"\r\n")
    names = {name.lower() for name, _ in sent}
    kept = [(n.lower(), v) for n, v in got.head.fields if n.lower() in names]
    assert kept == [(name.lower(), value) for name, value in sent]


@pytest.mark.parametrize(
    "field",
    [
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Upgrade", "h2c"),
    ],
)
def test_fields_of_the_origins_connection_are_not_relayed(
    proxy: Proxy, field: tuple[str, str]
) -> None:
    proxy.origin.default = respond(headers=[field])
    assert proxy.request().header(field[0]) is None


def test_fields_listed_by_the_origin_are_not_relayed(proxy: Proxy) -> None:
    proxy.origin.default = respond(
        body=b"abc", headers=[("Connection", "X-Listed"), ("X-Listed", "1"), ("X-Kept", "2")]
    )
    answer = proxy.request()
    assert (answer.header("x-listed"), answer.header("x-kept")) == (None, "2")
    assert answer.body == b"abc"


def test_the_origins_wish_to_close_is_not_the_clients(proxy: Proxy) -> None:
    proxy.origin.default = respond(body=b"abc", then="close")
    with proxy.client() as client:
        for _ in range(2):
            client.send(START + b"\r\n")
            answer = client.expect(200, body=b"abc")
            assert "close" not in answer.head.tokens("connection")


def test_repeated_fields_of_a_response_are_relayed_in_order(proxy: Proxy) -> None:
    proxy.origin.default = respond(headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2, c")])
    assert proxy.request().head.all("set-cookie") == ["a=1", "b=2, c"]


def test_status_and_reason_of_the_origin_are_relayed(proxy: Proxy) -> None:
    proxy.origin.default = respond(418, b"short", reason="I am a teapot")
    answer = proxy.request()
    assert (answer.status, answer.line.reason, answer.body) == (418, "I am a teapot", b"short")
