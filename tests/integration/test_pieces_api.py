"""The full form over the API, on a real balancer: in effect when answered, traffic goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evenflow.testing import Load, document, free_port, request, wait_for

if TYPE_CHECKING:
    from tests.conftest import StartEvenflow, StartOrigins


def test_a_flat_balancer_becomes_a_gateway_under_load(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, users = origins("a", "users")
    port = free_port()
    balancer = evenflow(document({"id": "a", "url": a.url}, state={"store": "sqlite"}))
    with Load(balancer.port, connections=4) as load:
        load.wait_for_more(20)
        pool = {"name": "users", "backends": [{"id": "u", "url": users.url}]}
        balancer.api("POST", "/admin/pools", pool, expect=201)
        route = {"name": "users", "match": {"path": "/users/*"}, "pool": "users"}
        balancer.api("POST", "/admin/routes", route, expect=201)
        assert balancer.request(target="/users/7").text.strip() == "users"
        assert balancer.request(target="/other").text.strip() == "a"

        limit = {"rate_limit": {"key": "all", "requests_per_second": 0.001, "burst_size": 1}}
        balancer.api("PUT", "/admin/filters/tight", limit, expect=201)
        balancer.api("PUT", "/admin/routes/users", {**route, "filters": ["tight"]})
        statuses = [balancer.request(target="/users/7").status for _ in range(2)]
        assert statuses == [200, 429]
        refused = balancer.api("DELETE", "/admin/filters/tight", expect=409)
        assert [error["path"] for error in refused["errors"]] == ["routes[0].filters[0]"]

        listener = {"name": "second", "address": f"127.0.0.1:{port}"}
        balancer.api("POST", "/admin/listeners", listener, expect=201)
        assert request(port).text.strip() == "a"
        # What the flat form made is changed as well, and stands by itself from then on.
        shown = balancer.api("GET", "/admin/pools/default")
        balancer.api("PUT", "/admin/pools/default", {**shown, "strategy": "least_connections"})
        assert balancer.api("GET", "/admin/config")["backends"] == []
        load.wait_for_more(20)
    load.expect_no_failure()

    balancer.restart()
    assert request(port).text.strip() == "a"
    assert balancer.request(target="/users/7").text.strip() == "users"
    balancer.api("DELETE", "/admin/listeners/second")
    wait_for(lambda: not listens(port), "the listener being gone")
    balancer.api("DELETE", "/admin/routes/users")
    balancer.api("DELETE", "/admin/pools/users")
    assert balancer.request(target="/users/7").text.strip() == "a"


def test_a_file_goes_on_to_say_who_is_in_a_pool_that_was_moved(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    old, new = {"id": "a", "url": a.url}, {"id": "b", "url": b.url}
    balancer = evenflow(document(old, state={"store": "sqlite"}))
    shown = balancer.api("GET", "/admin/pools/default")
    balancer.api("PUT", "/admin/pools/default", {**shown, "strategy": "least_connections"})
    balancer.write_config(document(old, new, state={"store": "sqlite"}))
    balancer.wait_for_status("b", "healthy", "unknown")
    (pool,) = balancer.api("GET", "/admin/config")["pools"]
    assert [each["id"] for each in pool["backends"]] == ["a", "b"]
    assert pool["strategy"] == "least_connections"
    balancer.restart()
    assert balancer.tally(10).keys() == {"a", "b"}


def listens(port: int) -> bool:
    try:
        request(port)
    except OSError:
        return False
    return True


def test_an_address_that_is_taken_is_refused_and_the_rest_serves_on(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    balancer = evenflow(document({"id": "a", "url": a.url}))
    listener = {"name": "second", "address": f"127.0.0.1:{a.port}"}
    answer = balancer.api("POST", "/admin/listeners", listener, expect=400)
    assert answer["errors"][0]["path"].startswith("listeners[1].address")
    assert balancer.request().status == 200
    assert len(balancer.api("GET", "/admin/listeners")["listeners"]) == 1
