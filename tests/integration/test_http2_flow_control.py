"""Flow control of HTTP/2: a slow stream costs its own stream, not its connection."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING

from evenflow.testing import document
from evenflow.testing.behaviours import respond
from tests.http2_peers import H2Client, nghttpd

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartEvenflow, StartOrigins

BIG = 20_000_000
SLOW = 8


def reads_nothing(port: int, path: str) -> socket.socket:
    """A client that asks for a path and reads only the first bytes of the answer."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(10)
    client.connect(("127.0.0.1", port))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: site.test\r\n\r\n".encode())
    assert client.recv(12) == b"HTTP/1.1 200"
    return client


def test_clients_that_read_nothing_do_not_stop_a_shared_connection_to_a_backend(
    evenflow: StartEvenflow, tmp_path: Path
) -> None:
    (tmp_path / "big").write_bytes(bytes(BIG))
    (tmp_path / "small").write_bytes(b"small")
    with nghttpd(tmp_path) as url, contextlib.ExitStack() as stack:
        balancer = evenflow(document({"id": "a", "url": url, "timeout": "3s"}))
        for _ in range(SLOW):
            stack.enter_context(reads_nothing(balancer.port, "/big"))
        # Long enough for every buffer on the way to fill.
        until = time.monotonic() + 2
        while time.monotonic() < until:
            got = balancer.request("GET", "/small")
            assert (got.status, got.body) == (200, b"small")
        connections = 'evenflow_backend_connects_total{pool="default",backend="a"}'
        assert balancer.metrics()[connections] == 1


def fill(client: H2Client, streams: list[int]) -> None:
    """Send on each stream until neither its window nor the connection's has opened for a while."""
    client.socket.settimeout(0.5)
    chunk = bytes(16_384)
    with contextlib.suppress(TimeoutError):
        while True:
            for stream in streams:
                while room := client.h2.local_flow_control_window(stream):
                    client.h2.send_data(stream, chunk[: min(room, len(chunk))])
                    client.flush()
            client.receive()
    client.socket.settimeout(15)


def test_uploads_to_a_backend_that_reads_nothing_do_not_stop_the_clients_other_uploads(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (quick,) = origins("quick")
    quick.default = respond(200, b"stored")
    with socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.bind(("127.0.0.1", 0))
        stuck.listen()
        url = f"http://127.0.0.1:{stuck.getsockname()[1]}"
        balancer = evenflow(
            document(
                pools=[
                    {"name": "stuck", "backends": [{"url": url, "timeout": "20s"}]},
                    {"name": "quick", "backends": [{"url": quick.url}]},
                ],
                routes=[
                    {"name": "stuck", "match": {"path": "/stuck"}, "pool": "stuck"},
                    {"name": "quick", "pool": "quick"},
                ],
            )
        )
        with H2Client(balancer.port) as client:
            slow = [
                client.send(client.head("POST", "/stuck"), None, end=False) for _ in range(SLOW)
            ]
            fill(client, slow)
            got = client.answer(client.send(client.head("POST", "/"), bytes(100_000)))
            assert (got.status, got.body) == (200, b"stored")


def test_streams_whose_window_the_client_keeps_closed_do_not_stop_its_other_streams(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (origin,) = origins("a")
    origin.on("/big", respond(200, bytes(1_000_000)))
    origin.on("/small", respond(200, b"small"))
    balancer = evenflow(document(origin.url))
    with H2Client(balancer.port) as client:
        client.consume = False
        client.h2.increment_flow_control_window(100_000_000)
        closed = [client.send(client.head("GET", "/big")) for _ in range(30)]
        client.until(lambda: all(len(client.answers[each].body) == 65_535 for each in closed))
        for _ in range(3):
            got = client.ask("GET", "/small")
            assert (got.status, got.body) == (200, b"small")
        assert not any(client.answers[each].ended for each in closed)
