"""Paths that backends may read in several ways, by HTTP/1.1, by HTTP/2 and in `explain`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from evenflow.testing import document, free_port, request
from tests.http2_peers import H2Client

if TYPE_CHECKING:
    from evenflow.testing import EvenflowProcess, Origin
    from tests.conftest import StartEvenflow, StartOrigins

ESCAPES = [
    "/public/..%2fadmin",
    "/public/%2e%2e%2Fadmin",
    "/public/..%5cadmin",
    "/public/..\\admin",
    "/public/..;/admin",
    "/public/%252e%252e%252fadmin",
    "/public/..%3b/admin",
]
KEPT = ["/public/a%2fb", "/public/a;v=1", "/public/a%5cb", "/public/100%25"]


def routes(origin: Origin, **more: Any) -> dict[str, Any]:
    """`/public/*` for everybody, and nothing else."""
    route = {"name": "public", "match": {"path": "/public/*"}, "pool": "default"}
    return document(origin.url, routes=[route], **more)


def statuses(balancer: EvenflowProcess, path: str) -> list[int]:
    """What a client of HTTP/1.1 and one of HTTP/2 are answered."""
    with H2Client(balancer.port) as client:
        return [balancer.request(target=path).status, client.ask("GET", path).status]


def reason(balancer: EvenflowProcess, path: str) -> str:
    told = balancer.api("POST", "/admin/explain", {"method": "GET", "target": path})
    return str(told["reason"])


def test_a_path_that_leaves_its_route_when_decoded_is_refused(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (origin,) = origins("a")
    balancer = evenflow(routes(origin))
    for path in ESCAPES:
        assert statuses(balancer, path) == [400, 400], path
        assert "400 (escaped_path)" in reason(balancer, path)
    assert not origin.requests
    for path in KEPT:
        assert statuses(balancer, path) == [200, 200], path
        assert "escaped_path" not in reason(balancer, path)
        assert [got.target for got in origin.requests[-2:]] == [path, path]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("reject", [400, 400]), ("decode", [404, 404]), ("keep", [200, 200])],
)
def test_a_policy_says_what_becomes_of_it(
    policy: str, expected: list[int], evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (origin,) = origins("a")
    balancer = evenflow(routes(origin, server={"escaped_slashes": policy}))
    assert statuses(balancer, "/public/..%2fadmin") == expected
    kept = {"reject": [400, 400]}.get(policy, [200, 200])
    assert statuses(balancer, "/public/a%2fb") == kept
    if policy == "decode":
        assert {got.target for got in origin.requests} == {"/public/a/b"}


def test_a_listeners_own_policy_goes_before_the_servers(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (origin,) = origins("a")
    strict, port = free_port(), free_port()
    listeners = [
        {"name": "web", "address": f"127.0.0.1:{port}"},
        {"name": "strict", "address": f"127.0.0.1:{strict}", "escaped_slashes": "reject"},
    ]
    given = routes(origin, listeners=listeners, server={"escaped_slashes": "keep"})
    balancer = evenflow(given, port=port, hand_over_port=False)
    assert balancer.request(target="/public/a%2fb").status == 200
    assert request(strict, target="/public/a%2fb").status == 400
