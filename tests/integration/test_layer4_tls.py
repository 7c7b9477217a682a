"""TLS on layer 4: ended on tcp listeners, spoken to backends, both, and neither."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import subprocess
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from evenflow.testing import Client, TcpOrigin, free_port, wait_for
from evenflow.testing.authority import Authority
from evenflow.testing.behaviours import pattern
from evenflow.testing.tls_wire import TlsOrigin, TlsWire

if TYPE_CHECKING:
    from pathlib import Path

    from evenflow.testing import EvenflowProcess
    from evenflow.testing.authority import Issued
    from tests.conftest import StartEvenflow

    from .conftest import Servers


class Running:
    """A balancer with one tcp listener."""

    def __init__(self, balancer: EvenflowProcess) -> None:
        self.balancer, self.port = balancer, balancer.port

    def metric(self, name: str) -> float:
        return self.balancer.metrics().get(name, 0)

    def handshakes(self, result: str) -> float:
        return self.metric(f'evenflow_tls_handshakes_total{{listener="in",result="{result}"}}')

    def says(self, reason: str) -> bool:
        status, text = backends(self)["b0"]
        return status == "unhealthy" and reason in text

    def told(self, result: str) -> bool:
        return self.handshakes(result) == 1


def start(
    evenflow: StartEvenflow,
    *urls: str,
    site: Issued | None = None,
    listener_tls: dict[str, Any] | None = None,
    pool: dict[str, Any] | None = None,
    listener: dict[str, Any] | None = None,
    **more: Any,
) -> Running:
    """Start a balancer of these backends; it has the certificate `site` where there is one."""
    port, admin = free_port(), free_port()
    own: dict[str, Any] = {"name": "in", "address": f"127.0.0.1:{port}", "protocol": "tcp"}
    own |= {"pool": "p", **(listener or {})}
    certificates: dict[str, Any] = more.pop("certificates", {})
    if site is not None:
        own["tls"] = {"certificates": ["site"], **(listener_tls or {})}
        certificates["site"] = {"cert_file": str(site.cert), "key_file": str(site.key)}
    backends = [{"id": f"b{at}", "url": url} for at, url in enumerate(urls)]
    document = {
        "listeners": [own],
        "pools": [{"name": "p", "backends": backends, **(pool or {})}],
        "certificates": certificates,
        "admin": {"listen": f"127.0.0.1:{admin}"},
        "health_check": {"enabled": False},
        **more,
    }
    return Running(evenflow(document, port=port, admin_port=admin, hand_over_port=False))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_an_encrypted_listener_serves_a_plain_backend_and_passes_its_end_on(
    evenflow: StartEvenflow, authority: Authority
) -> None:
    with TcpOrigin("t") as origin:
        running = start(evenflow, origin.url(), site=authority.issue("site.test"))
        for _ in range(3):
            with TlsWire.connect(running.port, authority.client_context()) as client:
                assert client.receive_exactly(2) == b"t\n"
                client.send(b"one")
                client.half_close()
                assert client.receive_to_end() == b"onebye\n"
                assert client.session.selected_alpn_protocol() is None
        assert running.handshakes("full") == 3
        assert origin.sessions == 3


@pytest.mark.parametrize("at_rest", [True, False])
def test_a_client_that_closes_without_close_notify_is_gone_only_where_that_cut_something_short(
    evenflow: StartEvenflow, authority: Authority, at_rest: bool
) -> None:
    """RFC 8446 §6.1 asks for a `close_notify`; many clients just close."""
    with TcpOrigin("t") as origin:
        running = start(evenflow, origin.url(), site=authority.issue("a.test"))
        context = authority.client_context()
        plain = socket.create_connection(("127.0.0.1", running.port), timeout=10)
        client = context.wrap_socket(plain, server_hostname="a.test")
        assert client.recv(100) == b"t\n"
        client.sendall(b"hello")
        assert client.recv(100) == b"hello"
        if not at_rest:
            # An answer that fills all buffers on its way, and is not taken.
            client.settimeout(1)
            with contextlib.suppress(TimeoutError):
                while True:
                    client.sendall(b"x" * 100_000)
        with socket.socket(fileno=client.detach()):
            pass
        wait_for(
            lambda: running.metric('evenflow_connections{listener="in"}') == 0,
            "the end of the session",
        )
        gone = running.metric('evenflow_errors_total{reason="client_gone"}')
        assert gone == (0 if at_rest else 1)
        assert running.metric('evenflow_errors_total{reason="upstream_reset"}') == 0


def test_s_client_is_served(evenflow: StartEvenflow, authority: Authority) -> None:
    with TcpOrigin("t") as origin:
        running = start(evenflow, origin.url(), site=authority.issue("site.test"))
        for version in ("-tls1_2", "-tls1_3"):
            command = ["openssl", "s_client", "-connect", f"127.0.0.1:{running.port}", version]
            command += ["-servername", "site.test", "-verify_hostname", "site.test", "-quiet"]
            command += ["-verify_return_error", "-CAfile", str(authority.ca)]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            with process:
                assert process.stdin is not None
                assert process.stdout is not None
                assert process.stdout.readline() == b"t\n"
                process.stdin.write(b"hello\n")
                process.stdin.flush()
                assert process.stdout.readline() == b"hello\n"
                process.stdin.close()
                process.terminate()


def test_what_is_not_tls_is_closed_without_a_word_and_counted(
    evenflow: StartEvenflow, authority: Authority
) -> None:
    with TcpOrigin("t") as origin:
        running = start(evenflow, origin.url(), site=authority.issue("site.test"))
        with Client(running.port) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.read_to_end() == b""
        assert running.handshakes("plain_text") == 1
        with Client(running.port) as client:
            client.send(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")
            # A TLS alert, and nothing of the backend's.
            assert client.read_to_end()[:1] in (b"", b"\x15")
        assert running.handshakes("protocol") == 1
        assert origin.sessions == 0


def test_a_handshake_that_does_not_come_is_cut_off(
    evenflow: StartEvenflow, authority: Authority
) -> None:
    with TcpOrigin("t") as origin:
        site = authority.issue("site.test")
        running = start(evenflow, origin.url(), site=site, listener={"read_timeout": "300ms"})
        with Client(running.port) as client:
            assert client.read_to_end() == b""
        assert running.handshakes("timeout") == 1


def test_clients_have_to_show_a_certificate(
    evenflow: StartEvenflow, authority: Authority, tmp_path: Path
) -> None:
    with TcpOrigin("t") as origin:
        running = start(
            evenflow,
            origin.url(),
            site=authority.issue("site.test"),
            listener_tls={"client_auth": {"mode": "required", "ca_file": str(authority.ca)}},
        )
        alice = authority.client_context(authority.issue("alice"))
        with TlsWire.connect(running.port, alice) as client:
            assert client.receive_exactly(2) == b"t\n"
        stranger = Authority(tmp_path, "strangers").issue("mallory")
        trusting = authority.client_context(stranger)
        for context, result in (
            (authority.client_context(), "certificate_missing"),
            (trusting, "certificate_refused"),
        ):
            # With TLS 1.3 the client is told after it has finished.
            with (
                pytest.raises((ssl.SSLError, ConnectionError)),
                TlsWire.connect(running.port, context) as client,
            ):
                client.receive()
            wait_for(partial(running.told, result), result)


def test_an_address_list_closes_before_the_handshake(
    evenflow: StartEvenflow, authority: Authority
) -> None:
    with TcpOrigin("t") as origin:
        running = start(
            evenflow,
            origin.url(),
            site=authority.issue("site.test"),
            listener={"filters": ["nobody"]},
            filters={"nobody": {"ip_blacklist": ["127.0.0.0/8"]}},
        )
        with pytest.raises((ssl.SSLError, ConnectionError)):
            TlsWire.connect(running.port, authority.client_context())
        assert running.handshakes("closed") == running.handshakes("full") == 0


def test_a_renewed_certificate_closes_no_session(
    evenflow: StartEvenflow, authority: Authority
) -> None:
    with TcpOrigin("t") as origin:
        running = start(evenflow, origin.url(), site=authority.issue("site.test"))
        context = authority.client_context()
        with TlsWire.connect(running.port, context) as old:
            assert old.receive_exactly(2) == b"t\n"
            renewed = authority.issue("site.test")

            def shown() -> str:
                with TlsWire.connect(running.port, context) as client:
                    certificate = client.session.getpeercert(binary_form=True)
                assert certificate is not None
                return hashlib.sha256(certificate).hexdigest()

            wait_for(lambda: shown() == renewed.fingerprint, "the renewed certificate")
            old.send(b"still here")
            assert old.receive_exactly(10) == b"still here"
            old.half_close()
            assert old.receive_to_end() == b"bye\n"


def there_and_back(client: TlsWire, size: int) -> None:
    """Sends and receives so many bytes at once, and compares them."""
    part = pattern(0, 65_536)

    def send() -> None:
        for _ in range(size // len(part)):
            client.send(part)
        client.half_close()

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for _ in range(size // len(part)):
            assert client.receive_exactly(len(part)) == part
        assert client.receive_to_end() == b"bye\n"
    finally:
        sender.join()


def test_many_megabytes_go_both_ways_at_once(evenflow: StartEvenflow, authority: Authority) -> None:
    with TcpOrigin("t") as origin:
        running = start(evenflow, origin.url(), site=authority.issue("site.test"))
        with TlsWire.connect(running.port, authority.client_context()) as client:
            client.receive_exactly(2)
            there_and_back(client, 50 * 1024 * 1024)
        assert len(origin.received) == 50 * 1024 * 1024


def backends(running: Running) -> dict[str, tuple[str, str]]:
    """Status and reason of every backend."""
    listed = running.balancer.api("GET", "/admin/backends")["backends"]
    return {entry["id"]: (entry["status"], entry["reason"]) for entry in listed}


def test_a_plain_listener_speaks_tls_to_a_backend_that_asks_who_it_is(
    evenflow: StartEvenflow, authority: Authority
) -> None:
    identity, own = authority.issue("db.test"), authority.issue("balancer.test")
    context = authority.server_context(identity, clients=authority)
    with TlsOrigin("t", context) as origin:
        running = start(
            evenflow,
            origin.url(),
            pool={
                "tls": {"ca_file": str(authority.ca), "server_name": "db.test", "client_cert": "me"}
            },
            certificates={"me": {"cert_file": str(own.cert), "key_file": str(own.key)}},
            health_check={"interval": "100ms"},
        )
        with Client(running.port) as client:
            assert client.read_until(b"\n") == b"t\n"
            client.send(b"one").half_close()
            assert client.read_to_end() == b"onebye\n"
        # The check shows the same certificate.
        wait_for(
            lambda: backends(running)["b0"] == ("healthy", "TLS handshake"),
            "a check over TLS",
            describe=lambda: str(backends(running)),
        )


def test_tls_on_both_sides_carries_many_megabytes_at_once(
    evenflow: StartEvenflow, authority: Authority
) -> None:
    context = authority.server_context(authority.issue("127.0.0.1", file="origin"))
    with TlsOrigin("t", context) as origin:
        running = start(
            evenflow,
            origin.url(),
            site=authority.issue("site.test"),
            pool={"tls": {"ca_file": str(authority.ca)}},
        )
        with TlsWire.connect(running.port, authority.client_context()) as client:
            client.receive_exactly(2)
            there_and_back(client, 50 * 1024 * 1024)
        assert origin.received == 50 * 1024 * 1024


def test_a_backend_that_cannot_be_trusted_gives_way_to_the_next(
    evenflow: StartEvenflow, authority: Authority
) -> None:
    wrong = authority.server_context(authority.issue("other.test"))
    right = authority.server_context(authority.issue("127.0.0.1", file="origin"))
    with TlsOrigin("wrong", wrong) as bad, TlsOrigin("right", right) as good:
        running = start(
            evenflow, bad.url(), good.url(), pool={"tls": {"ca_file": str(authority.ca)}}
        )
        for _ in range(4):
            with Client(running.port) as client:
                assert client.read_until(b"\n") == b"right\n"
        assert bad.sessions == 0


def test_without_a_backend_to_trust_the_session_ends_and_says_why(
    evenflow: StartEvenflow, authority: Authority
) -> None:
    context = authority.server_context(authority.issue("other.test"))
    with TlsOrigin("wrong", context) as origin, TcpOrigin("plain") as plain:
        tls = {"ca_file": str(authority.ca)}
        for url, said in ((origin.url(), "another name"), (plain.url("tls"), "not speak TLS")):
            running = start(evenflow, url, pool={"tls": tls})
            with Client(running.port) as client:
                assert client.read_to_end() == b""
            assert running.metric('evenflow_errors_total{reason="upstream_tls"}') == 1
            checked = start(evenflow, url, pool={"tls": tls}, health_check={"interval": "100ms"})
            wait_for(partial(checked.says, said), said)
        assert origin.sessions == 0


def test_s_server_is_reached(evenflow: StartEvenflow, authority: Authority) -> None:
    identity, port = authority.issue("127.0.0.1", file="origin"), free_port()
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-quiet", "-rev"]
    command += ["-cert", str(identity.cert), "-key", str(identity.key)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        tls = {"fingerprint": identity.fingerprint}
        running = start(evenflow, f"tls://127.0.0.1:{port}", pool={"tls": tls})

        def reversed_line() -> bytes:
            with Client(running.port) as client:
                client.send(b"hello\n")
                return client.read_some()

        wait_for(lambda: reversed_line() == b"olleh\n", "s_server's answer")
    finally:
        process.terminate()
        process.wait()


def test_redis_is_encrypted_to_on_behalf_of_plain_clients(
    evenflow: StartEvenflow, servers: Servers
) -> None:
    # Where the server, which is another user, can read its files.
    authority = Authority(servers.root)
    identity, port = authority.issue("127.0.0.1", file="redis"), free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", str(identity.cert)]
    options += ["--tls-key-file", str(identity.key), "--tls-ca-cert-file", str(authority.ca)]
    identity.key.chmod(0o644)
    servers.redis(*options, "--tls-auth-clients", "no")
    running = start(
        evenflow,
        f"tls://127.0.0.1:{port}",
        site=authority.issue("site.test"),
        pool={"tls": {"ca_file": str(authority.ca)}},
        health_check={"interval": "100ms"},
    )
    with TlsWire.connect(running.port, authority.client_context()) as client:
        client.send(b"SET a 1\r\nGET a\r\nQUIT\r\n")
        assert client.receive_to_end() == b"+OK\r\n$1\r\n1\r\n+OK\r\n"
    wait_for(lambda: backends(running)["b0"][0] == "healthy", "Redis being healthy")


def test_tls_passes_through_undecrypted_and_nothing_else_does(
    evenflow: StartEvenflow, authority: Authority
) -> None:
    identity = authority.issue("site.test")
    context = authority.server_context(identity, clients=authority)
    with TlsOrigin("t", context) as origin:
        running = start(
            evenflow, origin.url("tcp"), listener={"tls": {"passthrough": True}, "pool": "p"}
        )
        # The backend's own handshake: it gets to see the client's certificate.
        alice = authority.client_context(authority.issue("alice"))
        with TlsWire.connect(running.port, alice) as client:
            client.receive_exactly(2)
            there_and_back(client, 50 * 1024 * 1024)
        assert origin.received == 50 * 1024 * 1024
        with Client(running.port) as plain:
            plain.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert plain.read_to_end() == b""
        assert running.metric('evenflow_errors_total{reason="bad_client_hello"}') == 1
        assert origin.sessions == 1
