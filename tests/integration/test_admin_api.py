"""The HTTP interface over a real balancer: changes are in effect when answered, and are kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from evenflow.testing import Gate, Load, document, request, wait_for
from evenflow.testing.behaviours import respond

if TYPE_CHECKING:
    from tests.conftest import StartEvenflow, StartOrigins

KEPT = {"store": "sqlite", "path": "./state"}


def test_an_added_backend_gets_requests_when_the_answer_comes(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    balancer = evenflow(document({"id": "a", "url": a.url}, server={"workers": 2}))
    added = balancer.api("POST", "/admin/backends", {"id": "b", "url": b.url}, expect=201)
    assert (added["id"], added["weight"]) == ("b", 100)
    assert balancer.tally(10) == {"a": 5, "b": 5}


def test_one_of_ten_thousand_is_added_changed_and_removed_without_losing_a_request(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    backends = [{"id": f"b{number}", "url": a.url} for number in range(10_000)]
    wanted = document(*backends, health_check={"enabled": False}, state={"store": "memory"})
    balancer = evenflow({**wanted, "server": {"workers": 2}})
    with Load(balancer.port, connections=4) as load:
        load.wait_for_more(20)
        added = balancer.api("POST", "/admin/backends", {"id": "new", "url": b.url}, expect=201)
        assert (added["revision"], added["status"], added["usable"]) == (2, "healthy", True)
        changed = balancer.api("PATCH", "/admin/backends/new", {"max_connections": 5})
        assert changed["changes"] == ["backends[new].max_connections: 0 → 5"]
        load.wait_for_more(20)
        balancer.api("DELETE", "/admin/backends/b0")
        # Alone it has to serve.
        balancer.api("PATCH", "/admin/config", {"backends": [{"id": "new", "url": b.url}]})
        assert balancer.tally(3) == {"b": 3}
        load.wait_for_more(20)
    load.expect_no_failure()


def test_a_removed_backend_gets_none_when_the_answer_comes(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    balancer = evenflow(document({"id": "a", "url": a.url}, {"id": "b", "url": b.url}))
    with Load(balancer.port, connections=4) as load:
        load.wait_for_more(50)
        balancer.api("DELETE", "/admin/backends/b")
        assert balancer.tally(10) == {"a": 10}
        load.wait_for_more(50)
    load.expect_no_failure()
    balancer.api("DELETE", "/admin/backends/b", expect=404)
    balancer.api("GET", "/admin/backends/b", expect=404)


def test_a_drained_backend_gets_no_new_request_and_tells_when_it_is_empty(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    gate = Gate()
    a.default = respond(body=b"late", before=gate)
    balancer = evenflow(document({"id": "a", "url": a.url}, {"id": "b", "url": b.url}))
    clients = [balancer.client() for _ in range(2)]
    for client in clients:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    wait_for(lambda: gate.arrivals, "the request at its origin")
    said = balancer.api("POST", "/admin/backends/a/drain")
    assert (said["draining"], said["active_connections"], said["empty"]) == (True, 1, False)
    assert balancer.tally(10) == {"b": 10}
    gate.open()
    for client in clients:
        client.expect(200)
        client.close()
    said = balancer.api("POST", "/admin/backends/a/drain?wait=20s")
    assert (said["active_connections"], said["empty"]) == (0, True)
    balancer.wait_for_status("a", "draining")
    balancer.api("PATCH", "/admin/backends/a", {"drain": False})
    assert balancer.tally(10) == {"late": 5, "b": 5}


def test_restore_takes_what_the_list_of_backends_printed(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b, c = origins("a", "b", "c")
    balancer = evenflow(
        document(
            {"id": "a", "url": a.url, "weight": 7, "max_connections": 50, "timeout": "5s"},
            {"id": "b", "url": b.url, "labels": {"zone": "x"}, "health_check_path": "/up"},
        )
    )
    printed = balancer.request(target="/api/v1/admin/backends").body
    balancer.api("DELETE", "/admin/backends/a")
    balancer.api("POST", "/admin/backends", {"id": "c", "url": c.url})
    assert balancer.tally(10) == {"b": 5, "c": 5}
    with Load(balancer.port, connections=2) as load:
        answer = balancer.request("POST", "/api/v1/admin/backends/restore", body=printed)
        assert answer.status == 200, answer.body
        load.wait_for_more(20)
    load.expect_no_failure()
    assert balancer.tally(10) == {"a": 5, "b": 5}

    def configured(document: bytes) -> list[dict[str, object]]:
        moving = {"status", "reason", "since", "requests", "errors", "latency_ms"}
        moving |= {"active_connections"}
        listed = json.loads(document)["backends"]
        return [{k: v for k, v in b.items() if k not in moving} for b in listed]

    assert configured(balancer.request(target="/api/v1/admin/backends").body) == configured(printed)


def test_put_takes_what_the_configuration_printed(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    balancer = evenflow(
        document(
            {"id": "a", "url": a.url},
            security={"rate_limit": {"requests_per_second": 5000, "burst_size": 5000}},
            admin={"tokens": [{"name": "ops", "role": "admin", "token": "s3cret-token"}]},
            health_check={"interval": "1m30s"},
        )
    )
    printed = balancer.request(target="/api/v1/admin/config")
    assert b"s3cret" not in printed.body
    before = balancer.metrics()["evenflow_config_revision"]
    answer = balancer.request("PUT", "/api/v1/admin/config", body=printed.body)
    assert (answer.status, answer.json()["changes"]) == (200, [])
    assert balancer.metrics()["evenflow_config_revision"] == before

    balancer.api("PUT", "/admin/config", {"load_balancer": {"strategy": "weighted"}})
    balancer.request("PUT", "/api/v1/admin/config", body=printed.body)
    assert balancer.request(target="/api/v1/admin/config").json() == printed.json()
    bearer = [("Authorization", "Bearer s3cret-token")]
    assert balancer.api("GET", "/admin/stats", headers=bearer)


@pytest.mark.parametrize(
    ("method", "path", "body", "part"),
    [
        ("POST", "/backends", {"id": "b"}, "url"),
        ("POST", "/backends", {"id": "b", "url": "nonsense"}, "url"),
        ("POST", "/backends", {"id": "a", "url": "http://127.0.0.1:1"}, "id"),
        ("POST", "/backends", {"id": "b", "url": "http://127.0.0.1:1", "wieght": 1}, "wieght"),
        ("PATCH", "/backends/a", {"weight": "heavy"}, "weight"),
        ("PATCH", "/backends/a", {"weight": 0}, "weight"),
        ("PUT", "/config", {"load_balancer": {"strategy": "best"}}, "strategy"),
        ("PUT", "/config", {"load_balancer": {"port": 99999}}, "port"),
        ("PUT", "/config", {"unknown": 1}, "unknown"),
        ("POST", "/backends/restore", {"backends": [{"id": "x", "url": "http://"}]}, "url"),
    ],
)
def test_a_refused_change_names_its_mistake_and_changes_nothing(
    evenflow: StartEvenflow,
    origins: StartOrigins,
    method: str,
    path: str,
    body: object,
    part: str,
) -> None:
    (a,) = origins("a")
    balancer = evenflow(document({"id": "a", "url": a.url}))
    before = balancer.api("GET", "/admin/config")
    answer = balancer.request(method, f"/api/v1/admin{path}", body=json.dumps(body))
    assert answer.status in (400, 409, 422), answer.body
    assert (answer.header("content-type") or "").startswith("application/problem+json")
    problem = answer.json()
    assert problem["status"] == answer.status
    places = [error["path"] for error in problem.get("errors", [])]
    assert any(part in text for text in (*places, problem["detail"])), problem
    assert balancer.api("GET", "/admin/config") == before
    assert balancer.tally(3) == {"a": 3}


def test_changes_of_the_api_survive_a_restart(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    balancer = evenflow(document({"id": "a", "url": a.url}, state=KEPT))
    balancer.api("POST", "/admin/backends", {"id": "b", "url": b.url, "weight": 300})
    balancer.api("PUT", "/admin/config", {"load_balancer": {"strategy": "weighted"}})
    revision = balancer.metrics()["evenflow_config_revision"]
    assert balancer.stop() == 0
    balancer.start()
    assert balancer.tally(8) == {"a": 2, "b": 6}
    assert balancer.metrics()["evenflow_config_revision"] == revision


def test_changes_of_the_api_survive_a_kill(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    import signal

    a, b = origins("a", "b")
    balancer = evenflow(document({"id": "a", "url": a.url}, state=KEPT))
    balancer.api("POST", "/admin/backends", {"id": "b", "url": b.url})
    balancer.signal(signal.SIGKILL)
    balancer.wait()
    balancer.start()
    assert balancer.tally(10) == {"a": 5, "b": 5}


def test_a_file_changed_while_stopped_merges_with_what_the_api_changed(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b, c = origins("a", "b", "c")
    balancer = evenflow(document({"id": "a", "url": a.url}, state=KEPT))
    balancer.api("POST", "/admin/backends", {"id": "b", "url": b.url})
    balancer.stop()
    balancer.write_config(
        document({"id": "a", "url": a.url}, {"id": "c", "url": c.url}, state=KEPT)
    )
    balancer.start()
    assert balancer.tally(9) == {"a": 3, "b": 3, "c": 3}


def test_an_earlier_configuration_is_put_back(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    balancer = evenflow(document({"id": "a", "url": a.url}))
    first = balancer.api("GET", "/admin/config/history")["revision"]
    balancer.api("POST", "/admin/backends", {"id": "b", "url": b.url})
    balancer.api("DELETE", "/admin/backends/a")
    assert balancer.tally(4) == {"b": 4}
    balancer.api("POST", "/admin/config/rollback", {"revision": first})
    assert balancer.tally(4) == {"a": 4}
    history = balancer.api("GET", "/admin/config/history")["history"]
    assert len(history) == 4


def test_a_write_against_an_old_etag_is_refused(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    balancer = evenflow(document({"id": "a", "url": a.url}))
    etag = balancer.request(target="/api/v1/admin/config").header("etag")
    assert etag
    balancer.api("PATCH", "/admin/backends/a", {"weight": 2})
    balancer.api(
        "PATCH", "/admin/backends/a", {"weight": 3}, headers=[("If-Match", etag)], expect=412
    )


OUTSIDE = [
    [("X-Forwarded-For", "203.0.113.9")],
    [("Forwarded", "for=203.0.113.9")],
    [("Via", "1.1 proxy")],
    [("X-Real-IP", "203.0.113.9")],
    [("Origin", "https://evil.test")],
    [("Host", "evil.test")],
    [("Sec-Fetch-Site", "cross-site")],
]


@pytest.mark.parametrize("headers", OUTSIDE, ids=lambda headers: headers[0][0])
def test_what_does_not_count_as_local_needs_a_token(
    evenflow: StartEvenflow, origins: StartOrigins, headers: list[tuple[str, str]]
) -> None:
    (a,) = origins("a")
    tokens = [
        {"name": "look", "role": "read", "token": "look-token"},
        {"name": "ops", "role": "admin", "token": "ops-token"},
    ]
    balancer = evenflow(document({"id": "a", "url": a.url}, admin={"tokens": tokens}))
    balancer.api("GET", "/admin/stats", headers=headers, expect=401)
    balancer.api("PATCH", "/admin/backends/a", {"weight": 2}, headers=headers, expect=401)
    assert balancer.request(target="/health", headers=headers).status == 200

    reader = [*headers, ("Authorization", "Bearer look-token")]
    balancer.api("GET", "/admin/stats", headers=reader)
    balancer.api("PATCH", "/admin/backends/a", {"weight": 2}, headers=reader, expect=403)
    admin = [*headers, ("Authorization", "Bearer ops-token")]
    balancer.api("PATCH", "/admin/backends/a", {"weight": 2}, headers=admin)


def test_a_client_cannot_claim_to_be_local(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (a,) = origins("a")
    balancer = evenflow(
        document({"id": "a", "url": a.url}, server={"trusted_proxies": ["127.0.0.0/8"]})
    )
    for name in ("evenflow-client", "Evenflow-Client"):
        claim = [("X-Forwarded-For", "203.0.113.9"), (name, "127.0.0.1")]
        balancer.api("GET", "/admin/stats", headers=claim, expect=401)


def test_what_is_not_exposed_belongs_to_the_backends(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    from evenflow.testing import free_port

    (a,) = origins("a", health_path="/never")
    own = free_port()
    balancer = evenflow(
        document(a.url, admin={"expose": False, "listen": f"127.0.0.1:{own}"}),
        ready=lambda: request(own, "GET", "/health/live").status == 200,
    )
    for path in ("/health", "/metrics", "/api/v1/admin/stats", "/docs/", "/debug/pprof/heap"):
        assert balancer.request(target=path).text == "a\n"
        assert request(own, "GET", path).status == 200
    assert request(own, "GET", "/").status == 404


def test_only_the_groups_named_are_exposed(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (a,) = origins("a", health_path="/never")
    balancer = evenflow(document(a.url, admin={"expose": ["health", "metrics"]}))
    assert "status" in balancer.request(target="/health").json()
    assert balancer.metrics()
    assert balancer.request(target="/api/v1/admin/stats").text == "a\n"


def test_the_documentation_is_served_from_the_package(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    balancer = evenflow(document(a.url))
    described = balancer.request(target="/openapi.json").json()
    assert described["openapi"].startswith("3.")
    assert "/api/v1/admin/backends/{id}" in described["paths"]
    page = balancer.request(target="/docs/")
    assert page.status == 200
    assert b"swagger" in page.body.lower()
    assert b"https://" not in page.body


def test_decisions_tell_their_reason(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (a,) = origins("a")
    balancer = evenflow(document({"id": "a", "url": a.url}))
    balancer.api("PATCH", "/admin/backends/a", {"weight": 2})
    decisions = balancer.api("GET", "/admin/decisions")["decisions"]
    assert decisions
    assert all(decision["reason"] for decision in decisions)


def test_a_thousand_backends_are_added_one_by_one(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    backends = [{"id": f"b{n}", "url": a.url} for n in range(1000)]
    balancer = evenflow(document(*backends, server={"workers": 2}))
    with Load(balancer.port, connections=2) as load:
        for n in range(20):
            balancer.api("POST", "/admin/backends", {"id": f"new{n}", "url": a.url})
        load.wait_for_more(10)
    load.expect_no_failure()
    assert len(balancer.api("GET", "/admin/backends")["backends"]) == 1020
