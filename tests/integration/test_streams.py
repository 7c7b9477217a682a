"""Layer 4: backends in stream schemes are served byte for byte, without a look inside."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from evenflow.testing import Client, TcpOrigin, free_port, request, wait_for
from evenflow.testing.behaviours import pattern

if TYPE_CHECKING:
    from evenflow.testing import EvenflowProcess
    from tests.conftest import StartEvenflow

STARTUP_PACKET = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


def start(evenflow: StartEvenflow, *urls: str, **env: str) -> EvenflowProcess:
    """Start a layer-4 balancer from the environment, as the original's guide does."""
    port = free_port()
    return evenflow(
        port=port,
        env={
            "LB_BACKENDS": ",".join(urls),
            "LB_STRATEGY": "round_robin",
            # The origins here greet, whatever the scheme says.
            "LB_HEALTH_CHECK__KIND": "tcp",
            **env,
        },
        admin_port=port + 1,
    )


def test_database_connections_are_relayed_in_turn(evenflow: StartEvenflow) -> None:
    with contextlib.ExitStack() as stack:
        reads = [stack.enter_context(TcpOrigin(f"read{n}")) for n in (1, 2, 3)]
        balancer = start(
            evenflow, *(r.url("postgresql") for r in reads), LB_HEALTH_CHECK_PATH="/health"
        )
        greeted = []
        for _ in range(9):
            with Client(balancer.port) as client:
                greeted.append(client.read_until(b"\n"))
                client.send(STARTUP_PACKET)
                client.half_close()
                assert client.read_to_end() == STARTUP_PACKET + b"bye\n"
        assert sorted(greeted) == sorted([b"read1\n", b"read2\n", b"read3\n"] * 3)


def test_the_end_of_one_half_is_relayed_and_the_other_goes_on(evenflow: StartEvenflow) -> None:
    with TcpOrigin("t") as origin:
        balancer = start(evenflow, origin.url("tcp"))
        with Client(balancer.port) as client:
            client.read_until(b"\n")
            client.send(b"one").half_close()
            assert client.read_to_end() == b"onebye\n"


def test_many_megabytes_go_both_ways_unchanged(evenflow: StartEvenflow) -> None:
    size = 20_000_000
    with TcpOrigin("t") as origin:
        balancer = start(evenflow, origin.url("redis"))
        with Client(balancer.port) as client:
            client.read_until(b"\n")
            for offset in range(0, size, 50_000):
                part = pattern(offset, 50_000)
                client.send_quietly(part)
                assert client.read_until(part[-8:]).endswith(part)
    assert len(origin.received) == size


def test_a_dead_database_is_left_out(evenflow: StartEvenflow) -> None:
    with TcpOrigin("alive") as alive:
        dead = f"mysql://127.0.0.1:{free_port()}"
        balancer = start(evenflow, dead, alive.url("mysql"), LB_HEALTH_CHECK__INTERVAL="100ms")
        for _ in range(6):
            with Client(balancer.port) as client:
                assert client.read_until(b"\n") == b"alive\n"

        def statuses() -> list[str]:
            answer = request(balancer.port + 1, "GET", "/api/v1/admin/backends")
            return sorted(b["status"] for b in answer.json()["backends"])

        wait_for(
            lambda: statuses() in (["healthy", "unhealthy"], ["ejected", "healthy"]),
            "the dead database being unhealthy",
            describe=lambda: str(statuses()),
        )


def test_a_reset_of_the_backend_ends_the_clients_connection(evenflow: StartEvenflow) -> None:
    with TcpOrigin("t") as origin:
        balancer = start(evenflow, origin.url())
        with Client(balancer.port) as client:
            client.read_until(b"\n")
            client.send(b"abc")
            client.read_until(b"abc")
            origin.stop()
            assert client.read_to_end() == b""


def test_where_the_admin_interface_listens_is_said_at_the_start(evenflow: StartEvenflow) -> None:
    with TcpOrigin("t") as origin:
        balancer = start(evenflow, origin.url())
        wait_for(
            lambda: f"127.0.0.1:{balancer.port + 1}" in balancer.output(),
            "the admin interface's address in the log",
            describe=balancer.output,
        )


def test_a_bounded_database_turns_the_surplus_away_or_lets_it_wait(
    evenflow: StartEvenflow,
) -> None:
    import json

    with TcpOrigin("t") as origin:
        balancer = start(evenflow, origin.url())
        answer = request(
            balancer.port + 1,
            "PATCH",
            "/api/v1/admin/backends/backend-1",
            body=json.dumps({"max_connections": 1}),
        )
        assert answer.status == 200, answer.body
        with Client(balancer.port) as first:
            first.read_until(b"\n")
            with Client(balancer.port) as second:
                assert second.read_to_end() == b""
        with Client(balancer.port) as third:
            assert third.read_until(b"\n") == b"t\n"
