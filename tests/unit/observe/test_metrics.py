"""The metrics page."""

from __future__ import annotations

import re
import subprocess
import time

from evenflow.observe.exposition import escaped, labels
from evenflow.observe.metrics import FULL_BUCKETS_UP_TO, BusyRatios, View, render
from evenflow.observe.process import process_usage
from tests.conftest import program

from .conftest import snapshot_of


def page(*names: str, openmetrics: bool = False) -> str:
    view = View(
        snapshot=snapshot_of(*names),
        process=process_usage(),
        version="1.2.3",
        python="3.11",
        route_pools={"default": ["default"], "idle": ["default"]},
        health_checks={("default", names[0]): (3, 1)},
        applies={"ok": 7},
        busy_ratios={0: 0.25},
    )
    return "".join(render(view, openmetrics=openmetrics))


def test_every_series_of_the_interface_is_there() -> None:
    text = page("a", "b")
    for line in (
        'http_requests_total{status="200",method="GET"} 14',
        'evenflow_requests_total{route="default",pool="default",backend="a",status="200"} 5',
        'evenflow_requests_total{route="default",pool="",backend="",status="503"} 2',
        'evenflow_request_duration_seconds_count{route="default"} 14',
        'evenflow_backend_duration_seconds_count{pool="default",backend="a",phase="total"} 5',
        'evenflow_backend_up{pool="default",backend="a"} 1',
        'evenflow_backend_active_connections{pool="default",backend="a"} 1',
        'evenflow_backend_errors_total{pool="default",backend="a",kind="status_5xx"} 5',
        'evenflow_health_checks_total{pool="default",backend="a",result="passed"} 3',
        'evenflow_health_checks_total{pool="default",backend="a",result="failed"} 1',
        'evenflow_retries_total{pool="default",reason="connect"} 1',
        'evenflow_ejections_total{pool="default"} 6',
        'evenflow_queue_length{pool="default"} 4',
        'evenflow_limited_total{filter="security"} 8',
        'evenflow_connections{listener="main"} 3',
        'evenflow_config_applies_total{result="ok"} 7',
        'evenflow_config_applies_total{result="failed"} 0',
        "evenflow_config_revision 7",
        'evenflow_worker_busy_ratio{worker="0"} 0.25',
        'evenflow_worker_restarts_total{worker="0"} 2',
        'evenflow_worker_panics_total{worker="0"} 3',
        'evenflow_build_info{version="1.2.3",python="3.11"} 1',
        'evenflow_access_log_records_total{result="dropped"} 1',
        "evenflow_buffer_bytes 4096",
        "evenflow_buffer_limit_bytes 1073741824",
        'evenflow_errors_total{reason="no_backend"} 2',
    ):
        assert f"\n{line}\n" in text, line
    for name in ("resident_memory_bytes", "cpu_seconds_total", "open_fds", "start_time_seconds"):
        assert f"\nprocess_{name} " in text


def test_series_exist_before_the_first_request() -> None:
    text = page("a", "b")
    assert 'requests_total{route="default",pool="default",backend="b",status="200"} 0\n' in text
    assert 'requests_total{route="idle",pool="default",backend="a",status="200"} 0\n' in text
    assert 'evenflow_request_duration_seconds_count{route="idle"} 0\n' in text
    assert 'evenflow_health_checks_total{pool="default",backend="b",result="passed"} 0\n' in text


def test_a_removed_backend_and_the_balancers_own_pool_have_no_series() -> None:
    text = page("a")
    assert "gone" not in text
    assert "evenflow-admin" not in text


def test_buckets_are_cumulative() -> None:
    name = "evenflow_request_duration_seconds_bucket"
    text = page("a")
    assert f'{name}{{route="default",le="0.001"}} 0\n' in text
    assert f'{name}{{route="default",le="0.0025"}} 14\n' in text
    assert f'{name}{{route="default",le="+Inf"}} 14\n' in text


def test_no_series_appears_twice() -> None:
    series = [line.rpartition(" ")[0] for line in page("a", "b").splitlines() if line[0] != "#"]
    assert len(series) == len(set(series))


def test_openmetrics_names_families_without_the_suffix_and_ends() -> None:
    text = page("a", openmetrics=True)
    assert "# TYPE http_requests counter\nhttp_requests_total{" in text
    assert text.endswith("# EOF\n")


def test_label_values_are_escaped() -> None:
    assert escaped('a"b\\c\nd') == r"a\"b\\c\nd"
    assert labels(pool='x"') == r'pool="x\""'


def test_promtool_finds_nothing_wrong() -> None:
    promtool = program("promtool", "prometheus")
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=page("a", "b"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_ten_thousand_backends_are_rendered_within_a_second() -> None:
    names = [f"backend-{number}" for number in range(10_000)]
    began = time.process_time()
    text = page(*names)
    assert time.process_time() - began < 1
    assert 'evenflow_backend_up{pool="default",backend="backend-9999"} 1\n' in text


def test_many_backends_keep_sum_and_count_but_one_bucket() -> None:
    text = page(*(f"n{number}" for number in range(FULL_BUCKETS_UP_TO + 1)))
    lines = re.findall(r'evenflow_backend_duration_seconds_bucket\{.*backend="n0".*', text)
    assert len(lines) == 3
    assert all('le="+Inf"' in line for line in lines)
    assert 'duration_seconds_count{pool="default",backend="n0",phase="total"} 5\n' in text


def test_busy_ratios_are_taken_between_two_pages() -> None:
    ratios = BusyRatios()
    snapshot = snapshot_of("a")
    assert ratios.update(snapshot) == {0: 0.25}
    snapshot["uptime_s"], snapshot["workers"] = (
        12.0,
        [{"id": 0, "busy_s": 4.5, "restarts": 0, "panics": 0}],
    )
    assert ratios.update(snapshot) == {0: 1.0}
    snapshot["uptime_s"] = 12.5
    assert ratios.update(snapshot) == {0: 1.0}
