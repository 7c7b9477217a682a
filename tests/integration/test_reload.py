"""Changing the configuration of a running balancer: by file, by SIGHUP, by API, all at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from evenflow.testing import Gate, Load, document, wait_for
from evenflow.testing.behaviours import respond

if TYPE_CHECKING:
    from evenflow.testing import EvenflowProcess
    from tests.conftest import StartEvenflow, StartOrigins


def weights(balancer: EvenflowProcess) -> dict[str, Any]:
    """Return each backend's weight in force."""
    return {b["id"]: b["weight"] for b in balancer.api("GET", "/admin/backends")["backends"]}


def test_fifty_reloads_under_load_fail_no_request(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b, c = origins("a", "b", "c")

    def configuration(number: int) -> dict[str, object]:
        backends: list[dict[str, object]] = [
            {"id": "a", "url": a.url, "weight": 100 + number},
            {"id": "b", "url": b.url},
        ]
        if number % 2:
            backends.append({"id": "c", "url": c.url})
        strategy = ("round_robin", "weighted", "least_connections")[number % 3]
        return document(*backends, load_balancer={"strategy": strategy}, server={"workers": 2})

    balancer = evenflow(configuration(0))
    with (
        Load(balancer.port, connections=4) as kept,
        Load(balancer.port, connections=2, requests_per_connection=5) as renewed,
    ):
        for number in range(1, 51):
            balancer.write_config(configuration(number))
            balancer.reload()
            wait_for(lambda n=number: weights(balancer)["a"] == 100 + n, f"reload {number}")  # type: ignore[misc]
            kept.wait_for_more(5)
        renewed.wait_for_more(5)
    kept.expect_no_failure()
    renewed.expect_no_failure()
    assert kept.bodies[b"c\n"] > 0


def test_a_request_in_flight_survives_the_removal_of_its_backend(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    gate = Gate()
    a.default = respond(body=b"late", before=gate)
    balancer = evenflow(document({"id": "a", "url": a.url}))
    with balancer.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: gate.arrivals, "the request at its origin")
        balancer.write_config(document({"id": "b", "url": b.url}))
        balancer.reload()
        wait_for(lambda: "a" not in weights(balancer), "the backend being gone")
        gate.open()
        client.expect(200, body=b"late")
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.expect(200, body=b"b\n")


def test_a_changed_file_is_applied_without_a_signal(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    balancer = evenflow(document({"id": "a", "url": a.url}))
    balancer.write_config(document({"id": "a", "url": a.url, "weight": 7}))
    wait_for(lambda: weights(balancer) == {"a": 7}, "the new weight in force")


def test_sighup_with_nothing_new_changes_nothing(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    balancer = evenflow(document({"id": "a", "url": a.url}))
    balancer.api("POST", "/admin/backends", {"id": "b", "url": a.url})
    before = balancer.metrics()
    balancer.reload()
    balancer.wait_for_metric('evenflow_config_reloads_total{result="unchanged"}', 1)
    after = balancer.metrics()
    for name in ("evenflow_config_revision", 'evenflow_config_applies_total{result="ok"}'):
        assert after[name] == before[name]
    assert set(weights(balancer)) == {"a", "b"}


def test_a_reload_keeps_what_the_api_changed_elsewhere(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b, c = origins("a", "b", "c")

    def configuration(**weight: int) -> dict[str, object]:
        return document(
            *({"id": o.name, "url": o.url, "weight": weight.get(o.name, 100)} for o in (a, b))
        )

    balancer = evenflow(configuration())
    balancer.api("POST", "/admin/backends", {"id": "c", "url": c.url, "weight": 3})
    balancer.api("PATCH", "/admin/backends/a", {"weight": 7})
    balancer.write_config(configuration(b=5))
    balancer.reload()
    wait_for(lambda: weights(balancer).get("b") == 5, "the file's change in force")
    assert weights(balancer) == {"a": 7, "b": 5, "c": 3}


def test_the_file_wins_where_both_changed_the_same_and_the_report_says_so(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    balancer = evenflow(document({"id": "a", "url": a.url}))
    balancer.api("PATCH", "/admin/backends/a", {"weight": 7})
    balancer.write_config(document({"id": "a", "url": a.url, "weight": 9}))
    balancer.reload()
    wait_for(lambda: weights(balancer) == {"a": 9}, "the file's weight in force")
    wait_for(
        lambda: any("weight" in str(event) and "file" in str(event) for event in balancer.events()),
        "the report of the conflict",
        describe=balancer.output,
    )


def test_what_the_file_no_longer_has_goes_and_what_the_api_added_stays(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b, c = origins("a", "b", "c")
    backend = {o.name: {"id": o.name, "url": o.url} for o in (a, b, c)}
    balancer = evenflow(document(backend["a"], backend["b"]))
    balancer.api("POST", "/admin/backends", backend["c"])
    balancer.write_config(document(backend["a"]))
    balancer.reload()
    wait_for(lambda: "b" not in weights(balancer), "the backend being gone")
    assert set(weights(balancer)) == {"a", "c"}


def test_a_failed_reload_keeps_the_old_configuration_and_says_why(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    balancer = evenflow(document({"id": "a", "url": a.url}))
    with Load(balancer.port, connections=2) as load:
        for broken in (
            "backends: [",
            "backends: [{id: a, url: 'gopher://x'}]",
            "no_such_section: 1",
        ):
            failed = balancer.metrics()['evenflow_config_reloads_total{result="failed"}']
            balancer.write_config(broken)
            balancer.reload()
            balancer.wait_for_metric('evenflow_config_reloads_total{result="failed"}', failed + 1)
            load.wait_for_more(10)
    load.expect_no_failure()
    assert balancer.metrics()["evenflow_config_last_reload_successful"] == 0
    assert "no_such_section" in balancer.api("GET", "/health")["last_reload_error"]
    assert any("no_such_section" in str(event) for event in balancer.events())

    balancer.write_config(document({"id": "a", "url": a.url, "weight": 2}))
    balancer.reload()
    wait_for(lambda: weights(balancer) == {"a": 2}, "the mended file in force")
    assert balancer.metrics()["evenflow_config_last_reload_successful"] == 1


def test_a_listener_is_moved_by_a_reload(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    from evenflow.testing import free_port, request

    (a,) = origins("a")
    balancer = evenflow(
        document(
            {"id": "a", "url": a.url},
            load_balancer={"port": (old := free_port())},
            admin={"listen": f"127.0.0.1:{(admin := free_port())}"},
        ),
        hand_over_port=False,
        port=old,
    )
    with balancer.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect(200)
        new = free_port()
        answer = request(
            admin,
            "PUT",
            "/api/v1/admin/config",
            headers=[("Content-Type", "application/json")],
            body=json.dumps({"load_balancer": {"port": new}}),
        )
        assert answer.status == 200, answer.body
        assert request(new).status == 200
    wait_for(lambda: refused(old), "the old port being closed")


def refused(port: int) -> bool:
    """Say whether nobody listens on a port."""
    from evenflow.testing import Client

    try:
        Client(port).close()
    except ConnectionRefusedError:
        return True
    return False
