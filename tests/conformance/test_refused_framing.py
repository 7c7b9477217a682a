"""Requests whose body could be measured in two ways are refused: no request hides in another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from evenflow.testing.wire import WireError

if TYPE_CHECKING:
    from tests.conformance.conftest import Proxy

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"

LENGTHS = {
    "repeated": b"Content-Length: 3\r\nContent-Length: 3",
    "repeated and different": b"Content-Length: 3\r\nContent-Length: 0",
    "list of equal numbers": b"Content-Length: 3, 3",
    "list of different numbers": b"Content-Length: 3, 0",
    "negative": b"Content-Length: -3",
    "with a plus sign": b"Content-Length: +3",
    "hexadecimal": b"Content-Length: 0x3",
    "with an exponent": b"Content-Length: 3e0",
    "decimal fraction": b"Content-Length: 3.0",
    "two numbers": b"Content-Length: 3 3",
    "with an underscore": b"Content-Length: 1_0",
    "letters": b"Content-Length: three",
    "empty": b"Content-Length:",
    "quoted": b'Content-Length: "3"',
    "beyond 64 bits": b"Content-Length: 18446744073709551619",
    "of a hundred digits": b"Content-Length: " + b"9" * 100,
    "Arabic digits": "Content-Length: \u0663".encode(),
}

CODINGS = {
    "with a length": b"Content-Length: 3\r\nTransfer-Encoding: chunked",
    "before a length": b"Transfer-Encoding: chunked\r\nContent-Length: 3",
    "identity with a length": b"Transfer-Encoding: identity\r\nContent-Length: 3",
    "not last": b"Transfer-Encoding: chunked, gzip",
    "twice in a list": b"Transfer-Encoding: chunked, chunked",
    "twice in two fields": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "and identity in another field": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "and nonsense in another field": b"Transfer-Encoding: chunked\r\nTransfer-encoding: cow",
    "identity": b"Transfer-Encoding: identity",
    "unknown": b"Transfer-Encoding: xchunked",
    "gzip alone": b"Transfer-Encoding: gzip",
    "gzip before": b"Transfer-Encoding: gzip, chunked",
    "quoted": b'Transfer-Encoding: "chunked"',
    "with a parameter": b"Transfer-Encoding: chunked;q=1",
    "with a vertical tab": b"Transfer-Encoding: \x0bchunked",
    "with a NUL": b"Transfer-Encoding: chunked\0",
    "empty": b"Transfer-Encoding:",
    "empty element": b"Transfer-Encoding: ,chunked",
    "two words": b"Transfer-Encoding: chunked chunked",
}

CHUNKS = {
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "0x prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "plus sign": b"+3\r\nabc\r\n0\r\n\r\n",
    "minus sign": b"-3\r\nabc\r\n0\r\n\r\n",
    "leading space": b" 3\r\nabc\r\n0\r\n\r\n",
    "trailing space": b"3 \r\nabc\r\n0\r\n\r\n",
    "underscore": b"0_3\r\nabc\r\n0\r\n\r\n",
    "no hexadecimal digit": b"g\r\nabc\r\n0\r\n\r\n",
    "size of 17 digits": b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    "size beyond 64 bits": b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "size of a thousand zeros": b"0" * 1000 + b"3\r\nabc\r\n0\r\n\r\n",
    "bare LF after the size": b"3\nabc\r\n0\r\n\r\n",
    "bare CR after the size": b"3\rabc\r\n0\r\n\r\n",
    "bare LF after the data": b"3\r\nabc\n0\r\n\r\n",
    "no line end after the data": b"3\r\nabc0\r\n\r\n",
    "longer than its size": b"3\r\nabcd\r\n0\r\n\r\n",
    "bare LF in an extension": b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "bare CR in an extension": b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    "NUL in an extension": b"3;a\0b\r\nabc\r\n0\r\n\r\n",
    "an extension of 64 KiB": b"3;" + b"a" * 65_536 + b"\r\nabc\r\n0\r\n\r\n",
    "bare LF at the end": b"3\r\nabc\r\n0\n\n",
    "bare LF after the last chunk": b"3\r\nabc\r\n0\r\n\n",
    "no colon in a trailer": b"3\r\nabc\r\n0\r\nX\r\n\r\n",
    "space before a trailer's colon": b"3\r\nabc\r\n0\r\nX : a\r\n\r\n",
    "bare LF after a trailer": b"3\r\nabc\r\n0\r\nX: a\n\r\n",
    "folded trailer": b"3\r\nabc\r\n0\r\nX: a\r\n b\r\n\r\n",
    "NUL in a trailer": b"3\r\nabc\r\n0\r\nX: a\0\r\n\r\n",
    "trailers of 256 KiB": b"3\r\nabc\r\n0\r\nX: " + b"a" * 262_144 + b"\r\n\r\n",
}


@pytest.mark.parametrize("field", LENGTHS.values(), ids=LENGTHS.keys())
def test_a_content_length_that_is_not_one_number_is_refused(proxy: Proxy, field: bytes) -> None:
    proxy.expect_refused(POST + field + b"\r\n\r\nabc" + SMUGGLED)


@pytest.mark.parametrize("field", CODINGS.values(), ids=CODINGS.keys())
def test_a_transfer_encoding_other_than_chunked_alone_is_refused(
    proxy: Proxy, field: bytes
) -> None:
    proxy.expect_refused(POST + field + b"\r\n\r\n0\r\n\r\n" + SMUGGLED, 400, 501)


def test_a_transfer_encoding_of_an_http_1_0_client_is_refused(proxy: Proxy) -> None:
    head = b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    proxy.expect_refused(head + b"0\r\n\r\n" + SMUGGLED)


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS.keys())
def test_malformed_chunks_are_refused_and_never_complete_at_the_origin(
    proxy: Proxy, chunks: bytes
) -> None:
    with proxy.client() as client:
        client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        client.send_quietly(chunks + SMUGGLED)
        client.expect(400, 431)
        client.expect_closed()
    proxy.expect_nothing_complete()


def test_the_name_of_the_coding_may_be_in_any_case(proxy: Proxy) -> None:
    got = proxy.forwarded(POST + b"Transfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    assert bytes(got.body) == b"abc"


def test_chunk_extensions_are_accepted_and_not_forwarded(proxy: Proxy) -> None:
    body = b'3;name=value;other="quoted"\r\nabc\r\n0;last\r\n\r\n'
    got = proxy.forwarded(POST + b"Transfer-Encoding: chunked\r\n\r\n" + body)
    assert bytes(got.body) == b"abc"


def test_chunk_sizes_with_leading_zeros_and_any_case_are_read(proxy: Proxy) -> None:
    body = b"00A\r\n0123456789\r\n0b\r\n0123456789x\r\n000\r\n\r\n"
    got = proxy.forwarded(POST + b"Transfer-Encoding: chunked\r\n\r\n" + body)
    assert bytes(got.body) == b"01234567890123456789x"


@pytest.mark.parametrize("name", ["Content-Length", "Transfer-Encoding", "Host", "Authorization"])
def test_fields_that_no_trailer_may_have_are_not_forwarded(proxy: Proxy, name: str) -> None:
    body = f"3\r\nabc\r\n0\r\n{name}: 7\r\nX-Fine: 1\r\n\r\n".encode()
    with proxy.client() as client:
        client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + body)
        client.expect(200, 400)
    for request in proxy.origin.requests:
        assert name.lower() not in {field.lower() for field, _ in request.trailers}


def test_a_body_cut_short_never_completes_at_the_origin(proxy: Proxy) -> None:
    with proxy.client() as client:
        client.send(POST + b"Content-Length: 10\r\n\r\nabc").half_close()
        assert client.read_to_end()[:12] in (b"HTTP/1.1 400", b"")
    proxy.expect_nothing_complete()


def test_a_chunked_body_cut_short_never_completes_at_the_origin(proxy: Proxy) -> None:
    with proxy.client() as client:
        client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").half_close()
        assert client.read_to_end()[:12] in (b"HTTP/1.1 400", b"")
    proxy.expect_nothing_complete()


def test_bytes_after_a_body_are_the_next_request_and_not_part_of_the_body(proxy: Proxy) -> None:
    with proxy.client() as client:
        client.send(POST + b"Content-Length: 3\r\n\r\nabc" + SMUGGLED)
        client.expect(200)
        client.expect(200)
    first, second = proxy.origin.requests
    assert bytes(first.body) == b"abc"
    assert second.target == "/smuggled"


def test_a_get_with_a_body_is_forwarded_with_it(proxy: Proxy) -> None:
    got = proxy.forwarded(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
    assert bytes(got.body) == b"abc"


def test_the_referee_itself_refuses_ambiguous_framing() -> None:
    from evenflow.testing.wire import parse_head, request_body

    head = parse_head(POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n")
    with pytest.raises(WireError):
        request_body(head, "HTTP/1.1")
