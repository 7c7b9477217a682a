"""The referee's own rules: what it reads, and what it refuses to read."""

from __future__ import annotations

import pytest

from evenflow.testing import WireError
from evenflow.testing.wire import (
    BodyDecoder,
    ChunkedBody,
    encode_chunks,
    parse_head,
    parse_request_line,
    parse_status_line,
    request_body,
    response_body,
    take_head,
)


def feed(decoder: BodyDecoder, data: bytes, step: int) -> tuple[bytes, bytes]:
    """Feed bytes in steps; return the body and what is left."""
    buffer, body = bytearray(), b""
    for start in range(0, len(data), step):
        buffer += data[start : start + step]
        body += decoder.feed(buffer)
    return body, bytes(buffer)


def test_a_head_is_taken_once_it_is_whole() -> None:
    buffer = bytearray(b"GET / HTTP/1.1\r\nHost: a\r\nX:  b \r\n\r")
    assert take_head(buffer) is None
    buffer += b"\nrest"
    head = take_head(buffer)
    assert head is not None
    assert head.fields == (("Host", "a"), ("X", "b"))
    assert bytes(buffer) == b"rest"
    assert parse_request_line(head).target == "/"


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\nX: a\nY: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\rb\r\n\r\n",
        b"GET / HTTP/1.1\r\nX : a\r\n\r\n",
        b"GET / HTTP/1.1\r\n X: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\0\r\n\r\n",
        b"GET / HTTP/1.1\r\nX\r\n\r\n",
    ],
)
def test_malformed_heads_are_refused(raw: bytes) -> None:
    with pytest.raises(WireError):
        parse_head(raw)


@pytest.mark.parametrize("start", [b"GET  / HTTP/1.1", b"GET / HTTP/2.0", b"GET /", b""])
def test_malformed_request_lines_are_refused(start: bytes) -> None:
    with pytest.raises(WireError):
        parse_request_line(parse_head(start + b"\r\n\r\n"))


@pytest.mark.parametrize("start", [b"HTTP/1.1 20 OK", b"HTTP/2 200 OK", b"HTTP/1.1 200", b"x"])
def test_malformed_status_lines_are_refused(start: bytes) -> None:
    with pytest.raises(WireError):
        parse_status_line(parse_head(start + b"\r\n\r\n"))


@pytest.mark.parametrize("step", [1, 2, 5, 1000])
def test_chunks_are_read_in_any_pieces(step: int) -> None:
    data = encode_chunks([b"hello", b" ", b"world"], (("X-Sum", "11"),)) + b"next"
    decoder = ChunkedBody()
    body, rest = feed(decoder, data, step)
    assert (body, rest, decoder.finished) == (b"hello world", b"next", True)
    assert decoder.trailers == (("X-Sum", "11"),)


@pytest.mark.parametrize(
    "data", [b"3\nabc", b"x\r\n", b"3\r\nabcd\r\n", b"-1\r\n", b"3\r\nabc\n", b"0\r\nX : a\r\n\r\n"]
)
def test_malformed_chunks_are_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        feed(ChunkedBody(), data, 1000)


@pytest.mark.parametrize(
    ("fields", "framing"),
    [
        (b"Content-Length: 3\r\n", "length"),
        (b"Transfer-Encoding: chunked\r\n", "chunked"),
        (b"", "close"),
    ],
)
def test_a_response_is_framed_by_its_fields(fields: bytes, framing: str) -> None:
    head = parse_head(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n")
    assert response_body(head, 200, "GET").framing == framing
    assert response_body(head, 200, "HEAD").framing == "none"
    assert response_body(head, 304, "GET").framing == "none"


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 3\r\nContent-Length: 3\r\n",
        b"Content-Length: 3, 3\r\n",
        b"Content-Length: +3\r\n",
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
    ],
)
def test_ambiguous_framing_is_refused_both_ways(fields: bytes) -> None:
    with pytest.raises(WireError):
        response_body(parse_head(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n"), 200, "GET")
    with pytest.raises(WireError):
        request_body(parse_head(b"POST / HTTP/1.1\r\n" + fields + b"\r\n"), "HTTP/1.1")


def test_an_end_inside_a_body_is_refused() -> None:
    head = parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n")
    decoder = response_body(head, 200, "GET")
    decoder.feed(bytearray(b"ab"))
    with pytest.raises(WireError, match="1 of 3 bytes too early"):
        decoder.feed_eof()
