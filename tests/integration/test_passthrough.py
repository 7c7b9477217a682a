"""TLS that is not decrypted: routed by the name and the protocol that clients ask for."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from evenflow.testing import Client, TcpOrigin, free_port, request, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartEvenflow

    from .conftest import Servers


@pytest.fixture
def certificate(servers: Servers) -> tuple[Path, Path]:
    """A self-signed certificate and its key, where the servers can read them."""
    cert, key = servers.root / "cert.pem", servers.root / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=any.test", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    key.chmod(0o644)
    return cert, key


@pytest.fixture
def sites(servers: Servers, certificate: tuple[Path, Path]) -> dict[str, int]:
    """TLS servers (nginx) that say their names."""
    ports = {name: free_port() for name in ("one", "two", "rest")}
    cert, key = certificate
    blocks = [
        f"server {{ listen 127.0.0.1:{port} ssl http2; ssl_certificate {cert};"
        f' ssl_certificate_key {key}; return 200 "{name} $ssl_server_name\\n"; }}'
        for name, port in ports.items()
    ]
    servers.nginx(ports["one"], "\n".join(blocks))
    return ports


def ask(port: int, name: str | None, *alpn: str) -> str:
    """What the server behind says to a client that asks for this name and these protocols."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname=name) as secure,
    ):
        secure.sendall(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        answer = b""
        while part := secure.recv(4096):
            answer += part
    return answer.rpartition(b"\r\n")[2].decode().strip()


def test_names_and_protocols_lead_to_pools(evenflow: StartEvenflow, sites: dict[str, int]) -> None:
    port, admin = free_port(), free_port()

    def pool(name: str, **more: Any) -> dict[str, Any]:
        url = f"tcp://127.0.0.1:{sites[name]}"
        return {"name": name, "backends": [{"id": name, "url": url}], **more}

    balancer = evenflow(
        {
            "listeners": [
                {
                    "name": "tls",
                    "address": f"127.0.0.1:{port}",
                    "protocol": "tcp",
                    "pool": "rest",
                    "read_timeout": "500ms",
                    "sni": [
                        {"server_names": ["one.test"], "pool": "one"},
                        {"server_names": ["*.two.test"], "pool": "two"},
                        {"server_names": ["one.test"], "alpn": ["http/1.1"], "pool": "two"},
                    ],
                }
            ],
            "pools": [pool("one", health_check={"kind": "tls"}), pool("two"), pool("rest")],
            "admin": {"listen": f"127.0.0.1:{admin}"},
            "logging": {"access": {"output": "access.log"}},
        },
        hand_over_port=False,
        ready=lambda: request(admin, "GET", "/health/live").status == 200,
    )
    assert ask(port, "one.test") == "one one.test"
    assert ask(port, "ONE.test", "unknown/1", "http/1.1").startswith("two")
    assert ask(port, "a.b.two.test") == "two a.b.two.test"
    assert ask(port, "two.test") == "rest two.test"
    assert ask(port, None) == "rest"
    with Client(port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.read_to_end() == b""
    with Client(port) as silent:
        assert silent.read_to_end() == b""
    log = balancer.directory / "access.log"
    wait_for(lambda: len(log.read_text().splitlines()) == 7, "seven records")
    # Each is written at its connection's end, in whatever order these are noticed.
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert ("one.test", "one") in {(record["host"], record["pool"]) for record in records}
    assert "bad_client_hello" in {record["reason"] for record in records}


def test_connections_over_a_rate_limit_are_closed(evenflow: StartEvenflow) -> None:
    port, admin = free_port(), free_port()
    with TcpOrigin("t") as origin:
        evenflow(
            {
                "listeners": [
                    {
                        "name": "db",
                        "address": f"127.0.0.1:{port}",
                        "protocol": "tcp",
                        "pool": "db",
                        "filters": ["slow"],
                    }
                ],
                "filters": {
                    "slow": {"rate_limit": {"requests_per_second": 0.001, "burst_size": 2}}
                },
                "pools": [{"name": "db", "backends": [{"url": origin.url()}]}],
                "admin": {"listen": f"127.0.0.1:{admin}"},
            },
            hand_over_port=False,
            ready=lambda: request(admin, "GET", "/health/live").status == 200,
        )
        for _ in range(2):
            with Client(port) as client:
                assert client.read_until(b"\n") == b"t\n"
        with Client(port) as client:
            assert client.read_to_end() == b""
        with Client(port, source="127.0.0.2") as other:
            assert other.read_until(b"\n") == b"t\n"
        page = request(admin, "GET", "/metrics").body.decode()
        assert 'evenflow_limited_total{filter="slow"} 1' in page
