"""Pools, routes, listeners and filters over HTTP."""

from __future__ import annotations

import pytest

from .conftest import Admin

ADMIN = "/api/v1/admin"


async def test_the_pieces_of_the_flat_form_are_listed(admin: Admin) -> None:
    (pool,) = (await admin.json("GET", f"{ADMIN}/pools"))["pools"]
    assert (pool["name"], [each["id"] for each in pool["backends"]]) == ("default", ["a", "b"])
    (listener,) = (await admin.json("GET", f"{ADMIN}/listeners"))["listeners"]
    assert (listener["name"], listener["address"]) == ("main", "0.0.0.0:8080")
    (route,) = (await admin.json("GET", f"{ADMIN}/routes"))["routes"]
    assert (route["name"], route["pool"]) == ("default", "default")
    assert (await admin.json("GET", f"{ADMIN}/filters"))["filters"] == []


@pytest.mark.parametrize(
    ("kind", "piece"),
    [
        ("pools", {"name": "more", "backends": [{"id": "m", "url": "http://127.0.0.1:1"}]}),
        ("routes", {"name": "more", "match": {"path": "/more/*"}, "pool": "default"}),
        ("listeners", {"name": "more", "address": "127.0.0.1:9999"}),
        ("filters", {"name": "more", "rate_limit": {"requests_per_second": 5}}),
    ],
)
async def test_a_piece_is_added_shown_replaced_and_removed(
    admin: Admin, kind: str, piece: dict[str, object]
) -> None:
    path, single = f"{ADMIN}/{kind}", kind.removesuffix("s")
    made = await admin.http.post(path, json=piece)
    assert made.status_code == 201, made.text
    assert made.headers["location"] == f"{path}/more"
    assert made.json()["revision"] == 2
    taken = await admin.json("POST", path, piece, status=409)
    assert [error["path"] for error in taken["errors"]] == ["name"]

    shown = await admin.http.get(f"{path}/more")
    assert shown.headers["etag"] == '"2"'
    assert shown.json() == made.json()[single]
    assert shown.json().items() >= {"name": "more"}.items()
    again = await admin.json("PUT", f"{path}/more", shown.json())
    assert (again["revision"], again["changes"]) == (2, [])

    gone = await admin.json("DELETE", f"{path}/more")
    assert (gone["name"], gone["revision"]) == ("more", 3)
    for method in ("GET", "DELETE"):
        await admin.json(method, f"{path}/more", status=404)
    await admin.json("PUT", f"{path}/more", piece, status=201)


async def test_what_is_referred_to_is_not_removed_and_the_reference_is_told(admin: Admin) -> None:
    problem = await admin.json("DELETE", f"{ADMIN}/pools/default", status=409)
    assert [error["path"] for error in problem["errors"]] == ["routes[0].pool"]
    assert "'default'" in problem["detail"]
    assert admin.controller.revision == 1


async def test_a_mistake_is_told_where_it_stands_in_the_piece(admin: Admin) -> None:
    problem = await admin.json(
        "PUT", f"{ADMIN}/pools/default", {"strategy": "best", "backends": []}, status=400
    )
    assert [error["path"] for error in problem["errors"]] == ["strategy"]
    assert admin.controller.revision == 1


async def test_if_match_guards_a_piece(admin: Admin) -> None:
    body = {"rate_limit": {"requests_per_second": 5}}
    old = {"if-match": '"7"'}
    path = f"{ADMIN}/filters/limits"
    assert (await admin.http.put(path, json=body, headers=old)).status_code == 412
    assert (await admin.http.put(path, json=body, headers={"if-match": '"1"'})).status_code == 201
    assert (await admin.http.delete(path, headers=old)).status_code == 412
    assert (await admin.http.delete(path, headers={"if-match": "*"})).status_code == 200
