"""Databases behind the balancer: real PostgreSQL servers, their failure and their failover."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections import Counter
from typing import TYPE_CHECKING

import psycopg

from evenflow.testing import free_port, request, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from evenflow.testing import EvenflowProcess
    from tests.conftest import StartEvenflow

    from .conftest import Postgres, Servers


def backends(port: int) -> dict[str, tuple[str, str]]:
    """Status and reason of every backend, asked of the admin app at `port`."""
    listed = request(port, "GET", "/api/v1/admin/backends").json()["backends"]
    return {entry["id"]: (entry["status"], entry["reason"]) for entry in listed}


def serving(info: str) -> int:
    """The port of the server that a new session reaches."""
    with psycopg.connect(info) as session:
        row = session.execute("select inet_server_port()").fetchone()
    assert row is not None
    return int(row[0])


def start(
    evenflow: StartEvenflow, servers: list[Postgres], **environment: str
) -> tuple[EvenflowProcess, Callable[[], dict[str, tuple[str, str]]]]:
    """Start the original's example."""
    port = free_port()
    balancer = evenflow(
        port=port,
        env={
            "LB_BACKENDS": ",".join(f"postgresql://{server.address}" for server in servers),
            "LB_HEALTH_CHECK__INTERVAL": "200ms",
            **environment,
        },
        admin_port=port + 1,
    )
    return balancer, lambda: backends(port + 1)


def test_the_originals_example_balances_sessions_and_survives_a_crash_under_load(
    evenflow: StartEvenflow, servers: Servers, find_program: Callable[[str, str], str]
) -> None:
    reads = [servers.postgres(), servers.postgres()]
    for server in reads:
        server.ready()
    balancer, standing = start(evenflow, reads)
    info = reads[0].conninfo(balancer.port)
    wait_for(
        lambda: all(seen == ("healthy", "answers the protocol") for seen in standing().values()),
        "both servers being healthy",
        describe=lambda: str(standing()),
    )
    assert Counter(serving(info) for _ in range(8)) == {reads[0].port: 4, reads[1].port: 4}

    pgbench = find_program("pgbench", "postgresql-contrib")
    for server in reads:
        command = [pgbench, "-i", "-q", "-d", server.conninfo()]
        subprocess.run(command, capture_output=True, check=True, timeout=60)
    load = subprocess.Popen(
        [pgbench, "-S", "-n", "-c", "4", "-T", "30", "-d", info],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    outcomes: Counter[str] = Counter()
    over = threading.Event()

    def keep_connecting() -> None:
        while not over.is_set():
            try:
                outcomes["fine" if serving(info) == reads[1].port else "first"] += 1
            except psycopg.Error as error:
                outcomes[str(error)] += 1

    comer = threading.Thread(target=keep_connecting)
    try:
        wait_for(lambda: sessions(reads[0]) >= 2, "load on the server that will crash")
        comer.start()
        wait_for(lambda: outcomes["first"] >= 3, "sessions on both")
        reads[0].stop()
        wait_for(lambda: standing()["backend-1"][0] == "unhealthy", "the crash being noticed")
        seen = outcomes["fine"]
        wait_for(lambda: outcomes["fine"] >= seen + 20, "new sessions on the other server")
        assert sessions(reads[1]) >= 2, "the other server's load must go on"
    finally:
        over.set()
        load.terminate()
        comer.join()
        load.communicate()
    failed = {text: count for text, count in outcomes.items() if text not in ("fine", "first")}
    # One session at a time: at most the one that was open in the moment of the crash is lost.
    assert sum(failed.values()) <= 1, failed

    reads[0].start()
    wait_for(lambda: standing()["backend-1"][0] == "healthy", "the server being back")
    assert {serving(info) for _ in range(4)} == {reads[0].port, reads[1].port}


def sessions(server: Postgres) -> int:
    """How many clients of pgbench work there."""
    asked = "select count(*) from pg_stat_activity where application_name = 'pgbench'"
    return int(server.psql(asked))


def test_the_role_primary_follows_a_failover(evenflow: StartEvenflow, servers: Servers) -> None:
    first = servers.postgres()
    first.ready()
    first.psql("create table kept (value int)")
    second = servers.postgres(copy=first)
    second.ready()
    write, read, admin = free_port(), free_port(), free_port()
    urls = [f"postgresql://{server.address}" for server in (first, second)]

    def pool(name: str, role: str) -> dict[str, object]:
        check = {"interval": "100ms", "user": "postgres", "password": "${PG_PASSWORD}"}
        return {
            "name": name,
            "health_check": {**check, "database": "postgres", "role": role},
            "backends": [{"id": f"{name}-{n}", "url": url} for n, url in enumerate(urls, 1)],
        }

    evenflow(
        {
            "listeners": [
                {"name": name, "address": f"127.0.0.1:{port}", "protocol": "tcp", "pool": name}
                for name, port in (("writes", write), ("reads", read))
            ],
            "pools": [pool("writes", "primary"), pool("reads", "replica")],
            "admin": {"listen": f"127.0.0.1:{admin}"},
        },
        env={"PG_PASSWORD": "s3cret-for-tests"},
        hand_over_port=False,
        ready=lambda: request(admin, "GET", "/health/live").status == 200,
    )
    expected = {
        "writes-1": ("healthy", "is a primary"),
        "writes-2": ("unhealthy", "is a replica, expected a primary"),
        "reads-1": ("unhealthy", "is a primary, expected a replica"),
        "reads-2": ("healthy", "is a replica"),
    }
    wait_for(
        lambda: backends(admin) == expected,
        "roles being known",
        describe=lambda: str(backends(admin)),
    )
    with psycopg.connect(first.conninfo(write)) as session:
        session.execute("insert into kept values (1)")
    assert {serving(first.conninfo(read)) for _ in range(4)} == {second.port}
    stored = request(admin, "GET", "/api/v1/admin/config").body.decode()
    assert "s3cret-for-tests" not in stored
    assert json.loads(stored)["pools"][0]["health_check"]["password"] == "${PG_PASSWORD}"

    wait_for(lambda: second.psql("select count(*) from kept") == "1", "the replica having it all")
    first.stop()
    second.psql("select pg_promote()")
    wait_for(
        lambda: backends(admin)["writes-2"] == ("healthy", "is a primary"),
        "the promoted server taking writes",
        describe=lambda: str(backends(admin)),
    )
    with psycopg.connect(second.conninfo(write)) as session:
        session.execute("insert into kept values (2)")
        assert session.execute("select count(*) from kept").fetchone() == (2,)
    wait_for(lambda: backends(admin)["reads-2"][0] == "unhealthy", "no replica being left")
    with contextlib.suppress(psycopg.OperationalError):
        serving(second.conninfo(read))
        raise AssertionError("there is no replica to read from")
