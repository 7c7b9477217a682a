"""A balancer that is out of descriptors: that is its own trouble, and no backend's fault."""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from evenflow.testing import Client, TcpOrigin, UdpOrigin, free_port, wait_for

if TYPE_CHECKING:
    from evenflow.testing import EvenflowProcess
    from tests.conftest import StartEvenflow, StartOrigins

OPEN = 'evenflow_connections{listener="main"}'
OWN = 'evenflow_errors_total{reason="no_socket"}'


@contextlib.contextmanager
def no_descriptors(process: EvenflowProcess) -> Iterator[None]:
    """Until the end the process can open nothing; what is open stays open."""
    soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    # Standard input, output and error are open in any case.
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (soft, hard))


def start(evenflow: StartEvenflow, protocol: str, url: str, **sections: Any) -> EvenflowProcess:
    """Start a balancer whose only backend is ejected by its first failure."""
    port, admin = free_port(), free_port()
    listener: dict[str, Any] = {
        "name": "main",
        "address": f"127.0.0.1:{port}",
        "protocol": protocol,
    }
    if protocol != "udp":
        listener["proxy_protocol"] = {"accept": True, "trusted": ["127.0.0.0/8"]}
    document = {
        "listeners": [listener if protocol == "http" else {**listener, "pool": "p"}],
        "pools": [
            {
                "name": "p",
                "outlier": {"consecutive_errors": 1},
                "breaker": {"consecutive_errors": 1},
                "backends": [{"id": "b", "url": url}],
            }
        ],
        "routes": [{"name": "r", "pool": "p"}] if protocol == "http" else [],
        "health_check": {"enabled": False},
        "admin": {"listen": f"127.0.0.1:{admin}"},
        "server": {"workers": 1},
        "state": {"store": "memory"},
        **sections,
    }
    return evenflow(document, port=port, admin_port=admin, hand_over_port=False)


def errors(balancer: EvenflowProcess) -> dict[str, float]:
    """What is counted against backends."""
    metrics = balancer.metrics()
    return {
        name: value
        for name, value in metrics.items()
        if name.startswith("evenflow_backend_errors_total") and value
    }


@pytest.mark.parametrize("protocol", ["http", "tcp", "udp"])
def test_a_connection_that_cannot_be_opened_is_not_held_against_the_backend(
    evenflow: StartEvenflow, origins: StartOrigins, protocol: str
) -> None:
    with TcpOrigin("t") as tcp, UdpOrigin("u") as udp:
        (http,) = origins("h")
        urls = {"http": http.url, "tcp": tcp.url("tcp"), "udp": udp.url}
        balancer = start(evenflow, protocol, urls[protocol])

        def ask(limits: contextlib.AbstractContextManager[None]) -> bytes:
            """One request or session that begins under these limits; empty where it is not served."""
            if protocol == "udp":
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, limits:
                    sock.settimeout(0.5)
                    sock.connect(("127.0.0.1", balancer.port))
                    sock.send(b"?")
                    with contextlib.suppress(TimeoutError):
                        return sock.recv(100)
                    return b""
            # The client's own connection is there before; the header lets it go on.
            with Client(balancer.port) as client:
                wait_for(lambda: balancer.metrics()[OPEN] == 1, "the client's connection")
                with limits:
                    client.send(b"PROXY UNKNOWN\r\n")
                    if protocol == "http":
                        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                        return client.read_to_end()
                    return client.half_close().read_to_end()

        refused = ask(no_descriptors(balancer))
        if protocol == "http":
            assert refused.startswith(b"HTTP/1.1 503 "), refused
            assert b"No connection can be opened now." in refused
        else:
            assert refused == b""
        wait_for(lambda: balancer.metrics().get(OWN) == 1, "the refusal being counted")
        assert errors(balancer) == {}
        assert ask(contextlib.nullcontext()), (
            "the backend serves at once when there are descriptors again"
        )
        assert balancer.metrics()['evenflow_backend_up{pool="p",backend="b"}'] == 1


@pytest.mark.parametrize("kind", ["tcp", "redis"])
def test_a_check_that_cannot_be_made_says_nothing_of_the_backend(
    evenflow: StartEvenflow, kind: str
) -> None:
    """One of the checks is the engine's, the other one Python's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=pong, args=(server,), daemon=True)
        thread.start()
        check = {"kind": kind, "interval": "100ms", "timeout": "5s", "unhealthy_threshold": 1}
        url = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        balancer = start(evenflow, "tcp", url, health_check=check)
        checks = 'evenflow_health_checks_total{pool="p",backend="b",result="%s"}'
        wait_for(lambda: balancer.metrics()[checks % "passed"] > 0, "a check")
        with no_descriptors(balancer):
            wait_for(
                lambda: "this machine has no socket" in balancer.output(),
                "the warning that checks are not made",
                describe=balancer.output,
            )
        metrics = balancer.metrics()
        assert metrics[checks % "failed"] == 0
        assert metrics['evenflow_backend_up{pool="p",backend="b"}'] == 1
    thread.join(timeout=5)


def pong(server: socket.socket) -> None:
    """Answer every connection's first words as Redis answers a PING."""
    with contextlib.suppress(OSError):
        while True:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                if connection.recv(100):
                    connection.sendall(b"+PONG\r\n")


def test_a_listener_that_can_accept_nobody_holds_up_no_other(evenflow: StartEvenflow) -> None:
    port, second, admin = free_port(), free_port(), free_port()
    document = {
        "listeners": [
            {"name": "main", "address": f"127.0.0.1:{port}"},
            {"name": "second", "address": f"127.0.0.1:{second}"},
        ],
        "pools": [{"name": "p", "backends": [{"id": "b", "url": "http://127.0.0.1:1"}]}],
        "routes": [{"name": "r", "respond": {"body": "here"}}],
        "health_check": {"enabled": False},
        "admin": {"listen": f"127.0.0.1:{admin}"},
        "server": {"workers": 1},
        "state": {"store": "memory"},
    }
    balancer = evenflow(document, port=port, admin_port=admin, hand_over_port=False)
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    with Client(port) as served:
        assert served.send(request).expect(200).body == b"here"
        with no_descriptors(balancer):
            # The kernel takes the connection; the worker cannot, and tries again now and then.
            waiting = Client(second)
            waiting.send(request)
            for _ in range(20):
                assert served.send(request).expect(200).body == b"here"
        with waiting:
            assert waiting.expect(200).body == b"here"
