"""The configuration over the API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Admin, StartAdmin, two_backends

CONFIG = "/api/v1/admin/config"


async def test_a_partial_put_merges(admin: Admin) -> None:
    answer = await admin.json("PUT", CONFIG, {"load_balancer": {"strategy": "weighted"}})
    assert answer["revision"] == 2
    document = await admin.json("GET", CONFIG)
    assert document["load_balancer"]["strategy"] == "weighted"
    assert document["load_balancer"]["port"] == 8080
    assert [backend["id"] for backend in document["backends"]] == ["a", "b"]


async def test_a_put_of_what_get_printed_takes_everything_back(admin: Admin) -> None:
    printed = (await admin.http.get(CONFIG)).content
    before = admin.controller.config
    await admin.json(
        "PATCH",
        CONFIG,
        {
            "security": {"ip_blacklist": ["192.0.2.0/24"]},
            "load_balancer": {"max_retries": 1},
            "backends": [{"id": "z", "url": "http://127.0.0.1:1", "labels": {"new": "1"}}],
        },
    )
    assert admin.controller.config != before
    response = await admin.http.put(CONFIG, content=printed)
    assert response.status_code == 200, response.text
    assert admin.controller.config == before


async def test_a_put_of_what_is_in_force_changes_nothing(admin: Admin) -> None:
    printed = await admin.json("GET", CONFIG)
    answer = await admin.json("PUT", CONFIG, printed)
    assert (answer["revision"], answer["changes"]) == (1, [])


async def test_null_takes_a_setting_back_to_its_default(admin: Admin) -> None:
    await admin.json("PATCH", CONFIG, {"load_balancer": {"max_retries": 1}})
    await admin.json("PATCH", CONFIG, {"load_balancer": {"max_retries": None}})
    assert admin.controller.config.load_balancer.max_retries == 3


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"load_balancer": {"strategy": "alphabetical"}}, "load_balancer.strategy"),
        ({"load_balancer": {"port": "x"}}, "load_balancer.port"),
        ({"load_blancer": {}}, "load_blancer"),
        ({"backends": [{"id": "a", "url": "nonsense"}]}, "backends[0].url"),
    ],
)
async def test_a_wrong_configuration_is_refused_with_the_place(
    admin: Admin, body: dict[str, Any], path: str
) -> None:
    for method in ("PUT", "PATCH"):
        problem = await admin.json(method, CONFIG, body, status=400)
        assert [entry["path"] for entry in problem["errors"]] == [path], problem
    assert admin.controller.revision == 1


async def test_the_entity_tag_guards_a_change(admin: Admin) -> None:
    tag = (await admin.http.get(CONFIG)).headers["etag"]
    body = {"load_balancer": {"max_retries": 1}}
    first = await admin.http.patch(CONFIG, json=body, headers={"if-match": tag})
    assert first.status_code == 200
    assert first.headers["etag"] != tag
    late = await admin.http.patch(CONFIG, json=body, headers={"if-match": tag})
    assert late.status_code == 412
    assert late.headers["etag"] == first.headers["etag"]
    assert (await admin.http.patch(CONFIG, json=body, headers={"if-match": "*"})).is_success
    path = "/api/v1/admin/backends/a"
    assert (await admin.http.delete(path, headers={"if-match": tag})).status_code == 412


async def test_an_unchanged_configuration_is_not_sent_again(admin: Admin) -> None:
    tag = (await admin.http.get(CONFIG)).headers["etag"]
    again = await admin.http.get(CONFIG, headers={"if-none-match": f'"x", W/{tag}'})
    assert (again.status_code, again.content) == (304, b"")


async def test_secrets_are_shown_as_stars_and_kept(start_admin: StartAdmin) -> None:
    token = {"name": "ops", "role": "admin", "token": "tops3cret"}
    admin = await start_admin({**two_backends(), "admin": {"tokens": [token]}})
    response = await admin.http.get(CONFIG)
    assert "tops3cret" not in response.text
    assert response.json()["admin"]["tokens"][0]["token"] == "***"
    changed = response.json() | {"metrics": {"enabled": False}}
    await admin.json("PUT", CONFIG, changed)
    headers = {"authorization": "Bearer tops3cret", "evenflow-client": "8.8.8.8"}
    assert (await admin.http.get(CONFIG, headers=headers)).status_code == 200
    for path in (CONFIG, f"{CONFIG}/history", "/api/v1/admin/decisions"):
        assert "tops3cret" not in (await admin.http.get(path)).text


async def test_a_new_token_works_at_once(admin: Admin) -> None:
    headers = {"authorization": "Bearer n3w", "evenflow-client": "8.8.8.8"}
    assert (await admin.http.get(CONFIG, headers=headers)).status_code == 401
    tokens = [{"name": "new", "role": "read", "token": "n3w"}]
    await admin.json("PATCH", CONFIG, {"admin": {"tokens": tokens}})
    assert (await admin.http.get(CONFIG, headers=headers)).status_code == 200
    refused = await admin.http.patch(CONFIG, json={}, headers=headers)
    assert refused.status_code == 403


async def test_a_diff_changes_nothing(admin: Admin) -> None:
    body = {"load_balancer": {"max_retries": 1}}
    answer = await admin.json("POST", f"{CONFIG}/diff", body)
    assert len(answer["changes"]) == 1
    assert "load_balancer.max_retries" in answer["changes"][0]
    assert admin.controller.revision == 1
    printed = await admin.json("GET", CONFIG)
    assert (await admin.json("POST", f"{CONFIG}/diff", printed))["changes"] == []


async def test_history_and_rollback(admin: Admin) -> None:
    before = admin.controller.config
    await admin.json("PATCH", CONFIG, {"load_balancer": {"max_retries": 1}})
    await admin.json("PATCH", CONFIG, {"load_balancer": {"max_retries": 2}})
    history = await admin.json("GET", f"{CONFIG}/history")
    assert [entry["revision"] for entry in history["history"]] == [3, 2, 1]
    assert history["history"][0]["source"] == "api (loopback)"
    await admin.json("POST", f"{CONFIG}/rollback", {"revision": 1})
    assert admin.controller.config == before
    assert admin.controller.revision == 4
    assert (await admin.http.post(f"{CONFIG}/rollback")).status_code == 200
    assert admin.controller.config.load_balancer.max_retries == 2
    await admin.json("POST", f"{CONFIG}/rollback", {"revision": 99}, status=404)
    for wrong in ({"revision": "1"}, {"revision": True}, {"version": 1}, [1]):
        await admin.json("POST", f"{CONFIG}/rollback", wrong, status=400)


async def test_the_first_revision_has_none_before_it(admin: Admin) -> None:
    assert (await admin.http.post(f"{CONFIG}/rollback")).status_code == 404


async def test_the_expanded_form_names_its_pool(admin: Admin) -> None:
    document = await admin.json("GET", f"{CONFIG}?expanded=true")
    assert [pool["name"] for pool in document["pools"]] == ["default"]


async def test_a_large_document_is_one_line(admin: Admin) -> None:
    backends = [{"id": f"n{i}", "url": f"http://127.0.0.1:{i + 1}"} for i in range(500)]
    await admin.json("PUT", CONFIG, {"backends": backends})
    text = (await admin.http.get(CONFIG)).text
    assert text.count("\n") == 1
    assert len(json.loads(text)["backends"]) == 500
