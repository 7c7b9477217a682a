"""Bodies of 3 GiB in each direction, in constant memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from evenflow.testing import document
from evenflow.testing.behaviours import READ_PIECE, check_pattern, pattern, stream

if TYPE_CHECKING:
    from evenflow.testing import EvenflowProcess
    from evenflow.testing.behaviours import Framing
    from tests.conftest import StartEvenflow, StartOrigins

SIZE = 3 << 30
ALLOWED_GROWTH = 16 << 20


class Memory:
    """The most resident memory seen in a process, looked at every so many bytes."""

    def __init__(self, process: EvenflowProcess) -> None:
        self._process = process
        self._unseen = 0
        self.before = self.peak = process.rss_bytes()

    def moved(self, count: int) -> None:
        """Note that bytes went by."""
        self._unseen += count
        if self._unseen >= 128 << 20:
            self._unseen = 0
            self.peak = max(self.peak, self._process.rss_bytes())

    def expect_constant(self) -> None:
        """Check that the process grew by no more than its buffers."""
        grown = self.peak - self.before
        assert grown < ALLOWED_GROWTH, f"grew by {grown >> 20} MiB from {self.before >> 20} MiB"


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_download_of_3_gib_takes_constant_memory(
    evenflow: StartEvenflow, origins: StartOrigins, framing: Framing
) -> None:
    (a,) = origins("a", default=stream(SIZE, framing=framing))
    balancer = evenflow(document(a.url))
    balancer.request(target="/health")
    memory = Memory(balancer)
    received = 0

    def take(data: bytes) -> None:
        nonlocal received
        for start in range(0, len(data), READ_PIECE):
            part = data[start : start + READ_PIECE]
            assert part == pattern(received, len(part)), f"wrong bytes after {received}"
            received += len(part)
        memory.moved(len(data))

    with balancer.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.read_response(sink=take)
    assert received == SIZE
    memory.expect_constant()


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_upload_of_3_gib_takes_constant_memory(
    evenflow: StartEvenflow, origins: StartOrigins, framing: Framing
) -> None:
    (a,) = origins("a", default=check_pattern())
    balancer = evenflow(document(a.url))
    balancer.request(target="/health")
    memory = Memory(balancer)
    chunked = framing == "chunked"
    how = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % SIZE
    with balancer.client() as client:
        client.send(b"PUT / HTTP/1.1\r\nHost: a\r\n" + how + b"\r\n\r\n")
        for offset in range(0, SIZE, READ_PIECE):
            part = pattern(offset, READ_PIECE)
            piece = b"%x\r\n%b\r\n" % (len(part), part) if chunked else part
            assert client.send_quietly(piece), client.read_to_end()[:500]
            memory.moved(READ_PIECE)
        if chunked:
            client.send(b"0\r\n\r\n")
        client.expect(200, body=str(SIZE).encode())
    memory.expect_constant()


def test_a_reader_that_stops_holds_back_the_origin(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a", default=stream(256 << 20))
    balancer = evenflow(document(a.url))
    memory = Memory(balancer)
    clients = []
    for _ in range(4):
        client = balancer.client(receive_buffer=4096)
        clients.append(client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
    for client in clients:
        client.read_head()
    for _ in range(20):
        balancer.request(target="/health")
        memory.peak = max(memory.peak, balancer.rss_bytes())
    memory.expect_constant()
    for client in clients:
        client.reset()
