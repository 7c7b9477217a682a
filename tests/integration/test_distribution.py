"""Who gets which request: every strategy, with real clients and two workers."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from evenflow.testing import Gate, document, wait_for
from evenflow.testing.behaviours import respond

if TYPE_CHECKING:
    from evenflow.testing import EvenflowProcess, Origin
    from tests.conftest import StartEvenflow, StartOrigins

TWO_WORKERS = {"workers": 2}
CLIENTS = [f"127.0.0.{n}" for n in range(10, 50)]


def configuration(
    origins: list[Origin], strategy: object, weights: tuple[int, ...] = ()
) -> dict[str, object]:
    """Return a document with these origins, called as they are named."""
    backends: list[dict[str, object]] = [{"id": o.name, "url": o.url} for o in origins]
    for backend, weight in zip(backends, weights, strict=False):
        backend["weight"] = weight
    return document(*backends, load_balancer={"strategy": strategy}, server=TWO_WORKERS)


def home_of_each_client(balancer: EvenflowProcess) -> dict[str, str]:
    """Return who serves each client; the same one every time."""
    homes = {}
    for client in CLIENTS:
        (home,) = balancer.tally(2, source=client)
        homes[client] = home
    return homes


def test_round_robin_is_exact_over_all_workers(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    balancer = evenflow(configuration(origins("a", "b", "c"), "round_robin"))
    for _ in range(4):
        assert balancer.tally(30) == {"a": 10, "b": 10, "c": 10}


def test_round_robin_is_exact_on_one_connection(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    balancer = evenflow(configuration(origins("a", "b", "c"), "round_robin"))
    with balancer.client() as client:
        order = []
        for _ in range(12):
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            order.append(client.expect(200).text.strip())
    assert order == order[:3] * 4
    assert sorted(order[:3]) == ["a", "b", "c"]


def test_weighted_is_exact_and_smooth(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    balancer = evenflow(configuration(origins("a", "b", "c"), "weighted", (500, 300, 200)))
    for _ in range(5):
        assert balancer.tally(10) == {"a": 5, "b": 3, "c": 2}


def test_a_changed_weight_takes_effect_at_once(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    balancer = evenflow(configuration(origins("a", "b"), "weighted", (100, 100)))
    assert balancer.tally(20) == {"a": 10, "b": 10}
    balancer.api("PATCH", "/admin/backends/a", {"weight": 300})
    assert balancer.tally(20) == {"a": 15, "b": 5}


def test_ip_hash_keeps_each_client_at_its_backend(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    balancer = evenflow(configuration(origins("a", "b", "c", "d"), "ip_hash"))
    homes = home_of_each_client(balancer)
    assert set(homes.values()) == {"a", "b", "c", "d"}

    balancer.api("DELETE", "/admin/backends/c")
    after = home_of_each_client(balancer)
    moved = {client for client in CLIENTS if homes[client] != after[client]}
    assert moved == {client for client in CLIENTS if homes[client] == "c"}


def test_ip_hash_gives_a_failed_backends_clients_to_others_only(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    started = origins("a", "b", "c")
    balancer = evenflow(configuration(started, "ip_hash"))
    homes = home_of_each_client(balancer)
    balancer.api("PATCH", "/admin/backends/b", {"drain": True})
    after = home_of_each_client(balancer)
    assert "b" not in after.values()
    assert all(after[c] == homes[c] for c in CLIENTS if homes[c] != "b")
    balancer.api("PATCH", "/admin/backends/b", {"drain": False})
    assert home_of_each_client(balancer) == homes


def test_least_connections_avoids_the_busy_backend(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    balancer = evenflow(configuration([a, b], "least_connections"))
    gate = Gate()
    for origin in (a, b):
        origin.on("/hold", respond(body=b"held", before=gate))
    with balancer.client() as busy:
        busy.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: gate.arrivals, "the held request at its origin")
        holder = a if a.requests else b
        other = b if holder is a else a
        assert balancer.tally(20) == {other.name: 20}
        gate.open()
        busy.expect(200)


def test_least_connections_counts_by_weight(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    a, b = origins("a", "b")
    balancer = evenflow(configuration([a, b], "least_connections", (300, 100)))
    gate = Gate()
    for origin in (a, b):
        origin.default = respond(body=b"held", before=gate)
    clients = [balancer.client() for _ in range(8)]
    for number, client in enumerate(clients, 1):
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda n=number: gate.arrivals == n, f"request {number} at its origin")  # type: ignore[misc]
    assert (len(a.requests), len(b.requests)) == (6, 2)
    gate.open()
    for client in clients:
        client.expect(200)
        client.close()


def test_random_reaches_every_backend_about_equally(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    balancer = evenflow(configuration(origins("a", "b", "c"), "random"))
    served = balancer.tally(300)
    assert set(served) == {"a", "b", "c"}
    # Six standard deviations around 100: a right implementation fails once in 500 million runs.
    assert all(50 < count < 150 for count in served.values()), served


def test_p2c_ewma_prefers_the_faster_backend(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    import asyncio

    from evenflow.testing import Exchange

    fast, slow = origins("fast", "slow")
    answer = respond(body=b"slow")

    async def sluggish(exchange: Exchange) -> None:
        await asyncio.sleep(0.03)
        await answer(exchange)

    slow.default = sluggish
    balancer = evenflow(configuration([fast, slow], "p2c_ewma"))
    balancer.tally(10)
    served = balancer.tally(100)
    assert served["fast"] >= 80, served


@pytest.mark.parametrize(
    ("key", "request_of"),
    [
        ("header:x-user", lambda user: {"headers": [("X-User", user)]}),
        ("cookie:session", lambda user: {"headers": [("Cookie", f"a=b; session={user}; c=d")]}),
        ("query:user", lambda user: {"target": f"/?a=b&user={user}"}),
        ("path", lambda user: {"target": f"/{user}?random=1"}),
    ],
)
def test_consistent_hash_keeps_each_key_at_its_backend(
    evenflow: StartEvenflow,
    origins: StartOrigins,
    key: str,
    request_of: object,
) -> None:
    assert callable(request_of)
    strategy = {"name": "consistent_hash", "key": key}
    balancer = evenflow(configuration(origins("a", "b", "c"), strategy))
    homes = {}
    for user in (f"user-{n}" for n in range(30)):
        (homes[user],) = balancer.tally(3, **request_of(user))
    assert set(homes.values()) == {"a", "b", "c"}


def test_consistent_hash_with_a_bound_spreads_a_key_that_is_too_hot(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    started = origins("a", "b", "c")
    gate = Gate()
    for origin in started:
        origin.default = respond(body=b"held", before=gate)
    strategy = {"name": "consistent_hash", "key": "path", "load_bound": 1.5}
    balancer = evenflow(configuration(started, strategy))
    clients = []
    for number in range(1, 13):
        clients.append(balancer.client().send(b"GET /hot HTTP/1.1\r\nHost: a\r\n\r\n"))
        wait_for(lambda n=number: gate.arrivals == n, f"request {number} at an origin")  # type: ignore[misc]
    # At most one and a half times the average of twelve requests over three backends.
    assert max(len(origin.requests) for origin in started) <= 6
    gate.open()
    for client in clients:
        client.expect(200)


def test_the_strategy_changes_while_running(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    balancer = evenflow(configuration(origins("a", "b"), "round_robin", (300, 100)))
    assert balancer.tally(8) == {"a": 4, "b": 4}
    balancer.api("PUT", "/admin/config", {"load_balancer": {"strategy": "weighted"}})
    assert balancer.tally(8) == {"a": 6, "b": 2}
    balancer.api("PUT", "/admin/config", {"load_balancer": {"strategy": "ip_hash"}})
    assert len(balancer.tally(8)) == 1


def test_a_strategy_of_ones_own_is_named_by_module_and_function(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: object
) -> None:
    from pathlib import Path

    assert isinstance(tmp_path, Path)
    (tmp_path / "house_rules.py").write_text(
        "from evenflow.strategies import cycle\n"
        "def prefer_local(endpoints):\n"
        "    local = [e for e in endpoints if e.labels.get('zone') == 'a']\n"
        "    return cycle(local or endpoints, weight=lambda e: e.weight)\n"
    )
    near, far = origins("near", "far")
    wanted = document(
        {"id": "near", "url": near.url, "labels": {"zone": "a"}},
        {"id": "far", "url": far.url, "labels": {"zone": "b"}},
        load_balancer={"strategy": "house_rules:prefer_local"},
    )
    balancer = evenflow(wanted, env={"PYTHONPATH": pythonpath(tmp_path)})
    assert balancer.tally(10) == {"near": 10}
    balancer.api("DELETE", "/admin/backends/near")
    assert balancer.tally(10) == {"far": 10}


def pythonpath(directory: object) -> str:
    """Put a directory in front of the module path that this program was started with."""
    import os

    return os.pathsep.join(filter(None, [str(directory), os.environ.get("PYTHONPATH")]))


def test_explain_tells_who_would_be_chosen_and_why_without_a_request(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    started = origins("a", "b", "c")
    balancer = evenflow(configuration(started, "ip_hash"))
    homes = home_of_each_client(balancer)
    before = Counter(len(origin.requests) for origin in started)
    for client in CLIENTS[:10]:
        said = balancer.api("POST", "/admin/explain", {"target": "/x", "client": client})
        assert (said["backend"], said["pool"], said["picker"]) == (homes[client], "default", "hash")
        assert said["reason"]
    assert Counter(len(origin.requests) for origin in started) == before
