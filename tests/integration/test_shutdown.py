"""How a balancer ends: what is in flight is finished, within a bound."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from evenflow.testing import Gate, document, wait_for
from evenflow.testing.behaviours import respond

if TYPE_CHECKING:
    from evenflow.testing import EvenflowProcess
    from tests.conftest import StartEvenflow, StartOrigins

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def refuses_connections(balancer: EvenflowProcess) -> bool:
    """Say whether the port is closed by now."""
    try:
        balancer.client().close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_slow_request_is_finished_and_the_exit_code_is_0(
    evenflow: StartEvenflow, origins: StartOrigins, number: signal.Signals
) -> None:
    (a,) = origins("a")
    before, midway = Gate(), Gate()
    a.on("/before", respond(body=b"first half, second half", before=before))
    a.on("/midway", respond(body=b"first half, second half", midway=midway))
    balancer = evenflow(document(a.url, server={"workers": 2}))
    clients = [balancer.client(), balancer.client()]
    clients[0].send(b"GET /before HTTP/1.1\r\nHost: a\r\n\r\n")
    clients[1].send(b"GET /midway HTTP/1.1\r\nHost: a\r\n\r\n")
    wait_for(lambda: before.arrivals and midway.arrivals, "both requests at the origin")
    balancer.signal(number)
    wait_for(lambda: refuses_connections(balancer), "the port being closed")
    before.open()
    midway.open()
    for client in clients:
        client.expect(200, body=b"first half, second half")
        client.expect_closed()
        client.close()
    assert balancer.wait() == 0


def test_an_answer_during_the_end_announces_the_close(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    gate = Gate()
    a.default = respond(body=b"late", before=gate)
    balancer = evenflow(document(a.url))
    with balancer.client() as client:
        client.send(GET)
        wait_for(lambda: gate.arrivals, "the request at the origin")
        balancer.signal(signal.SIGTERM)
        wait_for(lambda: refuses_connections(balancer), "the port being closed")
        gate.open()
        client.expect(200, headers={"connection": "close"})
    assert balancer.wait() == 0


def test_idle_connections_do_not_hold_up_the_end(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    balancer = evenflow(document(a.url))
    clients = [balancer.client() for _ in range(10)]
    for client in clients[:5]:
        client.send(GET).expect(200)
    assert balancer.stop(timeout_s=10) == 0
    for client in clients:
        client.expect_closed()
        client.close()


def test_what_is_in_flight_at_the_deadline_is_cut_and_the_exit_code_is_0(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    gate = Gate()
    a.default = respond(body=b"never", before=gate)
    balancer = evenflow(document(a.url, server={"shutdown_timeout": "300ms"}))
    with balancer.client() as client:
        client.send(GET)
        wait_for(lambda: gate.arrivals, "the request at the origin")
        assert balancer.stop(timeout_s=10) == 0
        assert b"never" not in client.read_to_end()
    gate.open()


def test_a_second_signal_ends_at_once(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (a,) = origins("a")
    gate = Gate()
    a.default = respond(body=b"never", before=gate)
    balancer = evenflow(document(a.url, server={"shutdown_timeout": "10m"}))
    with balancer.client() as client:
        client.send(GET)
        wait_for(lambda: gate.arrivals, "the request at the origin")
        balancer.signal(signal.SIGTERM)
        wait_for(lambda: refuses_connections(balancer), "the port being closed")
        balancer.signal(signal.SIGTERM)
        balancer.wait(timeout_s=10)
    gate.open()


def test_a_signal_that_comes_as_soon_as_the_port_answers_ends_in_order(
    origins: StartOrigins,
) -> None:
    from evenflow.testing import Client, EvenflowProcess

    (a,) = origins("a")
    balancer = EvenflowProcess(document(a.url))
    try:
        balancer.spawn()
        wait_for(lambda: Client(balancer.port), "the port answering").close()
        assert balancer.stop() == 0, balancer.output()
    finally:
        balancer.close()


def test_readiness_ends_before_the_service_does(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    balancer = evenflow(document(a.url))
    assert balancer.request(target="/health/ready").status == 200
    assert balancer.request(target="/health/live").status == 200
    assert balancer.stop() == 0


def test_a_second_balancer_on_the_same_port_does_not_start(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    from evenflow.testing import EvenflowProcess

    (a,) = origins("a")
    first = evenflow(document(a.url))
    second = EvenflowProcess(document(a.url), port=first.port)
    try:
        second.spawn()
        assert second.wait() != 0
        assert str(first.port) in second.output()
        assert "Traceback" not in second.output()
    finally:
        second.close()
    assert first.request().status == 200
