"""Backends over the API: every answer comes when the change is in effect."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from .conftest import Admin, StartAdmin

BACKENDS = "/api/v1/admin/backends"


def in_force(admin: Admin) -> list[str]:
    """The endpoints of the plan the engine has."""
    pool = next(pool for pool in admin.engine.plan["pools"] if pool["name"] == "default")
    return [endpoint["id"] for endpoint in pool["endpoints"]]


async def test_the_list_has_configuration_and_state(admin: Admin) -> None:
    admin.engine.endpoint("default", "a").in_flight = 5
    document = await admin.json("GET", BACKENDS)
    first, second = document["backends"]
    assert first["url"] == "http://127.0.0.1:8081"
    assert (first["status"], first["active_connections"]) == ("unknown", 5)
    assert (second["weight"], second["labels"], second["pool"]) == (50, {"zone": "x"}, "default")


async def test_an_added_backend_is_in_effect(admin: Admin) -> None:
    body = {"id": "c", "url": "http://127.0.0.1:8083", "weight": 150, "health_check_path": "/h"}
    response = await admin.http.post(BACKENDS, json=body)
    assert response.status_code == 201
    assert in_force(admin) == ["a", "b", "c"]
    assert response.headers["location"] == f"{BACKENDS}/c"
    shown = await admin.json("GET", f"{BACKENDS}/c")
    assert (shown["weight"], shown["health_check_path"]) == (150, "/h")


async def test_a_body_declared_as_a_form_is_read_as_json(admin: Admin) -> None:
    response = await admin.http.post(
        BACKENDS,
        content=b'{"id":"c","url":"http://127.0.0.1:8083"}',
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert response.status_code == 201


async def test_a_backend_without_an_id_gets_the_next_free_one(admin: Admin) -> None:
    first = await admin.json("POST", BACKENDS, {"url": "http://127.0.0.1:1"}, status=201)
    second = await admin.json("POST", BACKENDS, {"url": "http://127.0.0.1:2"}, status=201)
    assert (first["id"], second["id"]) == ("backend-1", "backend-2")


async def test_a_taken_id_is_a_conflict(admin: Admin) -> None:
    problem = await admin.json(
        "POST", BACKENDS, {"id": "a", "url": "http://127.0.0.1:1"}, status=409
    )
    assert "'a'" in problem["detail"]
    assert [error["path"] for error in problem["errors"]] == ["id"]
    assert admin.controller.revision == 1


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"id": "c"}, "url"),
        ({"id": "c", "url": "ftp://x"}, "url"),
        ({"id": "c", "url": "http://127.0.0.1:1", "wieght": 5}, "wieght"),
        ({"id": "c", "url": "http://127.0.0.1:1", "weight": "5"}, "weight"),
        ({"id": "c", "url": "http://127.0.0.1:1", "health_check": {"interval": "soon"}},
         "health_check.interval"),
        ({"id": "c", "url": "http://127.0.0.1:1", "pool": "nowhere"}, "pool"),
        ({"id": "c", "url": "http://127.0.0.1:1", "pool": 7}, "pool"),
        ({"id": 7, "url": "http://127.0.0.1:1"}, "id"),
        ({"id": "a/b", "url": "http://127.0.0.1:1"}, "id"),
    ],
)  # fmt: skip
async def test_a_wrong_backend_is_refused_with_the_place(
    admin: Admin, body: dict[str, Any], path: str
) -> None:
    response = await admin.http.post(BACKENDS, json=body)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert [entry["path"] for entry in response.json()["errors"]] == [path], response.text
    assert in_force(admin) == ["a", "b"]


async def test_a_patch_changes_only_what_it_names(admin: Admin) -> None:
    shown = await admin.json("PATCH", f"{BACKENDS}/b", {"weight": 7, "max_connections": 3})
    assert (shown["weight"], shown["max_connections"], shown["labels"]) == (7, 3, {"zone": "x"})
    shown = await admin.json("PATCH", f"{BACKENDS}/b", {"weight": None})
    assert shown["weight"] == 100


async def test_a_patch_cannot_move_or_rename(admin: Admin) -> None:
    await admin.json("PATCH", f"{BACKENDS}/b", {"id": "z"}, status=400)
    await admin.json("PATCH", f"{BACKENDS}/b", {"pool": "elsewhere"}, status=400)
    await admin.json("PATCH", f"{BACKENDS}/b", {"id": "b", "pool": "default", "weight": 3})


async def test_a_removed_backend_is_gone(admin: Admin) -> None:
    assert (await admin.json("DELETE", f"{BACKENDS}/a"))["id"] == "a"
    assert in_force(admin) == ["b"]
    for method, suffix in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/drain")):
        await admin.json(method, f"{BACKENDS}/a{suffix}", {"weight": 1}, status=404)


async def test_a_drain_tells_what_is_in_flight(admin: Admin) -> None:
    admin.engine.endpoint("default", "a").in_flight = 2
    document = await admin.json("POST", f"{BACKENDS}/a/drain")
    assert document == {
        "id": "a",
        "draining": True,
        "active_connections": 2,
        "empty": False,
        "revision": 2,
    }
    assert admin.engine.endpoint("default", "a").document["drain"] is True
    assert (await admin.json("GET", f"{BACKENDS}/a"))["status"] == "draining"
    assert (await admin.json("PATCH", f"{BACKENDS}/a", {"drain": False}))["status"] == "unknown"


async def test_a_drain_waits_until_it_is_empty(admin: Admin) -> None:
    admin.engine.endpoint("default", "a").in_flight = 1
    waiting = asyncio.create_task(admin.json("POST", f"{BACKENDS}/a/drain?wait=20s"))
    async with asyncio.timeout(10):
        while not admin.engine.endpoint("default", "a").document["drain"]:
            await asyncio.sleep(0.005)
        assert not waiting.done()
        admin.engine.endpoint("default", "a").in_flight = 0
        assert (await waiting)["empty"] is True


async def test_a_drain_waits_no_longer_than_asked(admin: Admin) -> None:
    admin.engine.endpoint("default", "a").in_flight = 1
    assert (await admin.json("POST", f"{BACKENDS}/a/drain?wait=50ms"))["empty"] is False
    for wrong in ("soon", "-1", "1d", ""):
        await admin.json("POST", f"{BACKENDS}/a/drain?wait={wrong}", status=400)


async def test_a_restore_takes_what_the_list_printed(admin: Admin) -> None:
    printed = (await admin.http.get(BACKENDS)).content
    await admin.json("DELETE", f"{BACKENDS}/a")
    await admin.json("PATCH", f"{BACKENDS}/b", {"weight": 1})
    await admin.json("POST", BACKENDS, {"id": "c", "url": "http://127.0.0.1:1"}, status=201)
    before = admin.controller.config
    response = await admin.http.post(f"{BACKENDS}/restore", content=printed)
    assert response.status_code == 200, response.text
    assert in_force(admin) == ["a", "b"]
    assert before != admin.controller.config
    assert (await admin.http.get(BACKENDS)).json()["backends"] == [
        {**view, "since": now["since"]}
        for view, now in zip(
            json.loads(printed)["backends"], response.json()["backends"], strict=True
        )
    ]


async def test_a_restore_gives_pools_their_backends_back(start_admin: StartAdmin) -> None:
    admin = await start_admin(
        {
            "backends": [{"id": "u", "url": "http://127.0.0.1:8081/users"}],
            "pools": [
                {"name": "p", "backends": [{"id": "x", "url": "http://127.0.0.1:1"}]},
                {"name": "q", "backends": [{"id": "y", "url": "http://127.0.0.1:2"}]},
            ],
            "routes": [
                {"name": "p", "match": {"path": "/p/*"}, "pool": "p"},
                {"name": "q", "match": {"path": "/q/*"}, "pool": "q"},
            ],
        }
    )
    printed = await admin.json("GET", BACKENDS)
    config = admin.controller.config
    await admin.json("DELETE", f"{BACKENDS}/y")
    await admin.json("DELETE", f"{BACKENDS}/u")
    body = {"id": "z", "url": "http://127.0.0.1:3", "pool": "p"}
    await admin.json("POST", BACKENDS, body, status=201)
    await admin.json("POST", f"{BACKENDS}/restore", printed)
    assert admin.controller.config == config


async def test_a_restore_is_all_or_nothing(admin: Admin) -> None:
    body = [{"id": "x", "url": "http://127.0.0.1:1"}, {"id": "y", "url": "nonsense"}]
    problem = await admin.json("POST", f"{BACKENDS}/restore", {"backends": body}, status=400)
    assert problem["errors"][0]["path"] == "backends[1].url"
    body = [{"id": "x", "url": "http://127.0.0.1:1", "pool": "gone"}]
    problem = await admin.json("POST", f"{BACKENDS}/restore", {"backends": body}, status=400)
    assert problem["errors"][0]["path"] == "backends[0].pool"
    wrongs: list[Any] = [{"backend": []}, {"backends": {}}, 7, [7]]
    for wrong in wrongs:
        await admin.json("POST", f"{BACKENDS}/restore", wrong, status=400)
    assert in_force(admin) == ["a", "b"]


async def test_ten_thousand_backends_are_restored(admin: Admin) -> None:
    views = [
        {"id": f"n{i}", "url": f"http://10.0.{i // 250}.{i % 250 + 1}:8080", "status": "healthy"}
        for i in range(10_000)
    ]
    document = await admin.json("POST", f"{BACKENDS}/restore", {"backends": views})
    assert len(document["backends"]) == 10_000
    assert len(in_force(admin)) == 10_000
