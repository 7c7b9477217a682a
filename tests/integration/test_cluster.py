"""Several balancers with a real Redis between them: who is there, and limits that hold for all."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from evenflow.testing import document, free_port, run_evenflow, wait_for
from evenflow.testing.authority import Authority
from evenflow.testing.load import Load

if TYPE_CHECKING:
    from pathlib import Path

    from evenflow.testing import EvenflowProcess
    from tests.conftest import StartEvenflow, StartOrigins
    from tests.servers import Redis, RedisServers

RATE, BURST, INTERVAL_S = 40.0, 10, 0.1


def node(url: str, redis: Redis, **sections: Any) -> dict[str, object]:
    """The configuration of one node."""
    limit = {"key": "all", "requests_per_second": RATE, "burst_size": BURST}
    cluster = {"url": redis.url, **sections.pop("cluster", {})}
    return document(
        listeners=[{"name": "web", "address": f"127.0.0.1:{sections.pop('port')}"}],
        pools=[{"name": "p", "backends": [{"id": "a", "url": url}]}],
        routes=[
            {"name": "all", "match": {"path": "/*"}, "pool": "p"},
            {"name": "f", "match": {"path": "/fleet"}, "filters": ["fleet"], "pool": "p"},
            {"name": "n", "match": {"path": "/node"}, "filters": ["node"], "pool": "p"},
        ],
        filters={
            "fleet": {"rate_limit": {**limit, "scope": "fleet"}},
            "node": {"rate_limit": {**limit, "scope": "node"}},
        },
        cluster=cluster,
        **sections,
    )


def start_nodes(
    evenflow: StartEvenflow,
    url: str,
    redis: Redis,
    names: str,
    *,
    beside: str = "",
    **sections: Any,
) -> list[EvenflowProcess]:
    """Start nodes of these names, and wait until they see each other and those `beside` them."""
    started = []
    for name in names:
        port = free_port()
        cluster = {"node": name, **sections.get("cluster", {})}
        config = node(url, redis, port=port, **{**sections, "cluster": cluster})
        started.append(evenflow(config, port=port, hand_over_port=False))
    for each in started:
        wait_for_nodes(each, *names, *beside)
    return started


def wait_for_nodes(balancer: EvenflowProcess, *names: str) -> None:
    """Wait until this balancer sees these nodes and no others."""

    def seen() -> list[str]:
        return [each["name"] for each in balancer.api("GET", "/admin/nodes")["nodes"]]

    wait_for(lambda: seen() == sorted(names), f"nodes {names}", describe=lambda: str(seen()))


def load_on(each: EvenflowProcess, target: str) -> Load:
    """More than a limit lets pass."""
    return Load(each.port, connections=2, target=target, accept=(200, 429), pause_s=0.002)


def passed(nodes: list[EvenflowProcess], target: str, seconds: float) -> tuple[int, float]:
    """How many requests passed on all nodes under load, and for how long that went."""
    began = time.monotonic()
    with ExitStack() as stack:
        loads = [stack.enter_context(load_on(each, target)) for each in nodes]
        time.sleep(seconds)
    lasted = time.monotonic() - began
    return count(loads), lasted


def count(loads: list[Load]) -> int:
    """What passed; there must be nothing but what passed and what was refused."""
    for load in loads:
        load.expect_no_failure()
        assert load.statuses[429], load.statuses
    return sum(load.statuses[200] for load in loads)


def most(nodes: int, seconds: float) -> float:
    """What docs/cluster.md says may pass."""
    # An interval to tell it, and another for a machine that is busy with other things.
    delay = 2 * INTERVAL_S
    return BURST + RATE * seconds + (nodes - 1) * (BURST + RATE * delay)


def test_three_nodes_pass_what_one_would_and_three_times_that_of_a_limit_of_each(
    evenflow: StartEvenflow, origins: StartOrigins, redis_servers: RedisServers
) -> None:
    (a,) = origins("a")
    redis = redis_servers.start()
    nodes = start_nodes(evenflow, a.url, redis, "ab")
    began = time.monotonic()
    with ExitStack() as stack:
        loads = [stack.enter_context(load_on(each, "/fleet")) for each in nodes]
        # One that joins while the others are at the limit learns of what they let pass.
        nodes += start_nodes(evenflow, a.url, redis, "c", beside="ab")
        loads.append(stack.enter_context(load_on(nodes[2], "/fleet")))
        time.sleep(3)
    seconds = time.monotonic() - began
    together = count(loads)
    assert 0.75 * (BURST + RATE * seconds) <= together <= most(3, seconds), (together, seconds)
    assert loads[2].statuses[200], "the one that joined has its share"
    each, seconds = passed(nodes, "/node", 1.0)
    one = BURST + RATE * seconds
    assert 0.9 * 3 * one <= each <= 3 * (one + 1), (each, one)
    told = [each.metrics() for each in nodes]
    for result, least, greatest in (
        ("sent", 10, None),
        ("received", 10, None),
        ("refused", 0, 0),
        ("lost", 0, 0),
    ):
        series = f'evenflow_cluster_messages_total{{result="{result}"}}'
        # How much of the limit one node gets, and so how much it has to tell, is up to chance.
        total = sum(metrics[series] for metrics in told)
        assert total >= least, (result, total)
        assert greatest is None or total <= greatest, (result, total)
    assert all(metrics["evenflow_cluster_untold_requests_total"] == 0 for metrics in told)


def test_nodes_see_each_other_come_and_go_over_tls(
    evenflow: StartEvenflow, origins: StartOrigins, redis_servers: RedisServers, tmp_path: Path
) -> None:
    (a,) = origins("a")
    authority = Authority(tmp_path)
    pair = authority.issue("127.0.0.1", file="server")
    redis = redis_servers.start(
        password="s3cret-for-tests", tls=(pair.cert, pair.key, authority.ca)
    )
    cluster = {"ca_file": str(authority.ca)}
    first, second = start_nodes(evenflow, a.url, redis, "ab", cluster=cluster)
    shown = second.api("GET", "/admin/nodes")
    assert (shown["enabled"], shown["up"], shown["node"]) == (True, True, "b")
    other = shown["nodes"][0]
    assert other["listeners"] == {"web": [f"127.0.0.1:{first.port}"]}
    assert other["revision"] == 1
    assert 0 <= other["age_s"] < 5
    assert second.metrics()["evenflow_cluster_nodes"] == 2

    listed = run_evenflow("nodes", "--url", second.url)
    assert listed.returncode == 0, listed.stderr
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["NODE", "a", "b"]

    # One that joins later is seen, and seen to go at once when it stops in the ordinary way.
    (third,) = start_nodes(evenflow, a.url, redis, "c", beside="ab", cluster=cluster)
    wait_for_nodes(first, "a", "b", "c")
    third.stop()
    wait_for_nodes(first, "a", "b")
    second.signal(signal.SIGKILL)
    wait_for_nodes(first, "a")
    expected = [("joined the cluster", "a"), ("node joined", "b"), ("node joined", "c")]
    expected += [("node left", "c"), ("node left", "b")]

    def told() -> list[tuple[str, str]]:
        return [(event["event"], event["node"]) for event in first.events() if "node" in event]

    wait_for(lambda: told() == expected, "all being told", describe=lambda: str(told()))
    assert first.metrics()["evenflow_cluster_nodes"] == 1


def test_the_server_going_away_and_coming_back_fails_no_request(
    evenflow: StartEvenflow, origins: StartOrigins, redis_servers: RedisServers
) -> None:
    (a,) = origins("a")
    redis = redis_servers.start()
    nodes = start_nodes(evenflow, a.url, redis, "ab")

    def up() -> list[float]:
        return [each.metrics()["evenflow_cluster_up"] for each in nodes]

    with Load(nodes[0].port, connections=2, pause_s=0.001) as load:
        load.wait_for_more(50)
        redis.kill()
        wait_for(lambda: up() == [0, 0], "the loss being noticed", describe=lambda: str(up()))
        shown = nodes[0].api("GET", "/admin/nodes")
        assert not shown["up"]
        assert redis.address in shown["error"]
        # Without the server each node limits by itself.
        alone, seconds = passed(nodes, "/fleet", 1.0)
        assert alone <= 2 * (BURST + RATE * seconds + 1)
        nodes[0].api("POST", "/admin/backends", {"id": "new", "url": a.url})
        load.wait_for_more(50)
        redis.start()
        wait_for(lambda: up() == [1, 1], "the server being back", describe=lambda: str(up()))
        for each in nodes:
            wait_for_nodes(each, "a", "b")
        load.wait_for_more(50)
    load.expect_no_failure()
    together, seconds = passed(nodes, "/fleet", 2.0)
    assert together <= most(2, seconds), (together, seconds)
    events = [event.get("event") for event in nodes[0].events()]
    assert events.count("cluster away") == 1
    assert events.count("cluster reached") == 2


def test_a_reload_joins_leaves_and_moves_to_another_cluster(
    evenflow: StartEvenflow, origins: StartOrigins, redis_servers: RedisServers
) -> None:
    (a,) = origins("a")
    redis = redis_servers.start()
    (first,) = start_nodes(evenflow, a.url, redis, "a")
    port = free_port()
    config = document(
        a.url,
        listeners=[{"name": "web", "address": f"127.0.0.1:{port}"}],
        security={"rate_limit": {"requests_per_second": 1000}},
    )
    second = evenflow(config, port=port, hand_over_port=False)
    shown = second.api("GET", "/admin/nodes")
    assert (shown["enabled"], shown["nodes"]) == (False, [])
    assert run_evenflow("nodes", "--url", second.url).returncode == 1
    for cluster, others in (
        ({"url": redis.url, "node": "b"}, ["a", "b"]),
        ({"url": redis.url, "node": "auto", "prefix": "elsewhere"}, []),
        ({"url": redis.url, "node": "c"}, ["a", "c"]),
    ):
        second.write_config({**config, "cluster": cluster})
        second.reload()
        if others:
            wait_for_nodes(second, *others)
            wait_for_nodes(first, *others)
        else:
            wait_for_nodes(first, "a")
    second.write_config(config)
    second.reload()
    wait_for_nodes(first, "a")
    assert second.api("GET", "/admin/nodes")["enabled"] is False


def test_what_the_api_acknowledged_survives_a_crash_of_both_and_belongs_to_one_balancer(
    evenflow: StartEvenflow, origins: StartOrigins, redis_servers: RedisServers, tmp_path: Path
) -> None:
    (a,) = origins("a")
    redis = redis_servers.start(durable=True)
    state = {"store": "redis", "url": redis.url, "lease": "2s"}
    balancer = evenflow(document(a.url, state=state))

    def backends() -> list[str]:
        return [each["id"] for each in balancer.api("GET", "/admin/backends")["backends"]]

    balancer.api("POST", "/admin/backends", {"id": "kept", "url": a.url})
    balancer.signal(signal.SIGKILL)
    redis.kill()
    redis.start()
    balancer.wait()
    balancer.start()
    assert backends() == ["backend-1", "kept"]

    other = {"LB_PORT": str(free_port()), "LB_BACKENDS": a.url, "LB_STATE__STORE": "redis"}
    refused = run_evenflow("serve", env={**other, "LB_STATE__URL": redis.url}, directory=tmp_path)
    assert refused.returncode == 1
    assert f"process {balancer.pid}" in refused.stderr
    assert "give this one another `state.prefix`" in refused.stderr

    redis.kill()
    detail = balancer.api("POST", "/admin/backends", {"id": "lost", "url": a.url}, expect=503)
    assert redis.address in detail["detail"]
    assert balancer.request().status == 200
    assert backends() == ["backend-1", "kept"]
    redis.start()
    wait_for(
        lambda: balancer.api("POST", "/admin/backends", {"id": "later", "url": a.url}),
        "changes being taken again",
    )
    assert backends() == ["backend-1", "kept", "later"]
