"""Each health check that speaks a protocol, against the real server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from evenflow.config import read_document
from evenflow.config.expand import effective_health_check
from evenflow.controller import Member
from evenflow.health import CheckResult
from evenflow.health.dialogue import Dialogue, hold
from evenflow.health.monitor import check_of
from evenflow.testing import Origin, TcpOrigin, free_port, request, wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.conftest import StartEvenflow

    from .conftest import Servers

PASSWORD = "s3cret-for-tests"


async def checked(url: str, **check: Any) -> CheckResult:
    """The result of the check that this configuration asks for."""
    document = {"pools": [{"name": "p", "backends": [{"url": url}], "health_check": check}]}
    config = read_document({**document, "listeners": [LISTENER]})
    pool = config.pools[0]
    member = Member(
        "p", pool.backends[0], effective_health_check(config, pool, pool.backends[0]), 0
    )
    found = check_of(member)
    assert isinstance(found, Dialogue)
    result = await hold(found, pool.backends[0].target.address)
    assert result is not None, "there was no socket left for it"
    return result


LISTENER = {"name": "l", "address": "127.0.0.1:0", "protocol": "tcp", "pool": "p"}


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate for db.test, and its key."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=db.test", "-addext", "subjectAltName=DNS:db.test"]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


async def test_postgresql_logs_in_by_every_method(
    servers: Servers, certificate: tuple[Path, Path]
) -> None:
    hba = (
        "host all hashed 127.0.0.1/32 md5\n"
        "hostssl all clear 127.0.0.1/32 password\n"
        "hostnossl all bare 127.0.0.1/32 password\n"
        "host all open 127.0.0.1/32 trust"
    )
    server = servers.postgres(hba=hba)
    server.ready()
    url = f"postgresql://{server.address}"
    for user, stored in (("hashed", "md5"), ("clear", "md5"), ("bare", "md5"), ("open", "md5")):
        server.psql(
            f"set password_encryption = '{stored}'; create role {user} login password '{PASSWORD}'"
        )
    login = {"password": PASSWORD, "database": "postgres"}
    fine = CheckResult(True, "is a primary", certain=True)
    for user in ("postgres", "hashed", "open"):
        assert await checked(url, user=user, role="primary", **login) == fine, user
    wrong = await checked(url, user="postgres", password="no", database="postgres")
    assert wrong == CheckResult(False, 'password authentication failed for user "postgres"')
    bare = await checked(url, user="bare", **login)
    assert bare == CheckResult(False, "asks for the password in clear text without TLS")
    missing = await checked(url, user="postgres", password=PASSWORD, database="nowhere")
    assert missing == CheckResult(False, 'database "nowhere" does not exist')

    server.stop()
    for source, name in zip(certificate, ("server.crt", "server.key"), strict=True):
        target = server.directory / name
        target.write_bytes(source.read_bytes())
        owner = server.directory.stat()
        with contextlib.suppress(PermissionError):
            os.chown(target, owner.st_uid, owner.st_gid)
        target.chmod(0o600)
    with (server.directory / "postgresql.conf").open("a") as conf:
        conf.write("ssl = on\n")
    server.start()
    server.ready()
    for user in ("postgres", "hashed", "clear"):
        assert await checked(url, user=user, role="primary", **login) == fine, user


async def test_a_postgresql_that_takes_nobody_is_not_healthy(servers: Servers) -> None:
    first = servers.postgres("max_connections = 4", "superuser_reserved_connections = 1")
    first.ready()
    url = f"postgresql://{first.address}"
    assert await checked(url) == CheckResult(True, "answers the protocol")
    other = await checked(
        f"postgresql://{first.address}", role="replica", user="postgres", password=PASSWORD
    )
    assert other == CheckResult(False, "is a primary, expected a replica", certain=True)
    standby = servers.postgres("hot_standby = off", copy=first)
    shut = await checked(f"postgresql://{standby.address}")
    assert not shut.passed
    assert "not accepting connections" in shut.reason or "starting up" in shut.reason
    first.stop()
    assert await checked(url) == CheckResult(False, "connection refused")


async def test_redis_answers_and_tells_its_role(servers: Servers) -> None:
    first = servers.redis()
    second = servers.redis("--replicaof", f"127.0.0.1 {first.port}")
    locked = servers.redis("--requirepass", PASSWORD)
    assert await checked(f"redis://{first.address}") == CheckResult(True, "answers PING")
    primary = CheckResult(True, "is a primary", certain=True)
    assert await checked(f"redis://{first.address}", role="primary") == primary
    assert await checked(f"redis://{second.address}", role="primary") == CheckResult(
        False, "is a replica, expected a primary", certain=True
    )
    asked = await checked(f"redis://{locked.address}")
    assert asked == CheckResult(True, "answers; it asks for a password")
    url = f"redis://{locked.address}"
    assert await checked(url, password=PASSWORD) == CheckResult(True, "answers PING")
    assert await checked(url, user="default", password=PASSWORD, role="primary") == primary
    wrong = await checked(url, password="no")
    assert not wrong.passed
    assert "WRONGPASS" in wrong.reason


async def test_mysql_answers_a_login_and_does_not_block_the_checker(servers: Servers) -> None:
    server = servers.mariadb("--max-connect-errors=1")
    url = f"mysql://{server.address}"
    for _ in range(4):
        found = await checked(url)
        assert found.passed, found
        assert "answers" in found.reason
    for _ in range(4):
        assert (await checked(url, user="root")).passed


async def test_servers_of_other_protocols_are_told_apart(servers: Servers) -> None:
    redis = servers.redis()
    with TcpOrigin("greets") as tcp, Origin("web") as web:
        found = await checked(f"postgresql://{tcp.host}:{tcp.port}")
        assert found.reason == "not a PostgreSQL answer"
        assert (await checked(f"mysql://{tcp.host}:{tcp.port}")).reason == "not a MySQL greeting"
        assert (await checked(f"redis://{tcp.host}:{tcp.port}")).reason == "not a Redis answer"
        silent = await checked(f"mysql://127.0.0.1:{web.port}", timeout="200ms")
        assert silent.reason == "no answer within 0.2 s"
        no_tls = await checked(f"tcp://{redis.address}", kind="tls", timeout="1s")
        assert not no_tls.passed


@pytest.fixture
async def tls_server(certificate: tuple[Path, Path]) -> AsyncIterator[int]:
    """The port of a server that only handshakes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_a_tls_handshake_proves_the_server_and_its_certificate_where_asked(
    tls_server: int, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"tcp://127.0.0.1:{tls_server}"
    assert await checked(url, kind="tls") == CheckResult(True, "TLSv1.3 handshake")
    doubted = await checked(url, kind="tls", verify=True, server_name="db.test")
    assert doubted == CheckResult(False, "certificate: self-signed certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    assert (await checked(url, kind="tls", verify=True, server_name="db.test")).passed
    other = await checked(url, kind="tls", verify=True, server_name="other.test")
    assert "Hostname mismatch" in other.reason


def test_a_stream_backend_can_be_checked_by_http_on_another_port(evenflow: StartEvenflow) -> None:
    port = free_port()
    with TcpOrigin("t") as tcp, Origin("agent") as agent:
        evenflow(
            {
                "load_balancer": {"port": port},
                "backends": [{"id": "a", "url": tcp.url()}],
                "health_check": {
                    "kind": "http",
                    "port": agent.port,
                    "path": "/ready",
                    "interval": "100ms",
                    "unhealthy_threshold": 1,
                },
            },
            hand_over_port=False,
            admin_port=port + 1,
        )

        def status() -> str:
            listed = request(port + 1, "GET", "/api/v1/admin/backends").json()["backends"]
            return f"{listed[0]['status']}: {listed[0]['reason']}"

        wait_for(lambda: status() == "healthy: status 200", "the agent's answer", describe=status)
        asked = agent.requests[-1]
        assert (asked.target, asked.header("host")) == ("/ready", f"127.0.0.1:{agent.port}")
        agent.stop()
        wait_for(lambda: status().startswith("unhealthy"), "the agent's silence", describe=status)
