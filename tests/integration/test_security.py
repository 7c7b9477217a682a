"""Rate limits, address lists, response headers, CORS and body limits, as clients meet them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from evenflow.testing import document, wait_for
from tests.conftest import program

if TYPE_CHECKING:
    from evenflow.testing import EvenflowProcess
    from tests.conftest import StartEvenflow, StartOrigins


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


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


def test_a_client_has_only_so_many_connections_and_others_their_own(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    balancer = evenflow(
        document(
            a.url,
            server={
                "workers": 2,
                "limits": {"max_connections_per_client": 3},
                "trusted_proxies": ["127.0.0.9"],
            },
        )
    )
    held = [balancer.client(source="127.0.0.5").send(GET) for _ in range(3)]
    for client in held:
        client.expect(200)
    for _ in range(4):
        with balancer.client(source="127.0.0.5") as over:
            over.expect_closed()
    assert statuses(balancer, 1, source="127.0.0.6") == [200]
    proxied = [balancer.client(source="127.0.0.9").send(GET) for _ in range(6)]
    for client in proxied:
        client.expect(200)
    metrics = balancer.metrics()
    assert metrics['evenflow_connections_rejected_total{listener="main"}'] == 4
    assert metrics['evenflow_errors_total{reason="client_connections"}'] == 4
    held.pop().close()

    def served() -> bool:
        with balancer.client(source="127.0.0.5") as again:
            return again.send_quietly(GET) and bool(again.read_some())

    wait_for(served, "the place that was given back", describe=balancer.output)


def test_a_limit_is_exact_whatever_the_number_of_workers_and_connections(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    """h2load opens 64 connections over four workers: as many pass as the burst has, no more."""
    (a,) = origins("a")
    limit = {"requests_per_second": 0.001, "burst_size": 500}
    balancer = evenflow(document(a.url, security={"rate_limit": limit}, server={"workers": 4}))
    command = [
        program("h2load", "nghttp2-client"),
        *("--h1", "-n", "4000", "-c", "64", "-t", "2"),
        f"http://127.0.0.1:{balancer.port}/",
    ]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert "status codes: 500 2xx, 0 3xx, 3500 4xx, 0 5xx" in output, output
    metrics = balancer.metrics().items()
    assert sum(v for k, v in metrics if k.startswith("evenflow_limited_total")) == 3500


def test_a_flood_of_addresses_neither_grows_memory_nor_hurts_a_client(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    """A trusted proxy names a new client with each request: the table stays as large as it is."""
    (a,) = origins("a")
    limit = {"requests_per_second": 1000, "burst_size": 1000, "max_keys": 50_000}
    balancer = evenflow(
        document(
            a.url,
            security={"rate_limit": limit},
            server={"workers": 2, "trusted_proxies": ["127.0.0.0/8"]},
        )
    )

    def flood(first: int, count: int) -> None:
        with balancer.client() as client:
            for start in range(first, first + count, 100):
                addresses = [
                    f"2001:db8:{n >> 16:x}:{n & 65535:x}::1" for n in range(start, start + 100)
                ]
                client.send(
                    *(
                        f"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {address}\r\n\r\n".encode()
                        for address in addresses
                    )
                )
                for _ in addresses:
                    client.expect(200)

    flood(0, 2_000)
    before = balancer.metrics()["process_resident_memory_bytes"]
    flood(2_000, 20_000)
    grown = balancer.metrics()["process_resident_memory_bytes"] - before
    assert grown < 4 * 1024 * 1024
    assert statuses(balancer, 3, source="127.0.0.77") == [200] * 3


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
