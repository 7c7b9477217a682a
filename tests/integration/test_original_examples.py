"""Every command line of the original's guide, run as it stands.

Only the program's name and the host names differ: `./bin/load-balancer` is `evenflow`, `app1:8080`
and the like are origins on loopback.
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from evenflow.testing import document, free_port, request, run_evenflow, wait_for
from tests.conftest import program

if TYPE_CHECKING:
    from pathlib import Path

    from evenflow.testing import EvenflowProcess, Origin
    from tests.conftest import StartEvenflow, StartOrigins


def bash(script: str, port: int, directory: Path | None = None) -> str:
    """Run shell lines with the balancer's port in place of 8080; return their output."""
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace("localhost:8080", f"127.0.0.1:{port}")],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, f"{script}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


@pytest.fixture
def apps(origins: StartOrigins) -> list[Origin]:
    """The guide's application servers."""
    return origins("app1", "app2", "app3")


@pytest.fixture
def balancer(evenflow: StartEvenflow, apps: list[Origin]) -> EvenflowProcess:
    """The guide's balancer, configured by its environment alone."""
    urls = ",".join(app.url for app in apps[:2])
    return evenflow(env={"LB_BACKENDS": urls, "LB_STRATEGY": "round_robin"})


# Configuration and integration guide.


@pytest.mark.parametrize(
    ("strategy", "level"),
    [
        ("round_robin", "debug"),
        ("ip_hash", "debug"),
        ("weighted", "debug"),
        ("round_robin", "info"),
        ("round_robin", "warn"),
        ("round_robin", "error"),
    ],
)
def test_environment_variables_configure_it(
    evenflow: StartEvenflow, apps: list[Origin], strategy: str, level: str
) -> None:
    urls = ",".join(app.url for app in apps)
    balancer = evenflow(env={"LB_BACKENDS": urls, "LB_STRATEGY": strategy, "LB_LOG_LEVEL": level})
    config = balancer.api("GET", "/admin/config")
    assert config["load_balancer"]["strategy"] == strategy
    assert config["load_balancer"]["port"] == balancer.port
    assert config["logging"]["level"] == level
    served = balancer.tally(6)
    assert served == ({"app1": 2, "app2": 2, "app3": 2} if strategy != "ip_hash" else served)
    listed = balancer.api("GET", "/admin/backends")["backends"]
    assert [backend["id"] for backend in listed] == ["backend-1", "backend-2", "backend-3"]


def test_basic_http_service(balancer: EvenflowProcess) -> None:
    assert bash("curl -fsS http://localhost:8080", balancer.port) in ("app1\n", "app2\n")
    assert balancer.tally(10) == {"app1": 5, "app2": 5}


def test_api_gateway_by_path(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    users, orders, payments = origins("user-service", "order-service", "payment-service")
    balancer = evenflow(
        env={"LB_BACKENDS": f"{users.url}/users,{orders.url}/orders,{payments.url}/payments"}
    )
    curl = "curl -fsS http://localhost:8080"
    assert bash(f"{curl}/users/7", balancer.port) == "user-service\n"
    assert bash(f"{curl}/orders", balancer.port) == "order-service\n"
    assert bash(f"{curl}/payments/", balancer.port) == "payment-service\n"


# The guide's read replicas are test_databases.py's, with PostgreSQL itself.


# Admin API.


def test_listing_backends(balancer: EvenflowProcess, apps: list[Origin]) -> None:
    said = json.loads(bash("curl -fsS http://localhost:8080/api/v1/admin/backends", balancer.port))
    first = said["backends"][0]
    assert (first["id"], first["url"], first["weight"]) == ("backend-1", apps[0].url, 100)
    assert first["status"] in ("healthy", "unknown")
    assert first["active_connections"] == 0


def test_adding_and_removing_a_backend(balancer: EvenflowProcess, apps: list[Origin]) -> None:
    added = bash(
        f"""
        curl -fsS -X POST http://localhost:8080/api/v1/admin/backends \\
          -H "Content-Type: application/json" \\
          -d '{{
            "id": "api-server-3",
            "url": "{apps[2].url}",
            "weight": 150,
            "health_check_path": "/health"
          }}'
        """,
        balancer.port,
    )
    assert json.loads(added)["id"] == "api-server-3"
    assert balancer.tally(9) == {"app1": 3, "app2": 3, "app3": 3}
    bash(
        "curl -fsS -X DELETE http://localhost:8080/api/v1/admin/backends/api-server-3",
        balancer.port,
    )
    assert balancer.tally(4) == {"app1": 2, "app2": 2}


def test_adding_a_backend_without_saying_that_it_is_json(
    balancer: EvenflowProcess, apps: list[Origin]
) -> None:
    bash(
        f"""
        curl -fsS -X POST http://localhost:8080/api/v1/admin/backends \\
          -d '{{"id":"new-server","url":"{apps[2].url}","weight":150}}'
        """,
        balancer.port,
    )
    assert balancer.tally(3) == {"app1": 1, "app2": 1, "app3": 1}


def test_a_rolling_update(balancer: EvenflowProcess, apps: list[Origin]) -> None:
    for number, app in enumerate(apps[:2], 1):
        bash(
            f"""
            server=backend-{number}
            curl -fsS -X DELETE http://localhost:8080/api/v1/admin/backends/$server
            curl -fsS -X POST http://localhost:8080/api/v1/admin/backends \\
              -d '{{"id":"'$server'","url":"{app.url}"}}'
            """,
            balancer.port,
        )
    assert balancer.tally(4) == {"app1": 2, "app2": 2}


def test_changing_the_strategy(balancer: EvenflowProcess) -> None:
    bash(
        """
        curl -fsS -X PUT http://localhost:8080/api/v1/admin/config \\
          -H "Content-Type: application/json" \\
          -d '{"load_balancer": {"strategy": "weighted"}}'
        """,
        balancer.port,
    )
    config = json.loads(bash("curl -fsS http://localhost:8080/api/v1/admin/config", balancer.port))
    assert config["load_balancer"]["strategy"] == "weighted"
    assert config["load_balancer"]["max_retries"] == 3
    assert config["load_balancer"]["port"] == balancer.port
    assert "metrics" in config


def test_statistics(balancer: EvenflowProcess) -> None:
    balancer.tally(10)
    said = json.loads(bash("curl -fsS http://localhost:8080/api/v1/admin/stats", balancer.port))
    assert (said["total_requests"], said["total_errors"]) == (10, 0)
    assert said["average_response_time"].endswith("ms")
    assert isinstance(said["requests_per_second"], int | float)
    assert set(said["backend_stats"]) == {"backend-1", "backend-2"}


def test_a_graceful_restart_with_a_signal(
    evenflow: StartEvenflow, apps: list[Origin], tmp_path: Path
) -> None:
    file = tmp_path / "evenflow.yaml"
    file.write_text(f"backends: [{{url: '{apps[0].url}'}}, {{url: '{apps[1].url}'}}]\n")
    balancer = evenflow(args=["--config", str(file)])
    file.write_text(f"backends: [{{url: '{apps[2].url}'}}]\n")
    bash(f"kill -HUP {balancer.pid}", balancer.port)
    wait_for(lambda: balancer.tally(2) == {"app3": 2}, "the new backends in force")


def test_backup_and_restore(balancer: EvenflowProcess, tmp_path: Path) -> None:
    bash(
        """
        curl -fsS http://localhost:8080/api/v1/admin/config > config-backup-$(date +%Y%m%d).json
        curl -fsS http://localhost:8080/api/v1/admin/backends > backends-backup-$(date +%Y%m%d).json
        """,
        balancer.port,
        tmp_path,
    )
    bash("curl -fsS -X DELETE http://localhost:8080/api/v1/admin/backends/backend-1", balancer.port)
    assert balancer.tally(2) == {"app2": 2}
    bash(
        """
        BACKUP_DATE=$(date +%Y%m%d)
        curl -fsS -X POST http://localhost:8080/api/v1/admin/backends/restore \\
          -d @backends-backup-${BACKUP_DATE}.json
        curl -fsS -X PUT http://localhost:8080/api/v1/admin/config \\
          -d @config-backup-${BACKUP_DATE}.json
        """,
        balancer.port,
        tmp_path,
    )
    assert balancer.tally(4) == {"app1": 2, "app2": 2}


# API reference.


def test_health(balancer: EvenflowProcess, apps: list[Origin]) -> None:
    said = json.loads(bash("curl -fsS http://localhost:8080/health", balancer.port))
    assert said["status"] == "healthy"
    assert (said["total_backends"], said["healthy_backends"]) == (2, 2)
    assert said["timestamp"].endswith("Z")
    assert len(said["timestamp"]) == len("2025-08-03T15:04:40.683Z")


def test_detailed_health(balancer: EvenflowProcess) -> None:
    balancer.tally(4)
    said = json.loads(bash("curl -fsS http://localhost:8080/api/v1/health", balancer.port))
    assert (said["success_rate"], said["total_requests"], said["total_errors"]) == (100.0, 4, 0)
    assert len(said["backends"]) == 2


def test_metrics(balancer: EvenflowProcess) -> None:
    balancer.tally(2)
    said = bash("curl -fsS http://localhost:8080/metrics", balancer.port)
    assert 'http_requests_total{status="200"' in said


def test_documentation(balancer: EvenflowProcess) -> None:
    assert "swagger" in bash("curl -fsSL http://localhost:8080/docs/", balancer.port).lower()


# Troubleshooting.


def test_debug_logging(evenflow: StartEvenflow, apps: list[Origin]) -> None:
    balancer = evenflow(env={"LB_BACKENDS": apps[0].url, "LB_LOG_LEVEL": "debug"})
    wait_for(
        lambda: any(event.get("level") == "debug" for event in balancer.events()),
        "a debug event",
        describe=balancer.output,
    )


def test_a_refused_connection_is_explained(evenflow: StartEvenflow) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    balancer = evenflow(env={"LB_BACKENDS": dead, "LB_HEALTH_CHECK__INTERVAL": "100ms"})
    balancer.wait_for_status("backend-1", "unhealthy")
    said = json.loads(bash("curl -sS http://localhost:8080/api/v1/admin/backends", balancer.port))
    assert "refused" in said["backends"][0]["reason"]
    assert request(balancer.port, "GET", "/health").status == 503


def test_checking_a_backend_and_the_checks_settings(
    balancer: EvenflowProcess, apps: list[Origin]
) -> None:
    bash(f"curl -v -fsS {apps[0].url}/health", balancer.port)
    said = bash(
        "curl -fsS http://localhost:8080/api/v1/admin/config"
        " | python3 -c 'import json, sys; print(json.load(sys.stdin)[\"health_check\"])'",
        balancer.port,
    )
    for value in ("30s", "5s", "/health"):
        assert value in said


@pytest.mark.parametrize("profile", ["heap", "profile?seconds=1", "goroutine"])
def test_go_tool_pprof_reads_the_profiles(
    balancer: EvenflowProcess, tmp_path: Path, profile: str
) -> None:
    ran = subprocess.run(
        [program("go", "golang"), "tool", "pprof", "-top", f"{balancer.url}/debug/pprof/{profile}"],
        env={**os.environ, "PPROF_TMPDIR": str(tmp_path), "GOFLAGS": "-mod=mod"},
        capture_output=True,
        text=True,
        # Go builds the tool when it is first asked for.
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "flat%" in ran.stdout, ran.stdout + ran.stderr


def test_the_configuration_is_checked_before_it_is_used(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(json.dumps(document("http://127.0.0.1:1")))
    bad.write_text("backends:\n  - id: a\n    url: http://127.0.0.1:1\n    wieght: 3\n")
    assert run_evenflow("check", str(good)).returncode == 0
    refused = run_evenflow("check", str(bad))
    assert refused.returncode == 2
    said = refused.stdout + refused.stderr
    assert "wieght" in said
    assert "weight" in said
    assert "4" in said
