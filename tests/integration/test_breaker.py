"""Circuit breakers of backends and pools, from the first failure to the last probe."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from evenflow.testing import Gate, Load, WebSocket, document, echo_websocket, run_evenflow, wait_for
from evenflow.testing.behaviours import hang_up, respond

if TYPE_CHECKING:
    from evenflow.testing import EvenflowProcess, Origin
    from tests.conftest import StartEvenflow, StartOrigins

AT_ONCE: dict[str, object] = {
    "consecutive_errors": 3,
    "open_for": "1h",
    "max_open_for": "1h",
    "half_open_requests": 2,
}


def start(
    evenflow: StartEvenflow, *origins: Origin, breaker: dict[str, object], **sections: Any
) -> EvenflowProcess:
    """A balancer over these origins that retries and ejects nothing."""
    base = {"max_retries": 0, "outlier": {"enabled": False}}
    more = sections.pop("load_balancer", {})
    return evenflow(
        document(
            *({"id": origin.name, "url": origin.url} for origin in origins),
            load_balancer={**base, "breaker": breaker, **more},
            **sections,
        )
    )


def breaker(balancer: EvenflowProcess, id: str) -> dict[str, Any]:
    """How a backend's breaker stands."""
    found: dict[str, Any] = balancer.api("GET", f"/admin/backends/{id}")["breaker"]
    return found


def pool_breaker(balancer: EvenflowProcess, pool: str = "default") -> dict[str, Any]:
    """How a pool's own breaker stands."""
    found: dict[str, Any] = balancer.api("GET", f"/admin/pools/{pool}/breaker")["breaker"]
    return found


def wait_for_state(balancer: EvenflowProcess, id: str, state: str) -> None:
    """Wait until a backend's breaker is in a state."""
    wait_for(lambda: breaker(balancer, id)["state"] == state, f"{id} is {state}")


def wait_for_pool(balancer: EvenflowProcess, state: str) -> None:
    """Wait until the pool's own breaker is in a state."""
    wait_for(lambda: pool_breaker(balancer)["state"] == state, f"the pool is {state}")


def test_failures_in_a_row_open_a_backend_and_probes_close_it(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    b.default = respond(500)
    balancer = start(evenflow, a, b, breaker={**AT_ONCE, "open_for": "1s"})
    assert [balancer.request().status for _ in range(6)].count(500) == 3
    # At once: no second passes before the engine refuses.
    assert {balancer.request().status for _ in range(4)} == {200}
    assert len(b.requests) == 3
    b.default = respond(200, b"b")
    wait_for(lambda: balancer.tally(2)["b"] > 0, "a probe reaches b")
    wait_for(lambda: balancer.tally(4) == {"a": 2, "b": 2}, "b is back")
    wait_for_state(balancer, "b", "closed")
    told = balancer.api("GET", "/admin/decisions?kind=breaker")["decisions"]
    assert [(each["event"], each["backend"]) for each in told] == [
        ("breaker open", "b"),
        ("breaker half open", "b"),
        ("breaker closed", "b"),
    ]
    assert told[0]["reason"] == "3 consecutive errors"
    assert 0.8 <= told[0]["for_s"] <= 1
    metrics = balancer.metrics()
    place = 'pool="default",backend="b"'
    assert metrics[f"evenflow_breaker_state{{{place}}}"] == 0
    for to in ("open", "half_open", "closed"):
        assert metrics[f'evenflow_breaker_transitions_total{{{place},to="{to}"}}'] == 1
    logged = [each for each in balancer.events() if each.get("kind") == "breaker"]
    assert [each["event"] for each in logged] == [each["event"] for each in told]


def test_a_share_of_failures_opens_a_backend(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    rules = {"error_rate": 0.5, "window": "2s", "min_requests": 10, "open_for": "1h"}
    balancer = start(evenflow, a, b, breaker={**rules, "max_open_for": "1h"})
    # Every other one of b's fails: never many in a row.
    b.enqueue(*[respond(500), respond(200)] * 10)
    for _ in range(40):
        balancer.request()
    wait_for_state(balancer, "b", "open")
    assert breaker(balancer, "b")["reason"].endswith("requests failed")
    assert breaker(balancer, "a")["state"] == "closed"
    shown = balancer.api("GET", "/admin/backends/b")
    assert (shown["status"], shown["usable"]) == ("tripped", False)
    explained = balancer.api("POST", "/admin/explain", {"target": "/"})
    assert {"id": "b", "usable": False, "reason": "breaker_open"} in explained["candidates"]
    # The pool as a whole has none.
    problem = balancer.api("PUT", "/admin/pools/default/breaker", {"state": "open"}, expect=409)
    assert "has no breaker of its own" in problem["detail"]
    assert pool_breaker(balancer) is None


def test_slow_answers_open_a_backend(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    a, b = origins("a", "b")
    gate = Gate()
    b.default = respond(200, b"late", before=gate)
    rules = {"latency": "20ms", "slow_rate": 0.8, "min_requests": 5, "error_rate": 0}
    balancer = start(evenflow, a, b, breaker={**rules, "window": "5s"})
    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(balancer.request) for _ in range(20)]
        b.wait_for_requests(10)
        time.sleep(0.05)  # That is what slow means.
        gate.open()
        assert {answer.result().status for answer in answers} == {200}
    wait_for_state(balancer, "b", "open")
    assert "answers took over 0.02 s" in breaker(balancer, "b")["reason"]
    assert breaker(balancer, "a")["state"] == "closed"


def test_an_open_pool_answers_at_once_and_says_when_to_come_back(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    for origin in (a, b):
        origin.default = hang_up()
    balancer = start(
        evenflow, a, b, breaker={**AT_ONCE, "scope": "pool", "open_for": "100s"}, metrics={}
    )
    assert [balancer.request().status for _ in range(3)] == [502] * 3
    wait_for_pool(balancer, "open")
    refused = balancer.request(headers=[("Accept", "application/json")])
    assert refused.status == 503
    assert json.loads(refused.body)["error"] == "breaker_open"
    assert 75 <= int(refused.header("retry-after") or 0) <= 100
    assert len(a.requests) + len(b.requests) == 3
    metrics = balancer.metrics()
    assert metrics['evenflow_breaker_state{pool="default",backend=""}'] == 2
    assert metrics['evenflow_breaker_refused_total{pool="default"}'] == 1
    assert metrics['evenflow_errors_total{reason="breaker_open"}'] == 1
    explained = balancer.api("POST", "/admin/explain", {"target": "/"})
    assert explained["backend"] is None
    assert explained["reason"] == "the pool's breaker is open: it would be refused"
    assert balancer.request(target="/health").status == 503


def test_open_breakers_of_all_backends_answer_at_once_too(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    for origin in (a, b):
        origin.default = hang_up()
    # Panic mode looks past health, never past a breaker.
    balancer = start(
        evenflow,
        a,
        b,
        breaker={**AT_ONCE, "open_for": "100s"},
        load_balancer={"panic": {"mode": "use_all", "below": 1.0}},
    )
    assert [balancer.request().status for _ in range(6)] == [502] * 6
    wait_for(lambda: "default" in str(balancer.metrics()), "metrics")
    refused = balancer.request()
    assert (refused.status, len(a.requests) + len(b.requests)) == (503, 6)
    wait_for(
        lambda: int(balancer.request().header("retry-after") or 0) > 70, "the time of the breakers"
    )
    balancer.wait_for_metric('evenflow_pool_panic{pool="default"}', 1)
    assert balancer.request().status == 503


def test_who_waits_in_the_queue_when_a_pool_opens_is_answered_at_once(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    gate = Gate()
    a.default = respond(200, b"a", before=gate)
    balancer = evenflow(
        document(
            {"id": "a", "url": a.url, "max_connections": 1},
            load_balancer={
                "queue": {"max": 10, "timeout": "1h"},
                "breaker": {**AT_ONCE, "scope": "pool"},
            },
        )
    )
    with ThreadPoolExecutor() as pool:
        served = pool.submit(balancer.request)
        a.wait_for_requests(1)
        waiting = [pool.submit(balancer.request) for _ in range(3)]
        balancer.wait_for_metric('evenflow_queue_length{pool="default"}', 3)
        balancer.api("PUT", "/admin/pools/default/breaker", {"state": "open"})
        assert {each.result().status for each in waiting} == {503}
        assert balancer.api("GET", "/admin/backends/a")["usable"] is False
        # What is in flight goes on.
        gate.open()
        assert served.result().status == 200


def test_a_fallback_pool_serves_while_the_breaker_is_open(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, spare = origins("a", "spare")
    a.default = hang_up()
    whole: dict[str, object] = {**AT_ONCE, "scope": "pool"}
    balancer = evenflow(
        document(
            load_balancer={"max_retries": 0, "outlier": {"enabled": False}},
            pools=[
                {
                    "name": "app",
                    "backends": [{"id": "a", "url": a.url}],
                    "breaker": whole,
                },
                {"name": "spare", "backends": [{"id": "spare", "url": spare.url}]},
            ],
            routes=[{"name": "app", "pool": "app", "fallback": "spare"}],
        )
    )
    statuses = [balancer.request().status for _ in range(5)]
    assert statuses == [502, 502, 502, 200, 200]
    metrics = balancer.metrics()
    assert metrics['evenflow_fallbacks_total{route="app"}'] == 2
    assert 'evenflow_errors_total{reason="breaker_open"}' not in metrics
    assert metrics['evenflow_breaker_refused_total{pool="app"}'] == 2
    explained = balancer.api("POST", "/admin/explain", {"target": "/"})
    assert (explained["pool"], explained["backend"]) == ("spare", "spare")


def test_half_open_lets_no_more_through_than_agreed(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    a.default = hang_up()
    rules: dict[str, object] = {**AT_ONCE, "scope": "both", "open_for": "300ms"}
    rules["pool_consecutive_errors"] = 3
    rules["half_open_requests"] = 3
    # A full pool would queue; a half-open one does not.
    balancer = start(
        evenflow, a, breaker=rules, load_balancer={"queue": {"max": 100, "timeout": "30s"}}
    )
    for _ in range(3):
        balancer.request()
    gate = Gate()
    a.forget()
    a.default = respond(200, b"a", before=gate)
    wait_for_state(balancer, "a", "half_open")
    wait_for_pool(balancer, "half_open")
    with ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(balancer.request) for _ in range(12)]
        wait_for(lambda: sum(answer.done() for answer in answers) == 9, "nine are refused")
        assert {answer.result().status for answer in answers if answer.done()} == {503}
        assert len(a.requests) == 3
        gate.open()
        assert sorted(answer.result().status for answer in answers) == [200] * 3 + [503] * 9
    wait_for_state(balancer, "a", "closed")
    wait_for_pool(balancer, "closed")
    assert balancer.tally(3) == {"a": 3}


def test_probes_that_end_in_unusual_ways(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (a,) = origins("a")
    a.default = hang_up()
    rules = {**AT_ONCE, "open_for": "200ms", "half_open_requests": 1}
    balancer = start(evenflow, a, breaker=rules)
    for _ in range(3):
        balancer.request()
    gate = Gate()
    a.forget()
    a.default = respond(200, b"a", before=gate)
    wait_for_state(balancer, "a", "half_open")
    with balancer.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        a.wait_for_requests(1)
        assert balancer.request().status == 503
        client.reset()
    gate.open()
    wait_for(lambda: balancer.request().status == 200, "another probe")
    wait_for_state(balancer, "a", "closed")
    # A connection that becomes a tunnel is a probe that went well, however long it lasts.
    a.default = hang_up()
    for _ in range(3):
        balancer.request()
    a.default = echo_websocket()
    wait_for_state(balancer, "a", "half_open")
    with WebSocket(balancer.client()):
        wait_for_state(balancer, "a", "closed")


def test_each_failed_probe_makes_it_wait_longer_up_to_a_bound(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    a.default = hang_up()
    rules = {**AT_ONCE, "open_for": "200ms", "max_open_for": "500ms"}
    balancer = start(evenflow, a, breaker=rules)
    for _ in range(3):
        balancer.request()
    for _ in range(3):
        wait_for_state(balancer, "a", "half_open")
        assert balancer.request().status == 502
    told = balancer.api("GET", "/admin/decisions?kind=breaker")["decisions"]
    opened = [each for each in told if each["event"] == "breaker open"]
    assert len(opened) == 4
    for each, top in zip(opened, (0.2, 0.4, 0.5, 0.5), strict=True):
        assert 0.79 * top <= each["for_s"] <= top
    assert opened[-1]["reason"] == "a probe failed or was too slow"


def test_passed_health_checks_and_ejection_leave_a_breaker_alone(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    b.on("/work", respond(500))
    a.on("/work", respond(200, b"a"))
    balancer = start(
        evenflow,
        a,
        b,
        breaker={**AT_ONCE, "consecutive_errors": 5},
        load_balancer={"outlier": {"consecutive_errors": 2, "base_ejection": "5m"}},
        health_check={"enabled": True, "interval": "100ms", "timeout": "1s"},
    )
    # A passed check ends each ejection early; the breaker's row goes on over them.
    wait_for(
        lambda: (
            balancer.request(target="/work").status and breaker(balancer, "b")["state"] == "open"
        ),
        "the breaker opens",
    )
    assert balancer.metrics()['evenflow_ejections_total{pool="default"}'] >= 2
    checks = len(b.health_checks)
    wait_for(lambda: len(b.health_checks) > checks + 3, "passed checks")
    assert breaker(balancer, "b")["state"] == "open"
    assert balancer.tally(4, "/work") == {"a": 4}
    # Nobody is told to wait for a breaker where health is what stands in the way.
    for origin, names in ((a, "a"), (b, "b")):
        origin.set_healthy(False)
        balancer.wait_for_status(names, "unhealthy")
    refused = balancer.request(headers=[("Accept", "application/json")])
    assert (refused.status, json.loads(refused.body)["error"]) == (503, "no_backend")
    assert refused.header("retry-after") is None


def test_a_backend_whose_breaker_closed_starts_slowly(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    b.default = hang_up()
    balancer = start(
        evenflow,
        a,
        b,
        breaker={**AT_ONCE, "open_for": "200ms"},
        load_balancer={"slow_start": "1h"},
    )
    wait_for(
        lambda: balancer.request().status and breaker(balancer, "b")["state"] == "open", "open"
    )
    b.default = respond(200, b"b")
    wait_for(
        lambda: balancer.request().status and breaker(balancer, "b")["state"] == "closed", "closed"
    )
    shown = balancer.api("GET", "/admin/backends/b")
    assert (shown["weight"], shown["effective_weight"]) == (100, 10)
    wait_for(lambda: balancer.tally(20)["a"] >= 17, "few requests at first")


def test_refused_requests_save_up_no_retries(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    a.default = hang_up()
    balancer = start(
        evenflow,
        a,
        breaker={**AT_ONCE, "scope": "pool"},
        load_balancer={"max_retries": 3, "retry_budget": 1.0, "retry_floor": 0},
    )
    # The second request's share is one retry, the third failure.
    assert [balancer.request().status for _ in range(2)] == [502, 502]
    assert len(a.requests) == 3
    for _ in range(50):
        assert balancer.request().status == 503
    assert len(a.requests) == 3
    balancer.api("PUT", "/admin/pools/default/breaker", {"state": "closed"})
    assert balancer.request().status == 502
    # Its own share is all there is: one retry.
    assert len(a.requests) == 5


@pytest.mark.parametrize(("row", "opens"), [(0, False), (6, True)])
def test_a_row_of_failures_at_one_backend_opens_the_pools_breaker_by_its_own_number_only(
    evenflow: StartEvenflow, origins: StartOrigins, row: int, opens: bool
) -> None:
    """All of a client's requests go to one backend, which fails; the other one never does."""
    a, b = origins("a", "b")
    rules = {**AT_ONCE, "scope": "both", "error_rate": 0, "pool_consecutive_errors": row}
    # A kept connection that ends would be one more failure.
    settings = {"strategy": {"name": "ip_hash"}, "connections": {"max_idle": 0}}
    balancer = start(evenflow, a, b, breaker=rules, load_balancer=settings)
    first = balancer.request().text.strip()
    broken, other = (a, b) if first == "a" else (b, a)
    broken.default = hang_up()
    assert [balancer.request().status for _ in range(3)] == [502] * 3
    wait_for_state(balancer, broken.name, "open")
    assert pool_breaker(balancer)["state"] == "closed"
    assert balancer.tally(3) == {other.name: 3}
    # A row of the pool's own begins anew after each good answer.
    other.default = hang_up()
    statuses = [balancer.request().status for _ in range(3)]
    assert statuses == [502] * 3
    assert pool_breaker(balancer)["state"] == "closed"
    balancer.api("PUT", f"/admin/backends/{other.name}/breaker", {"state": "closed"})
    for _ in range(3):
        balancer.request()
    if opens:
        wait_for_pool(balancer, "open")
    else:
        assert pool_breaker(balancer)["state"] == "closed"


def test_state_survives_reloads_and_changes_of_members(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b, c = origins("a", "b", "c")
    b.default = hang_up()
    balancer = start(evenflow, a, b, breaker={**AT_ONCE, "scope": "both", "consecutive_errors": 2})
    wait_for(
        lambda: balancer.request().status and breaker(balancer, "b")["state"] == "open", "open"
    )
    before = breaker(balancer, "b")
    balancer.api("PATCH", "/admin/config", {"load_balancer": {"retry_delay": "1ms"}})
    balancer.api("POST", "/admin/backends", {"id": "c", "url": c.url}, expect=201)
    balancer.api("PATCH", "/admin/backends/b", {"weight": 7})
    after = breaker(balancer, "b")
    assert {k: after[k] for k in ("state", "reason")} == {k: before[k] for k in ("state", "reason")}
    assert set(balancer.tally(8)) == {"a", "c"}
    assert breaker(balancer, "c")["state"] == "closed"
    # Another server under the same name begins anew, and so does one that is taken away and added.
    balancer.api("PATCH", "/admin/backends/b", {"url": c.url})
    assert breaker(balancer, "b")["state"] == "closed"
    balancer.api("DELETE", "/admin/backends/c")
    assert set(balancer.tally(8)) == {"a", "c"}
    assert 'backend="c"' not in " ".join(n for n in balancer.metrics() if "breaker" in n)


def test_a_breaker_that_is_configured_no_more_holds_nothing_back(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    a.default = hang_up()
    balancer = start(evenflow, a, breaker={**AT_ONCE, "scope": "both"})
    for _ in range(3):
        balancer.request()
    assert balancer.request().status == 503
    a.default = respond(200, b"a")
    balancer.api("PATCH", "/admin/config", {"load_balancer": {"breaker": None}})
    wait_for(lambda: balancer.request().status == 200, "the backend serves")
    assert "breaker" not in balancer.api("GET", "/admin/backends/a") or not breaker(balancer, "a")
    assert not [name for name in balancer.metrics() if name.startswith("evenflow_breaker")]


def test_what_is_held_by_hand_outlives_a_restart_and_not_its_backend(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b, c = origins("a", "b", "c")
    balancer = evenflow(
        document(
            *({"id": each.name, "url": each.url} for each in (a, b, c)),
            load_balancer={"breaker": {**AT_ONCE, "scope": "both"}},
            state={"store": "sqlite"},
        )
    )
    for id, state in (("a", "open"), ("b", "closed"), ("c", "open"), ("c", "automatic")):
        balancer.api("PUT", f"/admin/backends/{id}/breaker", {"state": state})
    balancer.api("PUT", "/admin/pools/default/breaker", {"state": "closed"})
    for _ in range(2):
        # The second start reads what the first one kept.
        balancer.restart()
        shown = balancer.api("GET", "/admin/pools/default/breaker")
        told = {id: (each["state"], each["held"]) for id, each in shown["backends"].items()}
        assert told == {"a": ("open", True), "b": ("closed", True), "c": ("closed", False)}
        assert shown["breaker"]["held"] is True
        assert shown["backends"]["a"]["reason"] == "held open by loopback"
        assert set(balancer.tally(6)) == {"b", "c"}
    balancer.api("DELETE", "/admin/backends/a")
    balancer.api("POST", "/admin/backends", {"id": "a", "url": a.url})
    balancer.restart()
    assert balancer.api("GET", "/admin/backends/a")["breaker"]["held"] is False


def test_somebody_holds_a_breaker_by_hand(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    a, b = origins("a", "b")
    balancer = start(evenflow, a, b, breaker={**AT_ONCE, "scope": "both"})
    answer = balancer.api("PUT", "/admin/backends/b/breaker", {"state": "open"})
    assert (answer["breaker"]["state"], answer["breaker"]["held"]) == ("open", True)
    assert answer["breaker"]["until"] is None
    assert balancer.tally(4) == {"a": 4}
    # Held closed, nothing opens it.
    balancer.api("PUT", "/admin/backends/b/breaker", {"state": "closed"})
    balancer.api("PUT", "/admin/pools/default/breaker", {"state": "closed"})
    b.default = respond(500)
    statuses = [balancer.request().status for _ in range(20)]
    assert statuses.count(500) == 10
    shown = balancer.api("GET", "/admin/pools/default/breaker")
    assert shown["backends"]["b"]["reason"].startswith("held closed by ")
    # Let go, it judges again.
    run = run_evenflow("backends", "breaker", "b", "automatic", "--url", balancer.url)
    assert run.returncode == 0, run.stderr
    assert "let go by loopback" in run.stdout
    for _ in range(6):
        balancer.request()
    wait_for_state(balancer, "b", "open")
    run = run_evenflow("pools", "breaker", "default", "open", "--url", balancer.url, "--json")
    assert json.loads(run.stdout)["breaker"]["held"] is True
    assert balancer.request().status == 503
    run = run_evenflow("pools", "breaker", "default", "--url", balancer.url)
    assert "by hand" in run.stdout
    entries = balancer.api("GET", "/admin/audit")["entries"]
    actions = [each["action"] for each in entries]
    assert actions.count("PUT /api/v1/admin/backends/{id}/breaker") == 3
    assert actions.count("PUT /api/v1/admin/pools/{name}/breaker") == 2
    assert {each["who"] for each in entries if "breaker" in each["action"]} == {"loopback"}
    for path, body, status in (
        ("backends/b", {"state": "ajar"}, 400),
        ("backends/b", {}, 400),
        ("backends/nobody", {"state": "open"}, 404),
        ("pools/nobody", {"state": "open"}, 404),
    ):
        balancer.api("PUT", f"/admin/{path}/breaker", body, expect=status)


def test_no_request_is_lost_while_a_breaker_opens_and_closes(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    rules = {"consecutive_errors": 5, "error_rate": 0, "open_for": "300ms"}
    balancer = start(
        evenflow,
        a,
        b,
        breaker=rules,
        load_balancer={"max_retries": 3, "retry_floor": 1000},
        server={"workers": 2},
    )
    with Load(balancer.port, connections=8) as load:
        for _ in range(2):
            load.wait_for_more(200)
            b.default = hang_up()
            wait_for_state(balancer, "b", "open")
            load.wait_for_more(200)
            b.default = respond(200, b"b")
            wait_for_state(balancer, "b", "closed")
    load.expect_no_failure()


def test_every_request_is_answered_while_a_pool_opens_and_closes(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    rules = {"scope": "pool", "consecutive_errors": 5, "open_for": "300ms"}
    balancer = start(evenflow, a, b, breaker=rules, server={"workers": 2})
    with Load(balancer.port, connections=8, accept=(200, 500, 503), pause_s=0.001) as load:
        for _ in range(2):
            load.wait_for_more(200)
            for origin in (a, b):
                origin.default = respond(500)
            wait_for_pool(balancer, "open")
            load.wait_for_more(200)
            for origin in (a, b):
                origin.default = respond(200, b"fine")
            wait_for_pool(balancer, "closed")
    load.expect_no_failure()
    assert load.statuses[503] > 100
    # Never more than were in flight when it opened, and the probes.
    assert load.statuses[500] < 100
