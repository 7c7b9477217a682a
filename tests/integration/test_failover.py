"""Backends that die, fall ill and come back, while clients keep asking."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from evenflow.testing import Load, OriginProcess, document, free_port, wait_for
from evenflow.testing.behaviours import hang_up, respond

if TYPE_CHECKING:
    from tests.conftest import StartEvenflow, StartOrigins

QUICK_CHECKS = {
    "enabled": True,
    "interval": "100ms",
    "timeout": "1s",
    "healthy_threshold": 2,
    "unhealthy_threshold": 3,
}


def test_killing_a_backend_under_load_fails_no_idempotent_request(
    evenflow: StartEvenflow,
) -> None:
    with contextlib.ExitStack() as stack:
        a, b, c = (stack.enter_context(OriginProcess(name)) for name in "abc")
        balancer = evenflow(
            document(
                *({"id": o.name, "url": o.url} for o in (a, b, c)),
                load_balancer={"outlier": {"base_ejection": "500ms"}},
                health_check=QUICK_CHECKS,
                server={"workers": 2},
            )
        )
        with Load(balancer.port, connections=8) as load:
            load.wait_for_more(500)
            b.kill()
            load.wait_for_more(500)
            balancer.wait_for_status("b", "unhealthy", "ejected")
            load.wait_for_more(200)
            b.start()
            balancer.wait_for_status("b", "healthy")
            served = load.bodies[b"b\n"]
            wait_for(lambda: load.bodies[b"b\n"] > served + 50, "requests at the backend again")
        load.expect_no_failure()


def test_a_backend_that_fails_its_checks_gets_nothing_until_it_is_well(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    balancer = evenflow(
        document({"id": "a", "url": a.url}, {"id": "b", "url": b.url}, health_check=QUICK_CHECKS)
    )
    assert balancer.tally(10) == {"a": 5, "b": 5}
    b.set_healthy(False)
    balancer.wait_for_status("b", "unhealthy")
    assert balancer.tally(10) == {"a": 10}
    listed = {x["id"]: x for x in balancer.api("GET", "/admin/backends")["backends"]}
    assert "503" in listed["b"]["reason"]
    assert listed["b"]["since"]
    b.set_healthy(True)
    balancer.wait_for_status("b", "healthy")
    wait_for(lambda: balancer.tally(10) == {"a": 5, "b": 5}, "equal shares again")


def test_the_first_check_decides_at_once(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    a, b = origins("a", "b")
    b.set_healthy(False)
    slow_checks = {"enabled": True, "interval": "1h", "unhealthy_threshold": 3}
    balancer = evenflow(
        document({"id": "a", "url": a.url}, {"id": "b", "url": b.url}, health_check=slow_checks)
    )
    balancer.wait_for_status("b", "unhealthy")
    balancer.wait_for_status("a", "healthy")
    assert balancer.tally(10) == {"a": 10}


def test_checks_ask_for_what_is_configured(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (a,) = origins("a", health_path="/ready?deep=1".partition("?")[0])
    a.health = respond(207, b"all is well here")
    balancer = evenflow(
        document(
            {"id": "a", "url": a.url},
            health_check={
                **QUICK_CHECKS,
                "path": "/ready?deep=1",
                "host": "app.test",
                "headers": {"X-Probe": "1"},
                "expect_status": [207],
                "expect_body": "is well",
            },
        )
    )
    balancer.wait_for_status("a", "healthy")
    check = a.health_checks[0]
    assert check.target == "/ready?deep=1"
    assert check.head.all("host") == ["app.test"]
    assert check.header("x-probe") == "1"
    a.health = respond(207, b"all is lost")
    balancer.wait_for_status("a", "unhealthy")


def test_a_backend_that_keeps_failing_requests_is_ejected_without_checks(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    b.default = respond(500)
    outlier = {"consecutive_errors": 5, "base_ejection": "1s", "max_ejected": 0.5}
    balancer = evenflow(
        document(
            {"id": "a", "url": a.url},
            {"id": "b", "url": b.url},
            load_balancer={"outlier": outlier},
        )
    )
    for _ in range(20):
        balancer.request()
    assert 5 <= len(b.requests) <= 6
    balancer.wait_for_status("b", "ejected")
    b.forget()
    balancer.wait_for_status("b", "healthy", "unknown")
    wait_for(lambda: balancer.tally(10) == {"a": 5, "b": 5}, "equal shares again")


@pytest.mark.parametrize("early", [True, False])
def test_an_ejected_backend_that_passes_a_check_is_taken_back(
    evenflow: StartEvenflow, origins: StartOrigins, *, early: bool
) -> None:
    a, b = origins("a", "b")
    b.default = respond(500)
    outlier = {"consecutive_errors": 1, "base_ejection": "60s", "unejected_by_check": early}
    balancer = evenflow(
        document(
            {"id": "a", "url": a.url},
            {"id": "b", "url": b.url},
            load_balancer={"outlier": outlier},
            health_check=QUICK_CHECKS | {"interval": "200ms"},
        )
    )
    for _ in range(4):
        balancer.request()
    balancer.wait_for_metric('evenflow_ejections_total{pool="default"}', 1)
    b.forget()
    if early:
        wait_for(lambda: balancer.tally(10) == {"a": 5, "b": 5}, "equal shares again")
    else:
        checks = 'evenflow_health_checks_total{pool="default",backend="b",result="passed"}'
        balancer.wait_for_metric(checks, balancer.metrics()[checks] + 3)
        assert balancer.tally(10) == {"a": 10}


def test_ejection_never_takes_more_than_its_share(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    started = origins("a", "b", "c", "d")
    for origin in started:
        origin.default = respond(500)
    balancer = evenflow(
        document(
            *({"id": o.name, "url": o.url} for o in started),
            load_balancer={"outlier": {"consecutive_errors": 2, "max_ejected": 0.5}},
        )
    )
    for _ in range(60):
        assert balancer.request().status == 500
    listed = balancer.api("GET", "/admin/backends")["backends"]
    assert sum(b["status"] == "ejected" for b in listed) == 2


def test_without_a_usable_backend_requests_are_503(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    a.set_healthy(False)
    balancer = evenflow(document({"id": "a", "url": a.url}, health_check=QUICK_CHECKS))
    balancer.wait_for_status("a", "unhealthy")
    assert balancer.request().status == 503
    assert balancer.request(target="/health").status == 503
    assert not a.requests


def test_panic_mode_uses_all_when_none_is_usable(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    balancer = evenflow(
        document(
            {"id": "a", "url": a.url},
            {"id": "b", "url": b.url},
            load_balancer={"panic": {"mode": "use_all"}},
            health_check=QUICK_CHECKS,
        )
    )
    a.set_healthy(False)
    balancer.wait_for_status("a", "unhealthy")
    assert balancer.tally(10) == {"b": 10}
    b.set_healthy(False)
    balancer.wait_for_status("b", "unhealthy")
    wait_for(
        lambda: balancer.tally(10) == {"a": 5, "b": 5},
        "both backends being used",
        timeout_s=5,
        describe=lambda: str(dict(balancer.tally(10))),
    )


@pytest.mark.parametrize("mode", ["use_all", "fail"])
def test_panic_mode_applies_while_too_few_are_usable(
    evenflow: StartEvenflow, origins: StartOrigins, mode: str
) -> None:
    servers = origins("a", "b", "c", "d")
    balancer = evenflow(
        document(
            *({"id": origin.name, "url": origin.url} for origin in servers),
            load_balancer={"panic": {"below": 0.5, "mode": mode}},
            health_check=QUICK_CHECKS,
        )
    )
    for origin in servers[:2]:
        origin.set_healthy(False)
        balancer.wait_for_status(origin.name, "unhealthy")
    assert set(balancer.tally(10)) == {"c", "d"}, "half is enough"
    servers[2].set_healthy(False)
    gauge = 'evenflow_pool_panic{pool="default"}'
    balancer.wait_for_metric(gauge, 1)
    (event,) = balancer.api("GET", "/admin/decisions?kind=panic")["decisions"]
    assert (event["event"], event["pool"]) == ("panic", "default")
    if mode == "use_all":
        assert set(balancer.tally(20)) == {"a", "b", "c", "d"}
    else:
        assert balancer.request().status == 503
        explained = balancer.api("POST", "/admin/explain", {"target": "/"})
        assert (explained["backend"], explained["reason"]) == (
            None,
            "too few endpoints are usable: it would be refused",
        )
        assert balancer.metrics()['evenflow_errors_total{reason="too_few_backends"}'] == 1
    servers[2].set_healthy(True)
    balancer.wait_for_status("c", "healthy")
    wait_for(lambda: not balancer.metrics()[gauge], "the end of the panic")
    assert set(balancer.tally(10)) == {"c", "d"}


def test_ejections_count_for_the_share_that_panic_looks_at(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    bad, good = origins("bad", "good")
    bad.default = respond(status=500)
    balancer = evenflow(
        document(
            {"id": "bad", "url": bad.url},
            {"id": "good", "url": good.url},
            load_balancer={
                "panic": {"below": 0.6},
                "outlier": {"consecutive_errors": 1, "base_ejection": "60s"},
            },
        )
    )
    for _ in range(2):
        balancer.request()
    balancer.wait_for_status("bad", "ejected")
    balancer.wait_for_metric('evenflow_pool_panic{pool="default"}', 1)
    assert balancer.request().status == 503


def test_health_survives_a_reload_that_keeps_the_backend(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    b.set_healthy(False)
    slow_checks = {"enabled": True, "interval": "1h"}
    balancer = evenflow(
        document({"id": "a", "url": a.url}, {"id": "b", "url": b.url}, health_check=slow_checks)
    )
    balancer.wait_for_status("b", "unhealthy")
    checks = len(b.health_checks)
    balancer.api("PUT", "/admin/config", {"load_balancer": {"max_retries": 1}})
    balancer.api("PATCH", "/admin/backends/b", {"weight": 50})
    balancer.wait_for_status("b", "unhealthy")
    assert balancer.tally(10) == {"a": 10}
    assert len(b.health_checks) == checks


def test_a_backend_that_is_not_there_is_found_when_it_comes(evenflow: StartEvenflow) -> None:
    port = free_port()
    balancer = evenflow(
        document({"id": "late", "url": f"http://127.0.0.1:{port}"}, health_check=QUICK_CHECKS)
    )
    balancer.wait_for_status("late", "unhealthy")
    with OriginProcess("late", port=port):
        balancer.wait_for_status("late", "healthy")
        assert balancer.tally(3) == {"late": 3}


def test_a_stale_upstream_connection_is_replaced_unnoticed(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a", requests_per_connection=3)
    balancer = evenflow(document({"id": "a", "url": a.url}))
    with Load(balancer.port, connections=4) as load:
        load.wait_for_more(300)
        for _ in range(10):
            a.reset_connections()
            load.wait_for_more(20)
    load.expect_no_failure()


def test_a_backend_that_hangs_up_on_everything_is_502(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a", default=hang_up())
    balancer = evenflow(document({"id": "a", "url": a.url}))
    assert balancer.request().status == 502
