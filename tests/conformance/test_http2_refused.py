"""What no client of HTTP/2 may say is refused, reaches no origin, and floods cost the client."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import pytest
from h2.errors import ErrorCodes

from evenflow.testing import Gate, document
from evenflow.testing.behaviours import silent
from tests.http2_peers import H2Client, RawClient, frame, literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conformance.conftest import Proxy
    from tests.conftest import StartEvenflow, StartOrigins

DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS = 1, 4
MAX_CONCURRENT_STREAMS = 3

Block = list[tuple[bytes, bytes]]
USUAL: Block = [
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":authority", b"site.test"),
    (b":path", b"/"),
]


def but(**changes: bytes | None) -> Block:
    """The usual pseudo-header fields with some of them changed, or without them."""
    fields = [(name, changes.get(name[1:].decode(), value)) for name, value in USUAL]
    return [(name, value) for name, value in fields if value is not None]


@pytest.fixture
def client(proxy: Proxy) -> Iterator[RawClient]:
    with RawClient(proxy.process.port) as client:
        yield client


REFUSED: dict[str, Block] = {
    "no method": but(method=None),
    "no scheme": but(scheme=None),
    "no path": but(path=None),
    "an empty path": but(path=b""),
    "a relative path": but(path=b"there"),
    "an absolute path of another host": but(path=b"http://other.test/"),
    "a space in the path": but(path=b"/ HTTP/1.1\x20x"),
    "a line's end in the path": but(path=b"/\r\nx: y"),
    "a space in the method": but(method=b"GET /other HTTP/1.1"),
    "a line's end in the method": but(method=b"GET\r\nx: y"),
    "a line's end in the host": but(authority=b"site.test\r\nx: y"),
    "user information": but(authority=b"user@site.test"),
    "a method twice": [*USUAL, (b":method", b"GET")],
    "a path twice": [*USUAL, (b":path", b"/other")],
    "an unknown pseudo-header field": [*USUAL, (b":other", b"x")],
    "a status": [*USUAL, (b":status", b"200")],
    "a pseudo-header field after others": [*USUAL[:3], (b"x", b"y"), USUAL[3]],
    "another host": [*USUAL, (b"host", b"other.test")],
    "two hosts": [*but(authority=None), (b"host", b"a.test"), (b"host", b"b.test")],
    "no host": but(authority=None),
    "a name in upper case": [*USUAL, (b"X-Name", b"y")],
    "a colon in a name": [*USUAL, (b"x:y", b"z")],
    "a space in a name": [*USUAL, (b"x y", b"z")],
    "a line's end in a name": [*USUAL, (b"x\r\ny", b"z")],
    "an empty name": [*USUAL, (b"", b"z")],
    "CR and LF in a value": [*USUAL, (b"x", b"y\r\nz: 1")],
    "LF in a value": [*USUAL, (b"x", b"y\nz: 1")],
    "CR in a value": [*USUAL, (b"x", b"y\rz")],
    "NUL in a value": [*USUAL, (b"x", b"y\0")],
    "Connection": [*USUAL, (b"connection", b"close")],
    "Keep-Alive": [*USUAL, (b"keep-alive", b"timeout=5")],
    "Proxy-Connection": [*USUAL, (b"proxy-connection", b"keep-alive")],
    "Upgrade": [*USUAL, (b"upgrade", b"websocket")],
    "Transfer-Encoding": [*USUAL, (b"transfer-encoding", b"chunked")],
    "TE other than trailers": [*USUAL, (b"te", b"gzip")],
    "two lengths": [*USUAL, (b"content-length", b"0"), (b"content-length", b"5")],
    "a length that is none": [*USUAL, (b"content-length", b"5x")],
    "a signed length": [*USUAL, (b"content-length", b"+0")],
    "a length and no body": [*USUAL, (b"content-length", b"5")],
    "CONNECT": [(b":method", b"CONNECT"), (b":authority", b"site.test:443")],
    "extended CONNECT": [*but(method=b"CONNECT"), (b":protocol", b"websocket")],
    "an unknown expectation": [*USUAL, (b"expect", b"magic")],
}


@pytest.mark.parametrize("fields", REFUSED.values(), ids=REFUSED.keys())
def test_a_malformed_request_reaches_nobody(client: RawClient, proxy: Proxy, fields: Block) -> None:
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, literal(fields)))
    got = client.outcome()
    assert got in (400, 405, 417, 501, "PROTOCOL_ERROR", "COMPRESSION_ERROR"), got
    proxy.expect_untouched()


LENGTHS = {"less than said": (b"5", b"abc"), "more than said": (b"2", b"abc")}


@pytest.mark.parametrize(("said", "body"), LENGTHS.values(), ids=LENGTHS.keys())
def test_a_body_of_another_length_reaches_nobody_whole(
    client: RawClient, proxy: Proxy, said: bytes, body: bytes
) -> None:
    fields = [*but(method=b"POST"), (b"content-length", said)]
    client.send(frame(HEADERS, END_HEADERS, 1, literal(fields)) + frame(DATA, END_STREAM, 1, body))
    got = client.outcome()
    assert got in (400, "PROTOCOL_ERROR"), got
    proxy.expect_nothing_complete()


TRAILERS: dict[str, Block] = {
    "a line's end": [(b"x", b"y\r\n\r\nGET /other HTTP/1.1")],
    "Connection": [(b"connection", b"close")],
    "a pseudo-header field": [(b":path", b"/other"), (b"x", b"y")],
}


@pytest.mark.parametrize("fields", TRAILERS.values(), ids=TRAILERS.keys())
def test_malformed_trailers_end_the_stream(client: RawClient, proxy: Proxy, fields: Block) -> None:
    client.send(
        frame(HEADERS, END_HEADERS, 1, literal(but(method=b"POST")))
        + frame(DATA, 0, 1, b"abc")
        + frame(HEADERS, END_STREAM | END_HEADERS, 1, literal(fields))
    )
    got = client.outcome()
    assert got in (400, 502, "PROTOCOL_ERROR", "COMPRESSION_ERROR"), got
    proxy.expect_nothing_complete()


def test_a_smuggled_request_stays_in_the_body(proxy: Proxy) -> None:
    """What looks like framing of HTTP/1.1 is data like any other."""
    smuggled = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    with H2Client(proxy.process.port) as client:
        got = client.answer(client.send(client.head("POST", "/"), smuggled))
        assert got.status == 200
        known = client.head("POST", "/", ("content-length", str(len(smuggled))))
        assert client.answer(client.send(known, smuggled)).status == 200
    requests = proxy.origin.requests
    assert [bytes(request.body) for request in requests] == [smuggled, smuggled]


CALM = "ENHANCE_YOUR_CALM"
LIMITS: dict[str, tuple[Block, tuple[int | str, ...]]] = {
    "a long target": (but(path=b"/" + b"x" * 9000), (414,)),
    "a large head": ([*USUAL, *[(b"x-%d" % at, b"y" * 1000) for at in range(34)]], (431,)),
    "a head far too large": (
        [*USUAL, *[(b"x-%d" % at, b"y" * 4000) for at in range(60)]],
        (431, CALM),
    ),
    "many fields": ([*USUAL, *[(b"x-%d" % at, b"y") for at in range(150)]], (431,)),
}


@pytest.mark.parametrize(("fields", "expected"), LIMITS.values(), ids=LIMITS.keys())
def test_the_limits_of_the_listener_hold(
    client: RawClient, proxy: Proxy, fields: Block, expected: tuple[int | str, ...]
) -> None:
    block = literal(fields)
    pieces = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
    last = len(pieces) - 1
    client.send(
        b"".join(
            frame(
                CONTINUATION if at else HEADERS,
                (END_HEADERS if at == last else 0) | (0 if at else END_STREAM),
                1,
                piece,
            )
            for at, piece in enumerate(pieces)
        )
    )
    assert client.outcome() in expected
    proxy.expect_untouched()


def test_a_compressed_head_that_grows_without_bound_is_refused(
    client: RawClient, proxy: Proxy
) -> None:
    # One large field is remembered, and named again by one byte each (CVE-2016-6581).
    value = b"y" * 3000
    name = b"\x40" + bytes((1,)) + b"x" + b"\x7f" + _integer(len(value) - 127) + value
    block = literal(USUAL) + name + b"\xbe" * 10_000
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, block))
    assert client.outcome() in (431, CALM)
    proxy.expect_untouched()


def _integer(number: int) -> bytes:
    out = bytearray()
    while number >= 128:
        out.append(number % 128 + 128)
        number //= 128
    return bytes((*out, number))


@pytest.mark.parametrize("patient", [False, True])
def test_resets_in_haste_cost_the_connection(
    evenflow: StartEvenflow, origins: StartOrigins, patient: bool
) -> None:
    """CVE-2023-44487: requests are made and given up at once."""
    gate = Gate()
    (origin,) = origins("a")
    origin.on("/", silent(gate))
    balancer = evenflow(document(origin.url))
    block = literal(USUAL)
    with RawClient(balancer.port) as client:
        stream, sent = 1, 0
        while not client.over and sent < 20_000:
            batch = [
                frame(HEADERS, END_STREAM | END_HEADERS, stream + 2 * at, block) for at in range(10)
            ]
            client.send(b"".join(batch))
            # Given up when they are served already, or at once.
            client.receive(within_s=0.002 if patient else 0)
            resets = [
                frame(RST_STREAM, 0, stream + 2 * at, (8).to_bytes(4, "big")) for at in range(10)
            ]
            client.send(b"".join(resets))
            stream, sent = stream + 20, sent + 10
        while not client.over:
            client.receive()
        assert client.goaway == ErrorCodes.ENHANCE_YOUR_CALM
        assert sent < 5_000
    assert balancer.request("GET", "/other").status == 200
    gate.open()


def test_continuations_without_end_cost_the_connection(client: RawClient, proxy: Proxy) -> None:
    """CVE-2024-24549 and its like: a head that never ends."""
    before = proxy.process.rss_bytes()
    client.send(frame(HEADERS, END_STREAM, 1, literal(USUAL)))
    sent = 0
    piece = frame(CONTINUATION, 0, 1, literal([(b"x", b"y" * 8000)]))
    while not client.over and sent < 50_000_000:
        client.send(piece)
        sent += len(piece)
        client.receive(within_s=0.001)
    assert client.over
    assert sent < 10_000_000
    assert proxy.process.rss_bytes() - before < 20_000_000
    proxy.expect_untouched()


@pytest.mark.parametrize(
    "flood",
    [frame(SETTINGS, 0, 0, b""), frame(PING, 0, 0, bytes(8))],
    ids=["SETTINGS", "PING"],
)
def test_a_flood_that_asks_for_answers_and_reads_none_takes_no_memory(
    evenflow: StartEvenflow, origins: StartOrigins, flood: bytes
) -> None:
    (origin,) = origins("a")
    balancer = evenflow(document(origin.url))
    before = balancer.rss_bytes()
    with RawClient(balancer.port) as client:
        client.socket.settimeout(1)
        batch, sent = flood * 1000, 0
        with contextlib.suppress(OSError):
            while sent < 60_000_000:
                client.socket.sendall(batch)
                sent += len(batch)
        assert balancer.rss_bytes() - before < 20_000_000
        assert balancer.request().status == 200


def test_more_streams_than_allowed_are_refused(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (origin,) = origins("a")
    balancer = evenflow(document(origin.url, server={"limits": {"max_streams": 5}}))
    with RawClient(balancer.port) as client:
        assert client.settings[MAX_CONCURRENT_STREAMS] == 5
        head = literal(but(method=b"POST"))
        # None of them ends, so all are open at once.
        client.send(b"".join(frame(HEADERS, END_HEADERS, 1 + 2 * at, head) for at in range(7)))
        assert client.outcome(11) == "REFUSED_STREAM"
        assert client.outcome(13) == "REFUSED_STREAM"


def test_a_preface_that_goes_on_wrongly_ends_the_connection(proxy: Proxy) -> None:
    with proxy.client() as client:
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        began = time.monotonic()
        client.read_to_end()
        assert time.monotonic() - began < 5
    proxy.expect_untouched()
