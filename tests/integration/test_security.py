"""Rate limits, address lists, response headers, CORS and body limits, as clients meet them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evenflow.testing import document, wait_for

if TYPE_CHECKING:
    from evenflow.testing import EvenflowProcess
    from tests.conftest import StartEvenflow, StartOrigins


def statuses(balancer: EvenflowProcess, count: int, **options: object) -> list[int]:
    """Return the statuses of requests on one connection each."""
    return [balancer.request(**options).status for _ in range(count)]  # type: ignore[arg-type]


def test_a_client_beyond_its_rate_is_429_and_others_are_not(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    limit = {"requests_per_second": 0.001, "burst_size": 5}
    balancer = evenflow(document(a.url, security={"rate_limit": limit}, server={"workers": 2}))
    assert statuses(balancer, 8, source="127.0.0.5") == [200] * 5 + [429] * 3
    assert statuses(balancer, 5, source="127.0.0.6") == [200] * 5
    assert len(a.requests) == 10
    answer = balancer.request(source="127.0.0.5")
    assert int(answer.header("retry-after") or 0) > 0
    metrics = balancer.metrics()
    assert sum(v for k, v in metrics.items() if k.startswith("evenflow_limited_total")) == 4


def test_a_limit_keeps_its_count_over_a_reload(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    limit = {"requests_per_second": 0.001, "burst_size": 3}
    balancer = evenflow(document({"id": "a", "url": a.url}, security={"rate_limit": limit}))
    assert statuses(balancer, 4, source="127.0.0.5") == [200] * 3 + [429]
    balancer.write_config(
        document({"id": "a", "url": a.url, "weight": 7}, security={"rate_limit": limit})
    )
    balancer.reload()
    wait_for(
        lambda: any(event.get("event") == "reloaded" for event in balancer.events()),
        "the reload",
        describe=balancer.output,
    )
    assert statuses(balancer, 1, source="127.0.0.5") == [429]


def test_a_limit_by_header_counts_each_value_apart(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    limit = {"key": "header:x-key", "requests_per_second": 0.001, "burst_size": 2}
    balancer = evenflow(document(a.url, security={"rate_limit": limit}))
    for key in ("one", "two"):
        assert statuses(balancer, 3, headers=[("X-Key", key)]) == [200, 200, 429]


def test_the_balancers_own_pages_are_not_rate_limited_for_monitoring(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    limit = {"requests_per_second": 0.001, "burst_size": 1}
    balancer = evenflow(document(a.url, security={"rate_limit": limit}))
    assert statuses(balancer, 5, target="/health") == [200] * 5


def test_addresses_on_the_blacklist_are_403(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (a,) = origins("a")
    balancer = evenflow(document(a.url, security={"ip_blacklist": ["127.0.9.0/24"]}))
    assert statuses(balancer, 1, source="127.0.9.7") == [403]
    assert statuses(balancer, 1, source="127.0.8.7") == [200]
    assert len(a.requests) == 1


def test_only_addresses_on_the_whitelist_pass_unless_blacklisted(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    balancer = evenflow(
        document(
            a.url,
            security={
                "ip_whitelist": ["127.0.0.1", "127.0.8.0/24"],
                "ip_blacklist": ["127.0.8.66"],
            },
        )
    )
    assert statuses(balancer, 1, source="127.0.8.7") == [200]
    assert statuses(balancer, 1, source="127.0.8.66") == [403]
    assert statuses(balancer, 1, source="127.0.9.7") == [403]


def test_lists_judge_the_client_behind_a_trusted_proxy_and_no_claim_of_another(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    balancer = evenflow(
        document(
            a.url,
            security={"ip_blacklist": ["203.0.113.0/24"]},
            server={"trusted_proxies": ["127.0.0.2"]},
        )
    )
    claim = [("X-Forwarded-For", "203.0.113.9")]
    assert statuses(balancer, 1, source="127.0.0.2", headers=claim) == [403]
    assert statuses(balancer, 1, source="127.0.0.3", headers=claim) == [200]


def test_security_headers_are_on_every_response(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    from evenflow.testing.behaviours import respond

    (a,) = origins("a")
    wanted = {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "X-XSS-Protection": "1; mode=block",
    }
    balancer = evenflow(document({"id": "a", "url": a.url}, security={"security_headers": wanted}))
    a.default = respond(200, b"x", [("X-Frame-Options", "ALLOWALL")])
    for answer in (
        balancer.request(),
        balancer.request(headers=[("Host", "a b")]),
        balancer.request(target="/" + "a" * 9000),
    ):
        for name, value in wanted.items():
            assert answer.head.all(name) == [value], answer.head.raw


def test_headers_are_edited_in_both_directions(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    from evenflow.testing.behaviours import respond

    (a,) = origins("a")
    a.default = respond(200, b"x", [("Server", "secret/1.0"), ("X-Twice", "1")])
    rules = {
        "request": {"set": {"X-Set": "new"}, "remove": ["X-Gone"], "default": {"X-Default": "d"}},
        "response": {"remove": ["Server"], "add": {"X-Twice": "2"}},
    }
    balancer = evenflow(document(a.url, security={"headers": rules}))
    answer = balancer.request(headers=[("X-Set", "old"), ("X-Gone", "1"), ("X-Default", "mine")])
    (got,) = a.requests
    assert got.head.all("x-set") == ["new"]
    assert got.head.all("x-gone") == []
    assert got.head.all("x-default") == ["mine"]
    assert answer.header("server") is None
    assert answer.head.all("x-twice") == ["1", "2"]


def test_a_preflight_is_answered_without_the_backend(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    cors = {"allow_origins": ["https://app.example.org"], "allow_methods": ["GET", "PUT"]}
    balancer = evenflow(document(a.url, security={"cors": cors}))
    preflight = [
        ("Origin", "https://app.example.org"),
        ("Access-Control-Request-Method", "PUT"),
        ("Access-Control-Request-Headers", "x-one, x-two"),
    ]
    answer = balancer.request("OPTIONS", "/x", headers=preflight)
    assert answer.status in (200, 204)
    assert answer.header("access-control-allow-origin") == "https://app.example.org"
    assert "PUT" in (answer.header("access-control-allow-methods") or "")
    assert "x-one" in (answer.header("access-control-allow-headers") or "").lower()
    assert not a.requests


def test_a_cross_origin_request_gets_its_permission_and_another_does_not(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    cors = {"allow_origins": ["https://app.example.org"]}
    balancer = evenflow(document(a.url, security={"cors": cors}))
    name = "access-control-allow-origin"
    allowed = balancer.request(headers=[("Origin", "https://app.example.org")])
    assert (allowed.status, allowed.header(name)) == (200, "https://app.example.org")
    assert "origin" in allowed.head.tokens("vary")
    other = balancer.request(headers=[("Origin", "https://evil.example.org")])
    assert other.header(name) is None
    assert balancer.request().header(name) is None


def test_a_body_limit_of_a_filter_is_413(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (a,) = origins("a")
    balancer = evenflow(document(a.url, security={"max_request_size": "10KiB"}))
    assert balancer.request("PUT", body=b"a" * 10_240).status == 200
    assert balancer.request("PUT", body=b"a" * 10_241).status == 413
