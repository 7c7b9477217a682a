"""The PROXY protocol: read from balancers before, sent to servers behind; also nginx and HAProxy."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import pytest

from evenflow.testing import Client, Origin, TcpOrigin, free_port, request, wait_for
from evenflow.testing.authority import Authority

if TYPE_CHECKING:
    from evenflow.testing import EvenflowProcess
    from tests.conftest import StartEvenflow

    from .conftest import Servers

V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
V2 = (
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"
    + bytes([192, 0, 2, 7, 198, 51, 100, 1])
    + struct.pack("!HH", 56324, 443)
)
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
UNSPECIFIED = b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0"
ACCEPT = {"accept": True, "trusted": ["127.0.0.1"]}


def http(evenflow: StartEvenflow, backend: str, **listener: Any) -> EvenflowProcess:
    """Start a balancer whose HTTP listener reads PROXY headers from loopback."""
    port, admin = free_port(), free_port()
    return evenflow(
        {
            "listeners": [
                {
                    "name": "web",
                    "address": f"127.0.0.1:{port}",
                    "proxy_protocol": ACCEPT,
                    **listener,
                }
            ],
            "pools": [{"name": "web", "backends": [{"id": "a", "url": backend}]}],
            "routes": [{"name": "web", "pool": "web"}],
            "filters": {"list": {"ip_blacklist": ["203.0.113.0/24"]}},
            "admin": {"listen": f"127.0.0.1:{admin}"},
            "logging": {"access": {"output": "access.log"}},
        },
        port=port,
        hand_over_port=False,
        ready=lambda: request(admin, "GET", "/health/live").status == 200,
    )


@pytest.mark.parametrize("header", [V1, V2])
def test_the_address_in_the_header_is_the_clients(evenflow: StartEvenflow, header: bytes) -> None:
    with Origin("app") as app:
        balancer = http(evenflow, app.url)
        with Client(balancer.port) as client:
            # In pieces, and with the request right behind the last one.
            client.send(header[:3])
            client.send(header[3:20])
            client.send(header[20:] + b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.read_response().status == 200
            client.send(b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.read_response().status == 200
        for seen in app.requests:
            if seen.target in ("/a", "/b"):
                assert seen.header("x-forwarded-for") == "192.0.2.7"
        log = balancer.directory / "access.log"
        wait_for(log.exists, "the access log")
        wait_for(lambda: len(log.read_text().splitlines()) == 2, "two records")
        clients = {json.loads(line)["client"] for line in log.read_text().splitlines()}
        assert clients == {"192.0.2.7"}


@pytest.mark.parametrize("header", [LOCAL, UNSPECIFIED, b"PROXY UNKNOWN\r\n"])
def test_a_header_without_a_client_leaves_the_senders_address(
    evenflow: StartEvenflow, header: bytes
) -> None:
    with Origin("app") as app:
        balancer = http(evenflow, app.url)
        with Client(balancer.port) as client:
            client.send(header + b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.read_response().status == 200
        (seen,) = [seen for seen in app.requests if seen.target == "/a"]
        assert seen.header("x-forwarded-for") == "127.0.0.1"


def test_trusted_senders_must_send_a_header_and_others_may_not(evenflow: StartEvenflow) -> None:
    with Origin("app") as app:
        balancer = http(evenflow, app.url)
        with Client(balancer.port) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.read_to_end() == b""
        stranger = http(
            evenflow, app.url, proxy_protocol={"accept": True, "trusted": ["192.0.2.0/24"]}
        )
        with Client(stranger.port) as client:
            client.send(V1 + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.read_response().status == 400
        with Client(stranger.port) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.read_response().status == 200


def test_address_lists_go_by_the_header(evenflow: StartEvenflow) -> None:
    with Origin("app") as app:
        balancer = http(evenflow, app.url, filters=["list"])
        for address, status in (("203.0.113.9", 403), ("192.0.2.7", 200)):
            with Client(balancer.port) as client:
                header = V1.replace(b"192.0.2.7", address.encode())
                client.send(header + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert client.read_response().status == status


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_stream_passes_on_whom_it_is_from(evenflow: StartEvenflow, version: str) -> None:
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
                        "proxy_protocol": ACCEPT,
                    }
                ],
                "pools": [
                    {
                        "name": "db",
                        "send_proxy": version,
                        "health_check": {"enabled": False},
                        "backends": [{"url": origin.url()}],
                    }
                ],
                "admin": {"listen": f"127.0.0.1:{admin}"},
            },
            hand_over_port=False,
            ready=lambda: request(admin, "GET", "/health/live").status == 200,
        )
        with Client(port) as client:
            client.send(V1 + b"hello")
            client.read_until(b"hello")
        expected = (V1 if version == "v1" else V2) + b"hello"
        assert bytes(origin.received) == expected


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_nginx_and_haproxy_behind_believe_what_is_sent(
    evenflow: StartEvenflow, servers: Servers, version: str
) -> None:
    web, proxy = free_port(), free_port()
    with Origin("app") as app:
        servers.nginx(
            web,
            f"server {{ listen 127.0.0.1:{web} proxy_protocol; location / {{"
            ' return 200 "$proxy_protocol_addr $request_uri\\n"; } }',
        )
        servers.haproxy(
            proxy,
            f"frontend f\n bind 127.0.0.1:{proxy} accept-proxy\n option forwardfor\n"
            f" default_backend b\nbackend b\n server s 127.0.0.1:{app.port}\n",
        )
        port, admin = free_port(), free_port()
        evenflow(
            {
                "listeners": [
                    {"name": "web", "address": f"127.0.0.1:{port}", "proxy_protocol": ACCEPT}
                ],
                "pools": [
                    {
                        "name": name,
                        "send_proxy": version,
                        "health_check": {"path": "/ok", "interval": "100ms"},
                        "backends": [{"id": name, "url": f"http://127.0.0.1:{to}"}],
                    }
                    for name, to in (("nginx", web), ("haproxy", proxy))
                ],
                "routes": [
                    {"name": name, "match": {"path": f"/{name}"}, "pool": name}
                    for name in ("nginx", "haproxy")
                ],
                "admin": {"listen": f"127.0.0.1:{admin}"},
            },
            hand_over_port=False,
            ready=lambda: request(admin, "GET", "/health/live").status == 200,
        )
        wait_for(
            lambda: all(
                entry["status"] == "healthy"
                for entry in request(admin, "GET", "/api/v1/admin/backends").json()["backends"]
            ),
            "health checks that begin with a header as well",
        )
        for client_ip in (b"192.0.2.7", b"192.0.2.8"):
            with Client(port) as client:
                client.send(V1.replace(b"192.0.2.7", client_ip))
                client.send(b"GET /nginx HTTP/1.1\r\nHost: a\r\n\r\n")
                assert client.read_response().body == client_ip + b" /nginx\n"
                client.send(b"GET /haproxy HTTP/1.1\r\nHost: a\r\n\r\n")
                assert client.read_response().status == 200
            # Health checks reach the same application, under a path of their own.
            passed = [it for it in app.requests if it.target == "/haproxy"]
            assert str(passed[-1].header("x-forwarded-for")).endswith(client_ip.decode())


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_header_goes_before_the_handshake_with_an_encrypted_server(
    evenflow: StartEvenflow, servers: Servers, version: str
) -> None:
    authority = Authority(servers.root)
    web_pair = authority.issue("127.0.0.1", file="web")
    # nginx reads it as another user.
    web_pair.key.chmod(0o644)
    web, port, admin = free_port(), free_port(), free_port()
    servers.nginx(
        web,
        f"server {{ listen 127.0.0.1:{web} ssl proxy_protocol; ssl_certificate {web_pair.cert};"
        f" ssl_certificate_key {web_pair.key};"
        ' location / { return 200 "$proxy_protocol_addr $request_uri\\n"; } }',
    )
    evenflow(
        {
            "listeners": [
                {"name": "web", "address": f"127.0.0.1:{port}", "proxy_protocol": ACCEPT}
            ],
            "pools": [
                {
                    "name": "web",
                    "send_proxy": version,
                    "tls": {"ca_file": str(authority.ca)},
                    "health_check": {"path": "/ok", "interval": "100ms"},
                    "backends": [{"id": "web", "url": f"https://127.0.0.1:{web}"}],
                }
            ],
            "routes": [{"name": "web", "pool": "web"}],
            "admin": {"listen": f"127.0.0.1:{admin}"},
        },
        hand_over_port=False,
        ready=lambda: request(admin, "GET", "/health/live").status == 200,
    )
    wait_for(
        lambda: (
            request(admin, "GET", "/api/v1/admin/backends").json()["backends"][0]["status"]
            == "healthy"
        ),
        "health checks that begin with a header and encrypt as well",
    )
    with Client(port) as client:
        client.send(V1 + b"GET /in HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.read_response().body == b"192.0.2.7 /in\n"


@pytest.mark.parametrize("version", ["", "-v2"])
def test_haproxy_before_is_believed(
    evenflow: StartEvenflow, servers: Servers, version: str
) -> None:
    with Origin("app") as app:
        balancer = http(evenflow, app.url)
        front = free_port()
        servers.haproxy(
            front,
            f"listen l\n mode tcp\n bind 127.0.0.1:{front}\n source 127.0.0.1\n"
            f" server s 127.0.0.1:{balancer.port} send-proxy{version}\n",
        )
        with Client(front, source="127.0.0.77") as client:
            client.send(b"GET /through HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.read_response().status == 200
        (seen,) = [seen for seen in app.requests if seen.target == "/through"]
        assert seen.header("x-forwarded-for") == "127.0.0.77"
