"""The health pages."""

from __future__ import annotations

import asyncio
import re

import pytest

from evenflow.controller import Controller, Verdict

from .conftest import Admin

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def mark_down(controller: Controller, *ids: str) -> None:
    for name in ids:
        controller.set_verdict(("default", name), Verdict("unhealthy", "refused", since=1.0))


async def test_health_is_healthy_while_one_backend_is_usable(admin: Admin) -> None:
    mark_down(admin.controller, "a")
    document = await admin.json("GET", "/health")
    assert TIMESTAMP.fullmatch(document.pop("timestamp"))
    assert document == {"status": "healthy", "total_backends": 2, "healthy_backends": 1}


async def test_health_is_503_when_no_backend_is_usable(admin: Admin) -> None:
    mark_down(admin.controller, "a", "b")
    document = await admin.json("GET", "/health", status=503)
    assert (document["status"], document["healthy_backends"]) == ("unhealthy", 0)
    assert (await admin.json("GET", "/health/ready", status=503))["status"] == "not ready"
    assert (await admin.json("GET", "/health/live"))["status"] == "alive"


async def test_health_asks_the_engine_nothing(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot of thousands of backends takes longer than a balancer in front may wait."""

    def refuse() -> None:
        raise AssertionError("a snapshot was taken")

    monkeypatch.setattr(admin.engine, "snapshot", refuse)
    assert (await admin.json("GET", "/health"))["healthy_backends"] == 2
    assert (await admin.json("GET", "/health/ready"))["status"] == "ready"


async def test_health_is_open_to_strangers(admin: Admin) -> None:
    headers = {"evenflow-client": "8.8.8.8", "x-forwarded-for": "1.2.3.4"}
    for path in ("/health", "/health/live", "/health/ready"):
        assert (await admin.http.get(path, headers=headers)).status_code == 200
    assert (await admin.http.get("/api/v1/health", headers=headers)).status_code == 401


async def test_detailed_health_has_traffic_and_every_backend(admin: Admin) -> None:
    admin.engine.count("default", "a", requests=10)
    document = await admin.json("GET", "/api/v1/health")
    assert document["total_requests"] == 10
    assert document["success_rate"] == 100.0
    assert [backend["id"] for backend in document["backends"]] == ["a", "b"]
    assert document["last_reload_error"] is None


async def test_head_answers_without_a_body(admin: Admin) -> None:
    response = await admin.http.head("/health")
    assert (response.status_code, response.content) == (200, b"")
    assert int(response.headers["content-length"]) > 10


async def test_a_worker_that_was_restarted_is_reported(admin: Admin) -> None:
    before = await admin.json("GET", "/api/v1/health")
    assert before["workers"] == {
        "restarts": 0,
        "panics": 0,
        "last_restart_at": None,
        "last_restart_reason": None,
    }
    admin.controller.start_background()
    admin.engine.emit({"kind": "worker_restarted", "worker": 1, "reason": "index out of bounds"})
    for _ in range(500):
        if admin.controller.worker_restarts.count:
            break
        await asyncio.sleep(0.01)
    assert (await admin.json("GET", "/health"))["worker_restarts"] == 1
    workers = (await admin.json("GET", "/api/v1/health"))["workers"]
    assert TIMESTAMP.fullmatch(workers.pop("last_restart_at"))
    assert workers == {"restarts": 1, "panics": 0, "last_restart_reason": "index out of bounds"}
    told = await admin.json("GET", "/api/v1/admin/decisions?kind=worker")
    assert [(entry["event"], entry["worker"]) for entry in told["decisions"]] == [
        ("worker restarted", 1)
    ]
