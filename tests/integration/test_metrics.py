"""The metrics page: accepted by promtool, complete from the start, and true."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from evenflow.testing import document, wait_for
from evenflow.testing.behaviours import hang_up, respond
from tests.conftest import program

if TYPE_CHECKING:
    from evenflow.testing import EvenflowProcess
    from tests.conftest import StartEvenflow, StartOrigins

PROMISED = [
    "http_requests_total",
    "evenflow_requests_total",
    "evenflow_request_duration_seconds_bucket",
    "evenflow_backend_duration_seconds_bucket",
    "evenflow_backend_up",
    "evenflow_backend_active_connections",
    "evenflow_backend_errors_total",
    "evenflow_health_checks_total",
    "evenflow_retries_total",
    "evenflow_ejections_total",
    "evenflow_queue_length",
    "evenflow_connections",
    "evenflow_config_applies_total",
    "evenflow_config_revision",
    "evenflow_worker_busy_ratio",
    "evenflow_build_info",
]


def names(balancer: EvenflowProcess) -> set[str]:
    """Return the names of all samples."""
    return {name.partition("{")[0] for name in balancer.metrics()}


def test_promtool_accepts_the_page(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    promtool = program("promtool", "prometheus")
    a, b = origins("a", "b")
    b.default = hang_up()
    balancer = evenflow(document(a.url, b.url, health_check={"enabled": True, "interval": "100ms"}))
    for path in ("/", "/x", '/"quoted"'):
        balancer.request(target=path)
    balancer.request(headers=[("Host", "a b")])
    page = balancer.request(target="/metrics")
    assert (page.header("content-type") or "").startswith("text/plain; version=0.0.4")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=page.body, capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_openmetrics_is_given_to_who_asks(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (a,) = origins("a")
    balancer = evenflow(document(a.url))
    page = balancer.request(
        target="/metrics", headers=[("Accept", "application/openmetrics-text; version=1.0.0")]
    )
    assert (page.header("content-type") or "").startswith("application/openmetrics-text")
    assert page.text.endswith("# EOF\n")


def test_every_series_is_there_before_the_first_request(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    balancer = evenflow(document({"id": "app-1", "url": a.url}))
    found = names(balancer)
    assert [name for name in PROMISED if name not in found] == []
    of_backend = [n for n in balancer.metrics() if 'backend="app-1"' in n]
    assert any(n.startswith("evenflow_requests_total") for n in of_backend)


def test_requests_are_counted_where_they_went(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    b.default = respond(404)
    balancer = evenflow(
        document({"id": "a", "url": a.url}, {"id": "b", "url": b.url}, server={"workers": 2})
    )
    for _ in range(10):
        balancer.request()
    balancer.request("POST", body=b"x")
    balancer.request(target="/" + "a" * 9000)
    metrics = balancer.metrics()

    def requests(backend: str, status: int) -> float:
        return sum(
            value
            for name, value in metrics.items()
            if name.startswith("evenflow_requests_total{")
            and f'backend="{backend}"' in name
            and f'status="{status}"' in name
        )

    assert requests("a", 200) + requests("b", 404) == 11
    assert {requests("a", 200), requests("b", 404)} == {5, 6}
    by_status = {
        status: sum(
            value
            for name, value in metrics.items()
            if name.startswith("http_requests_total{") and f'status="{status}"' in name
        )
        for status in (200, 404, 414)
    }
    assert by_status[200] + by_status[404] == 11
    assert by_status[414] == 1
    count = 'evenflow_request_duration_seconds_count{route="default"}'
    assert metrics[count] == 11


def test_the_series_of_a_removed_backend_go_away(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    balancer = evenflow(document({"id": "a", "url": a.url}, {"id": "b", "url": b.url}))
    balancer.tally(4)
    assert any('backend="b"' in name for name in balancer.metrics())
    balancer.api("DELETE", "/admin/backends/b")
    wait_for(
        lambda: not any('backend="b"' in name for name in balancer.metrics()),
        "the series being gone",
    )


def test_failures_of_backends_are_counted_by_kind(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    balancer = evenflow(document({"id": "a", "url": a.url}, load_balancer={"max_retries": 0}))
    a.enqueue(hang_up(), respond(500), hang_up(after_head=b"nonsense\r\n\r\n"))
    for _ in range(3):
        balancer.request("POST", body=b"x")
    a.stop()
    balancer.request("POST", body=b"x")
    metrics = balancer.metrics()
    errors = {
        kind: metrics[f'evenflow_backend_errors_total{{pool="default",backend="a",kind="{kind}"}}']
        for kind in ("connect", "reset", "protocol", "status_5xx")
    }
    assert errors == {"connect": 1, "reset": 1, "protocol": 1, "status_5xx": 1}


def test_health_checks_are_counted_by_result(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    balancer = evenflow(
        document({"id": "a", "url": a.url}, health_check={"enabled": True, "interval": "50ms"})
    )

    def checks(result: str) -> float:
        return sum(
            value
            for name, value in balancer.metrics().items()
            if name.startswith("evenflow_health_checks_total{") and f'"{result}"' in name
        )

    results = {
        name.partition('result="')[2].partition('"')[0]
        for name in balancer.metrics()
        if name.startswith("evenflow_health_checks_total{")
    }
    assert len(results) >= 2
    wait_for(lambda: sum(checks(result) for result in results) >= 3, "three checks")
    assert balancer.metrics()['evenflow_backend_up{pool="default",backend="a"}'] == 1
    a.set_healthy(False)
    balancer.wait_for_status("a", "unhealthy")
    assert balancer.metrics()['evenflow_backend_up{pool="default",backend="a"}'] == 0
