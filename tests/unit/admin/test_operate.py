"""Statistics, decisions, events, explain, reload, log level."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from evenflow.config import Config, ConfigError, Problem, read_document

from .conftest import Admin, StartAdmin, two_backends

ADMIN = "/api/v1/admin"


async def test_statistics_have_the_fields_of_the_original(admin: Admin) -> None:
    admin.engine.count("default", "a", requests=4)
    document = await admin.json("GET", f"{ADMIN}/stats")
    assert document["total_requests"] == 4
    assert document["backend_stats"]["a"]["total_requests"] == 4
    assert document["average_response_time"].endswith("ms")
    assert isinstance(document["requests_per_second"], float)
    assert isinstance(document["total_errors"], int)
    assert document["process"]["cpu_seconds"] > 0


async def test_decisions_are_listed_with_their_reasons(admin: Admin) -> None:
    await admin.json("DELETE", f"{ADMIN}/backends/a")
    admin.controller.decisions.record("health", "backend unhealthy", "refused", backend="b")
    document = await admin.json("GET", f"{ADMIN}/decisions?kind=health")
    (decision,) = document["decisions"]
    assert (decision["reason"], decision["backend"]) == ("refused", "b")
    assert decision["time"].endswith("Z")
    last = await admin.json("GET", f"{ADMIN}/decisions?limit=1")
    assert last["decisions"] == [decision]
    later = await admin.json("GET", f"{ADMIN}/decisions?since={decision['id']}")
    assert later["decisions"] == []
    assert (await admin.json("GET", f"{ADMIN}/decisions?limit=0"))["decisions"] == []
    await admin.json("GET", f"{ADMIN}/decisions?limit=x", status=400)


async def events(admin: Admin, number: int, path: str = "", **headers: str) -> list[dict[str, Any]]:
    """The first events of a stream, each as its fields."""
    found: list[dict[str, Any]] = []
    async with (
        asyncio.timeout(10),
        admin.http.stream("GET", f"{ADMIN}/events{path}", headers=headers) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        fields: dict[str, Any] = {}
        async for line in response.aiter_lines():
            name, _, value = line.partition(": ")
            if name and name != "":
                fields[name] = value
            elif "data" in fields:
                found.append({**fields, "data": json.loads(fields["data"])})
                fields = {}
            if not line and not found and number:
                admin.controller.decisions.record("panic", "panic", "all down", pool="default")
            if len(found) == number:
                return found
    return found


async def test_events_are_sent_as_decisions_are_made(admin: Admin) -> None:
    (event,) = await events(admin, 1)
    assert event["event"] == "panic"
    assert event["data"]["reason"] == "all down"
    assert event["data"]["id"] == int(event["id"])


async def test_a_client_that_comes_back_gets_what_it_missed(admin: Admin) -> None:
    admin.controller.decisions.record("health", "backend unhealthy", "refused")
    first = await events(admin, 2, "?since=0")
    assert [event["event"] for event in first] == ["apply", "health"]
    missed = await events(admin, 1, **{"last-event-id": first[0]["id"]})
    assert missed[0]["id"] == first[1]["id"]


async def test_an_explanation_says_where_a_request_would_go(admin: Admin) -> None:
    document = await admin.json("POST", f"{ADMIN}/explain", {"url": "http://h/users/7?x=1"})
    assert (document["route"], document["backend"]) == ("default", "a")
    assert [candidate["id"] for candidate in document["candidates"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"target": "users"}, "target"),
        ({"target": 7}, "target"),
        ({"url": "http://a/", "target": "/"}, "url"),
        ({"url": "http://[a/"}, "url"),
        ({"headers": "x"}, "headers"),
        ({"headers": [["a"]]}, "headers"),
        ({"client": 7}, "client"),
        ({"listener": 7}, "listener"),
        ({"verb": "GET"}, "verb"),
    ],
)
async def test_a_wrong_request_is_not_explained(
    admin: Admin, body: dict[str, Any], path: str
) -> None:
    problem = await admin.json("POST", f"{ADMIN}/explain", body, status=400)
    assert problem["errors"][0]["path"] == path


async def test_the_log_level_changes_at_once_and_is_kept(admin: Admin) -> None:
    assert await admin.json("GET", f"{ADMIN}/log-level") == {"level": "info"}
    assert await admin.json("PUT", f"{ADMIN}/log-level", {"level": "debug"}) == {"level": "debug"}
    assert admin.levels == ["debug"]
    assert admin.controller.config.logging.level == "debug"
    await admin.json("PUT", f"{ADMIN}/log-level", {"level": "loud"}, status=400)
    await admin.json("PUT", f"{ADMIN}/log-level", {"format": "text"}, status=400)
    assert admin.levels == ["debug"]


async def test_a_reload_applies_what_changed_in_the_file(start_admin: StartAdmin) -> None:
    document = two_backends()
    admin = await start_admin(document, read_sources=lambda: read_document(document))
    assert (await admin.json("POST", f"{ADMIN}/reload"))["changes"] == []
    document["load_balancer"] = {"max_retries": 1}
    assert (await admin.json("POST", f"{ADMIN}/reload"))["revision"] == 2
    assert admin.controller.config.load_balancer.max_retries == 1


async def test_a_failed_reload_says_why_and_changes_nothing(start_admin: StartAdmin) -> None:
    def broken() -> Config:
        raise ConfigError([Problem("backends[0].url", "expected a URL", 3, "lb.yaml")])

    admin = await start_admin(two_backends(), read_sources=broken)
    problem = await admin.json("POST", f"{ADMIN}/reload", status=400)
    assert problem["errors"] == [{"path": "backends[0].url", "message": "expected a URL"}]
    assert "lb.yaml:3" in problem["detail"]
    health = await admin.json("GET", "/api/v1/health")
    assert "expected a URL" in health["last_reload_error"]
    metrics = (await admin.http.get("/metrics")).text
    assert "evenflow_config_last_reload_successful 0\n" in metrics
