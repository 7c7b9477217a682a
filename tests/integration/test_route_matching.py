"""Hosts, templates, expressions and conditions decide which route takes a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from evenflow.testing import EvenflowProcess, Origin, document

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUTES: dict[str, dict[str, Any]] = {
    "any": {},
    "wild": {"host": "*.example.org"},
    "deep": {"host": "*.api.example.org"},
    "host": {"host": "api.example.org"},
    "template": {"path": "/users/{id}/orders"},
    "exact": {"path": "/users/7/orders"},
    "prefix": {"path": "/users/*"},
    "image": {"path": {"regex": "/img/[0-9]+[.](png|jpg)"}},
    "post": {"path": "/users/*", "methods": ["POST", "PUT"]},
    "beta": {"path": "/users/*", "headers": {"X-Beta": {"present": True}}, "priority": 1},
    "mine": {
        "path": "/users/*",
        "query": {"page": {"regex": "[0-9]+"}},
        "cookies": {"who": "me"},
        "client": ["127.0.0.0/8"],
    },
    "theirs": {"path": "/users/*", "methods": ["DELETE"], "client": ["192.0.2.0/24"]},
}


@pytest.fixture(scope="module")
def gateway() -> Iterator[EvenflowProcess]:
    """A balancer whose answers tell which route they came by."""
    with Origin("o") as origin:
        config = document(
            {"id": "o", "url": origin.url},
            routes=[
                {"name": name, "pool": "default", "match": match, "filters": [name]}
                for name, match in ROUTES.items()
            ],
            filters={
                name: {"headers": {"response": {"set": {"X-Route": name}}}} for name in ROUTES
            },
        )
        with EvenflowProcess(config) as balancer:
            yield balancer


def explain(
    gateway: EvenflowProcess, method: str, target: str, fields: list[list[str]]
) -> dict[str, Any]:
    """What the balancer says would become of a request."""
    wanted = {"method": method, "target": target, "headers": fields, "client": "127.0.0.1"}
    told: dict[str, Any] = gateway.api("POST", "/admin/explain", wanted)
    return told


@pytest.mark.parametrize(
    ("line", "headers", "expected"),
    [
        ("GET / a.example.org", {}, "wild"),
        ("GET /users/7/orders a.b.EXAMPLE.org:80", {}, "wild"),
        ("GET / v1.api.example.org", {}, "deep"),
        ("GET / api.example.org", {}, "host"),
        ("GET / example.org", {}, "any"),
        ("GET /users/8/orders h", {}, "template"),
        ("GET /users/7/orders h", {}, "exact"),
        ("GET /users/7/orders/ h", {}, "prefix"),
        ("GET /img/12.png h", {}, "image"),
        ("GET /img/12.png/x h", {}, "any"),
        ("PUT /users h", {}, "post"),
        ("PUT /users h", {"x-beta": ""}, "beta"),
        ("GET /users?page=12 h", {"Cookie": "a=b; who=me"}, "mine"),
        ("PUT /users?page=12 h", {"Cookie": "a=b; who=me"}, "mine"),
        ("GET /users?page=x h", {"Cookie": "a=b; who=me"}, "prefix"),
        ("DELETE /users h", {}, "prefix"),
    ],
)
def test_the_most_specific_route_takes_a_request(
    gateway: EvenflowProcess, line: str, headers: dict[str, str], expected: str
) -> None:
    method, target, host = line.split()
    fields = [("Host", host), *headers.items()]
    answer = gateway.request(method, target, headers=fields)
    assert (answer.status, answer.header("x-route")) == (200, expected)
    told = explain(gateway, method, target, [list(field) for field in fields])
    assert told["route"] == expected, told


def test_an_explanation_says_why_more_specific_routes_do_not_take_it(
    gateway: EvenflowProcess,
) -> None:
    told = explain(gateway, "DELETE", "/users?page=1", [["Cookie", "who=you"]])
    assert told["route"] == "prefix"
    reasons = {each["route"]: each["reason"] for each in told["passed_over"]}
    assert reasons == {
        "beta": "there is no header X-Beta",
        "mine": 'cookie who is not "me"',
        "theirs": "the client's address is in none of its networks",
        "post": "the method is not POST or PUT",
    }
