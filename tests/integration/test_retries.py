"""What is tried again at another backend, and what must not be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from evenflow.testing import Gate, document, free_port
from evenflow.testing.behaviours import hang_up, raw, respond, silent

if TYPE_CHECKING:
    from evenflow.testing import EvenflowProcess, Origin
    from tests.conftest import StartEvenflow, StartOrigins

NO_EJECTION = {"outlier": {"enabled": False}, "retry_floor": 1000}


def start(evenflow: StartEvenflow, *started: Origin | str, **settings: object) -> EvenflowProcess:
    """Start a balancer over origins or URLs, without ejection and with a large retry budget."""
    urls = [origin if isinstance(origin, str) else origin.url for origin in started]
    return evenflow(document(*urls, load_balancer={**NO_EJECTION, **settings}))


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
def test_a_request_that_could_not_be_sent_is_tried_elsewhere(
    evenflow: StartEvenflow, origins: StartOrigins, method: str
) -> None:
    (a,) = origins("a")
    balancer = start(evenflow, f"http://127.0.0.1:{free_port()}", a)
    for _ in range(10):
        assert balancer.request(method, body=b"x").status == 200
    assert len(a.requests) == 10


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_an_idempotent_request_is_repeated_after_a_lost_answer(
    evenflow: StartEvenflow, origins: StartOrigins, method: str
) -> None:
    broken, fine = origins("broken", "fine")
    broken.default = hang_up()
    balancer = start(evenflow, broken, fine)
    for _ in range(10):
        assert balancer.request(method, body=b"abc" if method == "PUT" else None).status == 200
    assert 5 <= len(broken.requests) <= 10
    assert len(fine.requests) == 10
    if method == "PUT":
        assert all(bytes(request.body) == b"abc" for request in fine.requests)


@pytest.mark.parametrize("method", ["POST", "PATCH", "X-OWN"])
def test_another_request_is_not_repeated_once_it_was_sent(
    evenflow: StartEvenflow, origins: StartOrigins, method: str
) -> None:
    broken, fine = origins("broken", "fine")
    broken.default = hang_up()
    balancer = start(evenflow, broken, fine)
    statuses = sorted(balancer.request(method, body=b"abc").status for _ in range(10))
    assert statuses == [200] * 5 + [502] * 5
    assert (len(broken.requests), len(fine.requests)) == (5, 5)


def test_nothing_is_repeated_after_the_answer_has_begun(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    broken, fine = origins("broken", "fine")
    broken.default = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    balancer = start(evenflow, broken, fine)
    for _ in range(4):
        with balancer.client() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            client.read_to_end()
    assert (len(broken.requests), len(fine.requests)) == (2, 2)


def test_each_further_attempt_goes_to_another_backend_up_to_the_maximum(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    started = origins(*"abcdef")
    for origin in started:
        origin.default = hang_up()
    balancer = start(evenflow, *started, max_retries=3)
    assert balancer.request().status == 502
    assert sorted(len(origin.requests) for origin in started) == [0, 0, 1, 1, 1, 1]


def test_no_retries_are_made_when_none_are_allowed(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    broken, fine = origins("broken", "fine")
    broken.default = hang_up()
    balancer = start(evenflow, broken, fine, max_retries=0)
    assert sorted(balancer.request().status for _ in range(10)) == [200] * 5 + [502] * 5


def test_a_listed_status_is_tried_elsewhere_for_idempotent_requests_only(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    busy, fine = origins("busy", "fine")
    busy.default = respond(503, b"busy")
    balancer = start(evenflow, busy, fine, retry_on=["connect", "reset", 503])
    assert {balancer.request().status for _ in range(10)} == {200}
    statuses = sorted(balancer.request("POST", body=b"x").status for _ in range(10))
    assert statuses == [200] * 5 + [503] * 5


def test_the_last_answer_is_relayed_when_every_backend_gives_a_listed_status(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    started = origins("a", "b")
    for origin in started:
        origin.default = respond(503, b"really busy")
    balancer = start(evenflow, *started, retry_on=["connect", "reset", 503])
    answer = balancer.request()
    assert (answer.status, answer.body) == (503, b"really busy")


def test_a_silent_backend_is_left_for_another_when_timeouts_are_listed(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    mute, fine = origins("mute", "fine")
    gate = Gate()
    mute.default = silent(gate)
    balancer = start(
        evenflow, mute, fine, retry_on=["connect", "reset", "timeout"], per_try_timeout="200ms"
    )
    assert {balancer.request().status for _ in range(4)} == {200}
    assert 2 <= len(mute.requests) <= 4
    gate.open()


def test_a_budget_stops_a_storm_of_retries(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    started = origins("a", "b", "c")
    for origin in started:
        origin.default = hang_up()
    balancer = start(evenflow, *started, retry_budget=0.0, retry_floor=0)
    for _ in range(30):
        assert balancer.request().status == 502
    assert sum(len(origin.requests) for origin in started) == 30
    metrics = balancer.metrics()
    assert metrics['evenflow_retries_over_budget_total{pool="default"}'] == 30


def test_a_budget_allows_its_share(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    started = origins("a", "b", "c")
    for origin in started:
        origin.default = hang_up()
    balancer = start(evenflow, *started, retry_budget=0.5, retry_floor=0)
    for _ in range(40):
        balancer.request()
    attempts = sum(len(origin.requests) for origin in started)
    assert 40 < attempts <= 62, attempts


def test_retries_are_counted_by_their_reason(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    broken, fine = origins("broken", "fine")
    broken.default = hang_up()
    balancer = start(evenflow, broken, fine)
    for _ in range(10):
        balancer.request()
    metrics = balancer.metrics()
    retries = metrics['evenflow_retries_total{pool="default",reason="reset"}']
    assert retries == len(broken.requests) >= 5


def test_a_routes_own_budget_bounds_its_storm_and_leaves_other_routes_their_retries(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    """Both routes lead to one pool, which would allow any number of retries."""
    started = origins("a", "b")
    for origin in started:
        origin.default = hang_up()
    config = document(
        load_balancer={**NO_EJECTION, "max_retries": 1, "retry_budget": 1.0},
        pools=[{"name": "app", "backends": [{"url": origin.url} for origin in started]}],
        routes=[
            {"name": "none", "match": {"path": "/none"}, "pool": "app", "retries": {"budget": 0}},
            {"name": "few", "match": {"path": "/few"}, "pool": "app", "retries": {"budget": 0.1}},
            {"name": "many", "match": {"path": "/many"}, "pool": "app"},
        ],
    )
    balancer = evenflow(config)

    def attempts(path: str) -> int:
        before = sum(len(origin.requests) for origin in started)
        for _ in range(60):
            assert balancer.request(target=path).status == 502
        return sum(len(origin.requests) for origin in started) - before

    # What quiet times saved up is ten, and sixty requests add a tenth each.
    made = {path: attempts(path) for path in ("/none", "/few", "/many")}
    assert made["/none"] == 60
    assert 75 <= made["/few"] <= 76, made
    assert made["/many"] == 120
    metrics = balancer.metrics()
    refused = "evenflow_route_retries_over_budget_total"
    assert metrics[f'{refused}{{route="none"}}'] == 60
    assert metrics[f'{refused}{{route="few"}}'] == 120 - made["/few"]
    assert f'{refused}{{route="many"}}' not in metrics
    assert metrics['evenflow_retries_over_budget_total{pool="app"}'] == 0
