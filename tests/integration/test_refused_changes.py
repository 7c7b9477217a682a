"""A change that cannot be kept is refused, and everything goes on as if it had not been asked for."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from evenflow.testing import document, free_port, wait_for

if TYPE_CHECKING:
    from tests.conftest import StartEvenflow, StartOrigins


@pytest.mark.parametrize(
    ("method", "change"), [("DELETE", None), ("PATCH", {"url": "http://127.0.0.1:9"})]
)
def test_a_backend_that_checks_found_down_stays_down_after_a_refused_change(
    evenflow: StartEvenflow, origins: StartOrigins, method: str, change: dict[str, Any] | None
) -> None:
    (a,) = origins("a")
    dead = {"id": "dead", "url": f"http://127.0.0.1:{free_port()}"}
    balancer = evenflow(
        document(
            {"id": "a", "url": a.url},
            dead,
            load_balancer={"max_retries": 0},
            health_check={"enabled": True, "interval": "100ms", "path": "/"},
            state={"store": "sqlite", "path": "./state"},
        )
    )

    def shown() -> dict[str, Any]:
        found: dict[str, Any] = balancer.api("GET", "/admin/backends/dead")
        return found

    wait_for(lambda: shown()["status"] == "unhealthy", "the check finding it down")
    # No further check: what the engine knows is what the refused change left behind.
    balancer.api("PATCH", "/admin/config", {"health_check": {"interval": "1h"}})
    assert shown()["status"] == "unhealthy"
    database = balancer.directory / "state" / "evenflow.sqlite3"
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        balancer.api(method, "/admin/backends/dead", change, expect=503)
    assert shown()["status"] == "unhealthy"
    assert shown()["url"] == dead["url"]
    # Without retries, every request that is sent to it would fail.
    assert balancer.tally(20) == {"a": 20}
