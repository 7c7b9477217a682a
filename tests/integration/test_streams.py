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


def full_form(
    evenflow: StartEvenflow,
    urls: list[str],
    listener: dict[str, Any],
    server: dict[str, Any] | None = None,
    **pool: Any,
) -> EvenflowProcess:
    """Start a balancer with one tcp listener, without ejection."""
    port, admin = free_port(), free_port()
    document = {
        "listeners": [
            {"name": "main", "address": f"127.0.0.1:{port}", "protocol": "tcp", "pool": "p"}
            | listener
        ],
        "pools": [{"name": "p", "backends": [{"url": url} for url in urls], **pool}],
        "load_balancer": {"outlier": {"enabled": False}},
        "health_check": {"enabled": False},
        "admin": {"listen": f"127.0.0.1:{admin}"},
        "server": {"workers": 1} | (server or {}),
    }
    return evenflow(document, port=port, admin_port=admin, hand_over_port=False)


REFUSED = 'evenflow_errors_total{reason="connect_failed"}'


def test_a_session_that_one_backend_refuses_is_served_by_the_other(
    evenflow: StartEvenflow,
) -> None:
    with TcpOrigin("alive") as alive:
        urls = [f"tcp://127.0.0.1:{free_port()}", alive.url("tcp")]
        balancer = full_form(evenflow, urls, {"retries": {"max": 1}})
        for _ in range(6):
            with Client(balancer.port) as client:
                assert client.read_until(b"\n") == b"alive\n"
        metrics = balancer.metrics()
        assert metrics['evenflow_retries_total{pool="p",reason="connect"}'] == 3
        assert metrics.get(REFUSED, 0) == 0


def test_without_retries_a_refused_session_is_closed_and_counted(evenflow: StartEvenflow) -> None:
    with TcpOrigin("alive") as alive:
        urls = [f"tcp://127.0.0.1:{free_port()}", alive.url("tcp")]
        balancer = full_form(evenflow, urls, {"retries": {"max": 0}})
        got = []
        for _ in range(6):
            with Client(balancer.port) as client:
                got.append(client.half_close().read_to_end())
        assert sorted(got) == [b""] * 3 + [b"alive\nbye\n"] * 3
        wait_for(lambda: balancer.metrics().get(REFUSED) == 3, "three refused sessions")
        metrics = balancer.metrics()
        assert metrics['evenflow_retries_total{pool="p",reason="connect"}'] == 0


def test_a_session_waits_for_a_backend_that_starts_again(evenflow: StartEvenflow) -> None:
    port = free_port()
    retries = {"max": 10, "delay": "100ms"}
    balancer = full_form(evenflow, [f"tcp://127.0.0.1:{port}"], {"retries": retries})
    with Client(balancer.port) as client:
        wait_for(
            lambda: balancer.metrics()['evenflow_retries_total{pool="p",reason="connect"}'] >= 1,
            "a first attempt",
        )
        with TcpOrigin("late", port=port):
            assert client.read_until(b"\n") == b"late\n"


def test_a_spent_budget_ends_the_retries_of_sessions(evenflow: StartEvenflow) -> None:
    urls = [f"tcp://127.0.0.1:{free_port()}" for _ in range(2)]
    balancer = full_form(evenflow, urls, {}, retry_budget=0.0, retry_floor=0)
    for _ in range(3):
        with Client(balancer.port) as client:
            assert client.read_to_end() == b""
    over = 'evenflow_retries_over_budget_total{pool="p"}'
    wait_for(lambda: balancer.metrics()[over] == 3, "three retries over the budget")


def test_sessions_may_end_before_what_else_is_in_flight(evenflow: StartEvenflow) -> None:
    with TcpOrigin("t") as origin:
        bounds = {"shutdown_timeout": "10m", "stream_drain_timeout": "200ms"}
        balancer = full_form(evenflow, [origin.url("tcp")], {}, server=bounds)
        with Client(balancer.port) as client:
            assert client.read_until(b"\n") == b"t\n"
            assert balancer.stop(timeout_s=10) == 0
            assert client.read_to_end() == b""
