"""Request heads that break RFC 9112 are answered with 400 and a close, and go no further."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conformance.conftest import Proxy

BROKEN_LINES = {
    "bare LF line endings": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare LF after the request line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "bare LF after a field": b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "bare LF as the empty line": b"GET / HTTP/1.1\r\nHost: a\r\n\n",
    "bare CR as line ending": b"GET / HTTP/1.1\rHost: a\r\r\n\r\n",
    "bare CR in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    "bare CR in a name": b"GET / HTTP/1.1\r\nHost: a\r\nX\rY: a\r\n\r\n",
    "bare CR in the request line": b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n",
    "CR before CRLF": b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
    "folded field": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    "folded field with a tab": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n",
    "blank before the first field": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "folded framing field": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"
    ),
}

BROKEN_FIELDS = {
    "space before the colon": b"X : a",
    "tab before the colon": b"X\t: a",
    "space before the colon of the length": b"Content-Length : 0",
    "space inside the name": b"X Y: a",
    "no name": b": a",
    "no colon": b"X",
    "separator in the name": b"X(Y): a",
    "slash in the name": b"X/Y: a",
    "NUL in the name": b"X\0Y: a",
    "high byte in the name": b"X\xe4: a",
    "NUL in the value": b"X: a\0b",
    "control character in the value": b"X: a\x01b",
    "DEL in the value": b"X: a\x7fb",
    "vertical tab in the value": b"X: a\x0bb",
}

BROKEN_REQUEST_LINES = {
    "two spaces after the method": b"GET  / HTTP/1.1",
    "two spaces before the version": b"GET /  HTTP/1.1",
    "space at the end": b"GET / HTTP/1.1 ",
    "space at the start": b" GET / HTTP/1.1",
    "tabs between the parts": b"GET\t/\tHTTP/1.1",
    "space in the target": b"GET /a b HTTP/1.1",
    "no version": b"GET /",
    "no target": b"GET HTTP/1.1",
    "method only": b"GET",
    "NUL in the target": b"GET /\0 HTTP/1.1",
    "control character in the target": b"GET /\x01 HTTP/1.1",
    "DEL in the target": b"GET /\x7f HTTP/1.1",
    "raw high bytes in the target": b"GET /\xc3\xa4 HTTP/1.1",
    "fragment in the target": b"GET /a#b HTTP/1.1",
    "target without a slash": b"GET a HTTP/1.1",
    "query without a path": b"GET ?a HTTP/1.1",
    "asterisk without OPTIONS": b"GET * HTTP/1.1",
    "authority without CONNECT": b"GET a:80 HTTP/1.1",
    "absolute target of another scheme": b"GET ftp://a/ HTTP/1.1",
    "absolute target without a host": b"GET http:///x HTTP/1.1",
    "absolute target with a user": b"GET http://user@a/ HTTP/1.1",
    "absolute target with a bad port": b"GET http://a:b/ HTTP/1.1",
    "separator in the method": b"G(T / HTTP/1.1",
    "at sign in the method": b"G@T / HTTP/1.1",
    "high byte in the method": b"G\xc4T / HTTP/1.1",
    "lower-case protocol": b"GET / http/1.1",
    "other protocol": b"GET / ICY/1.1",
    "minor version of two digits": b"GET / HTTP/1.10",
    "major version of two digits": b"GET / HTTP/01.1",
    "version without a minor": b"GET / HTTP/1",
    "version with a comma": b"GET / HTTP/1,1",
    "version with a sign": b"GET / HTTP/+1.1",
}

OTHER_VERSIONS = {
    "HTTP/0.9": b"GET / HTTP/0.9\r\nHost: a\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "HTTP/3.0": b"GET / HTTP/3.0\r\nHost: a\r\n\r\n",
    "HTTP/9.9": b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
}

BROKEN_HOSTS = {
    "no Host": b"X: a",
    "two Hosts": b"Host: a\r\nHost: b",
    "the same Host twice": b"Host: a\r\nHost: a",
    "space in Host": b"Host: a b",
    "comma in Host": b"Host: a, b",
    "slash in Host": b"Host: a/b",
    "user in Host": b"Host: u@a",
    "query in Host": b"Host: a?b",
    "fragment in Host": b"Host: a#b",
    "backslash in Host": b"Host: a\\b",
    "quote in Host": b'Host: "a"',
    "letters as port": b"Host: a:b",
    "two ports": b"Host: a:1:2",
    "open bracket": b"Host: [::1",
    "brackets around a name": b"Host: [name]",
    "high byte in Host": b"Host: \xc3\xa4",
}


@pytest.mark.parametrize("data", BROKEN_LINES.values(), ids=BROKEN_LINES.keys())
def test_lines_that_do_not_end_with_crlf_alone_are_refused(proxy: Proxy, data: bytes) -> None:
    proxy.expect_refused(data)


@pytest.mark.parametrize("field", BROKEN_FIELDS.values(), ids=BROKEN_FIELDS.keys())
def test_malformed_fields_are_refused(proxy: Proxy, field: bytes) -> None:
    proxy.expect_refused(b"GET / HTTP/1.1\r\nHost: a\r\n" + field + b"\r\n\r\n")


@pytest.mark.parametrize("line", BROKEN_REQUEST_LINES.values(), ids=BROKEN_REQUEST_LINES.keys())
def test_malformed_request_lines_are_refused(proxy: Proxy, line: bytes) -> None:
    proxy.expect_refused(line + b"\r\nHost: a\r\n\r\n")


@pytest.mark.parametrize("data", OTHER_VERSIONS.values(), ids=OTHER_VERSIONS.keys())
def test_other_versions_are_refused(proxy: Proxy, data: bytes) -> None:
    proxy.expect_refused(data, 400, 505)


@pytest.mark.parametrize("fields", BROKEN_HOSTS.values(), ids=BROKEN_HOSTS.keys())
def test_hosts_that_are_missing_repeated_or_malformed_are_refused(
    proxy: Proxy, fields: bytes
) -> None:
    proxy.expect_refused(b"GET / HTTP/1.1\r\n" + fields + b"\r\n\r\n")


def test_a_tls_greeting_on_a_plain_port_is_refused(proxy: Proxy) -> None:
    proxy.expect_refused(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)))


def test_a_request_after_a_refused_one_is_not_served(proxy: Proxy) -> None:
    bad = b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n"
    proxy.expect_refused(bad + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")


def test_one_empty_line_before_a_request_is_ignored(proxy: Proxy) -> None:
    assert proxy.forwarded(b"\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n").target == "/x"


def test_endless_empty_lines_are_refused(proxy: Proxy) -> None:
    with proxy.client() as client:
        client.send_quietly(b"\r\n" * 100_000)
        client.expect(400, 431)
        client.expect_closed()


@pytest.mark.parametrize("line", [b"CONNECT a:443 HTTP/1.1", b"CONNECT / HTTP/1.1"])
def test_connect_is_refused(proxy: Proxy, line: bytes) -> None:
    proxy.expect_refused(line + b"\r\nHost: a:443\r\n\r\n", 400, 405, 501)


def test_a_head_in_pieces_of_one_byte_is_read_like_a_whole_one(proxy: Proxy) -> None:
    data = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
    with proxy.client() as client:
        client.send(*(data[i : i + 1] for i in range(len(data))))
        client.expect(200)


def test_a_malformed_head_is_refused_before_it_is_complete(proxy: Proxy) -> None:
    with proxy.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX Y: nothing ends this line")
        client.half_close()
        assert client.read_to_end()[:12] in (b"HTTP/1.1 400", b"")
    proxy.expect_nothing_complete()
