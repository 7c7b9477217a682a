"""Backends with bounds: who waits, who is turned away, and how newcomers warm up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evenflow.testing import Gate, document, wait_for
from evenflow.testing.behaviours import respond

if TYPE_CHECKING:
    from evenflow.testing import Client, EvenflowProcess, Origin
    from tests.conftest import StartEvenflow, StartOrigins

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def bounded(origin: Origin, bound: int, **queue: object) -> dict[str, object]:
    """Return a document with one backend that takes `bound` requests at once."""
    backend = {"id": origin.name, "url": origin.url, "max_connections": bound}
    return document(backend, load_balancer={"queue": queue}, server={"workers": 2})


def hold(balancer: EvenflowProcess, gate: Gate, count: int) -> list[Client]:
    """Open connections whose requests stand at the gate."""
    clients = []
    for number in range(1, count + 1):
        client = balancer.client()
        clients.append(client.send(GET))
        wait_for(lambda n=number: gate.arrivals >= n, f"request {number} at the origin")  # type: ignore[misc]
    return clients


def test_a_full_backend_gets_no_more_and_the_queue_is_served_in_time(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    gate = Gate()
    a.default = respond(body=b"held", before=gate)
    balancer = evenflow(bounded(a, 2, max=10, timeout="30s"))
    busy = hold(balancer, gate, 2)
    waiting = [balancer.client().send(GET) for _ in range(5)]
    name = 'evenflow_queue_length{pool="default"}'
    balancer.wait_for_metric(name, 5)
    assert len(a.requests) == 2
    gate.open()
    for client in busy + waiting:
        client.expect(200, body=b"held")
        client.close()
    assert len(a.requests) == 7
    assert balancer.metrics()[name] == 0


def test_over_the_queues_bound_requests_are_503_at_once(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    gate = Gate()
    a.default = respond(body=b"held", before=gate)
    balancer = evenflow(bounded(a, 1, max=1, timeout="30s"))
    clients = [*hold(balancer, gate, 1), balancer.client().send(GET)]
    balancer.wait_for_metric('evenflow_queue_length{pool="default"}', 1)
    assert balancer.request().status == 503
    gate.open()
    for client in clients:
        client.expect(200)
        client.close()


def test_a_request_that_waited_too_long_is_503(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    gate = Gate()
    a.default = respond(body=b"held", before=gate)
    balancer = evenflow(bounded(a, 1, max=10, timeout="200ms"))
    (client,) = hold(balancer, gate, 1)
    assert balancer.request().status == 503
    gate.open()
    client.expect(200)
    client.close()
    assert balancer.request().status == 200


def test_without_a_queue_a_request_beyond_the_bound_is_503(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    gate = Gate()
    a.default = respond(body=b"held", before=gate)
    balancer = evenflow(bounded(a, 3, max=0, timeout="30s"))
    clients = hold(balancer, gate, 3)
    assert balancer.request().status == 503
    gate.open()
    for client in clients:
        client.expect(200)
        client.close()


def test_a_client_that_leaves_the_queue_makes_room(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    gate = Gate()
    a.default = respond(body=b"held", before=gate)
    balancer = evenflow(bounded(a, 1, max=1, timeout="30s"))
    (client,) = hold(balancer, gate, 1)
    name = 'evenflow_queue_length{pool="default"}'
    leaver = balancer.client().send(GET)
    balancer.wait_for_metric(name, 1)
    leaver.reset()
    wait_for(lambda: balancer.metrics()[name] == 0, "the queue being empty")
    gate.open()
    client.expect(200)
    client.close()
    assert balancer.request().status == 200
    assert len(a.requests) == 2


def test_a_full_backends_requests_go_to_one_with_room(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    small, large = origins("small", "large")
    gate = Gate()
    small.default = respond(body=b"held", before=gate)
    balancer = evenflow(
        document(
            {"id": "small", "url": small.url, "max_connections": 1},
            {"id": "large", "url": large.url},
        )
    )
    clients = []
    while not gate.arrivals:
        clients.append(balancer.client().send(GET))
        wait_for(
            lambda: len(small.requests) + len(large.requests) == len(clients), "the next request"
        )
    assert balancer.tally(10) == {"large": 10}
    gate.open()
    for client in clients:
        client.expect(200)
        client.close()


def test_a_new_backend_starts_slowly(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    a, b, new = origins("a", "b", "new")
    balancer = evenflow(
        document(
            {"id": "a", "url": a.url},
            {"id": "b", "url": b.url},
            load_balancer={"slow_start": "1h"},
        )
    )
    balancer.api("POST", "/admin/backends", {"id": "new", "url": new.url})
    served = balancer.tally(90)
    assert served["new"] < 15, served
    assert served["a"] + served["b"] > 75


def test_a_new_backend_gets_its_full_share_after_the_ramp(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, new = origins("a", "new")
    balancer = evenflow(document({"id": "a", "url": a.url}, load_balancer={"slow_start": "500ms"}))
    balancer.api("POST", "/admin/backends", {"id": "new", "url": new.url})
    wait_for(
        lambda: balancer.tally(20) == {"a": 10, "new": 10}, "the new backend at its full share"
    )


def test_the_number_of_connections_of_a_listener_is_bounded(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    balancer = evenflow(document(a.url, server={"limits": {"max_connections": 4}}))
    clients = [balancer.client() for _ in range(4)]
    for client in clients:
        client.send(GET).expect(200)
    late = balancer.client().send(GET)
    late.expect_open()
    clients[0].close()
    late.expect(200)
    for client in [*clients, late]:
        client.close()
