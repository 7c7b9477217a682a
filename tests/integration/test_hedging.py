"""Second tries of slow requests: what the client sees, what backends see, and what it costs."""

from __future__ import annotations

import asyncio
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import TYPE_CHECKING, Any

from evenflow.testing import Gate, Load, document, wait_for
from evenflow.testing.authority import Authority
from evenflow.testing.behaviours import hang_up, raw, respond

if TYPE_CHECKING:
    from pathlib import Path

    from evenflow.testing import Behaviour, EvenflowProcess, Exchange, Origin
    from tests.conftest import StartEvenflow, StartOrigins

FAILED = 'evenflow_hedges_total{route="app",result="failed"}'
SOON: dict[str, object] = {"after": "30ms", "budget": 1.0}


def start(
    evenflow: StartEvenflow, *origins: Origin, hedge: dict[str, object] | None, **sections: Any
) -> EvenflowProcess:
    """A balancer over these origins that retries and ejects nothing; the first one gets the first."""
    base = {"max_retries": 0, "outlier": {"enabled": False}}
    more = sections.pop("load_balancer", {})
    pool = sections.pop("pool", {})
    route: dict[str, object] = {"name": "app", "pool": "app", **sections.pop("route", {})}
    if hedge is not None:
        route["hedge"] = hedge
    backends = [{"id": o.name, "url": o.url, **pool.pop(o.name, {})} for o in origins]
    return evenflow(
        document(
            load_balancer={**base, **more},
            pools=[{"name": "app", "backends": backends, **pool}],
            routes=[route],
            logging={"access": {"enabled": True}},
            **sections,
        )
    )


def hedges(balancer: EvenflowProcess) -> dict[str, float]:
    """How hedges ended, by result."""
    start = 'evenflow_hedges_total{route="app",result="'
    found = balancer.metrics().items()
    return {name[len(start) : -2]: count for name, count in found if name.startswith(start)}


def errors(balancer: EvenflowProcess) -> float:
    """How many failures backends are charged with."""
    metrics = balancer.metrics().items()
    return sum(count for name, count in metrics if name.startswith("evenflow_backend_errors_total"))


def sometimes_slow(share: float, slow_s: float, seed: int) -> Behaviour:
    """Answer at once, or for a share of the requests late."""
    random = Random(seed)

    async def behave(exchange: Exchange) -> None:
        await exchange.read_body()
        if random.random() < share:
            await asyncio.sleep(slow_s)
        await exchange.send_whole(200, [("Content-Length", "2")], "OK", b"ok")

    return behave


async def mute(exchange: Exchange) -> None:
    """Say nothing until the other side gives up."""
    await exchange.read_body()
    await exchange.client_left()
    exchange.close()


def test_the_quicker_backend_answers_and_the_other_is_let_go(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    slow, quick = origins("slow", "quick")
    slow.default = mute
    balancer = start(evenflow, slow, quick, hedge={"after": "150ms", "budget": 1.0})
    with balancer.client() as client:
        for _ in range(2):
            slow.requests.clear()
            request = b"GET /x?y=1 HTTP/1.1\r\nHost: h.test\r\nX-Mine: 1\r\n\r\n"
            answers = [client.send(request).read_response() for _ in range(2)]
            assert [answer.body.strip() for answer in answers] == [b"quick"] * 2
            assert len(slow.requests) == 1
    first, second = slow.requests[-1], quick.requests[0]
    assert (second.method, second.target) == (first.method, first.target) == ("GET", "/x?y=1")
    kept = ("host", "x-mine", "x-request-id", "x-forwarded-for", "via")
    for each in (first, second):
        assert all(each.header(name) for name in kept)
    # Its connection is closed, and nobody is charged with a failure.
    wait_for(lambda: slow.open_connections == 0, "the slow one is let go")
    assert hedges(balancer) == {"won": 2}
    assert errors(balancer) == 0
    wait_for(
        lambda: not balancer.api("GET", "/admin/backends/slow")["active_connections"],
        "nothing left",
    )
    metrics = balancer.metrics()
    label = 'route="app",pool="app",backend="quick",status="200"'
    assert metrics[f"evenflow_requests_total{{{label}}}"] == 4

    def logged() -> list[dict[str, Any]]:
        return [each for each in balancer.events() if "latency_ms" in each]

    wait_for(lambda: len(logged()) == 4, "access records")
    assert [each.get("hedge") for each in logged()].count("won") == 2
    assert {(each["backend_id"], each["attempts"]) for each in logged()} == {("quick", 1)}


def test_interim_answers_of_the_slow_one_are_passed_on_all_the_same(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    slow, quick = origins("slow", "quick")
    gate = Gate()
    hints = [(103, [("Link", "</style.css>; rel=preload")])] * 3
    slow.default = respond(200, b"slow", before=gate, informational=hints)
    quick.default = respond(200, b"quick", informational=hints)
    balancer = start(evenflow, slow, quick, hedge=SOON)
    with balancer.client() as client:
        answer = client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").read_response()
    assert (answer.status, answer.body, len(answer.interim)) == (200, b"quick", 3)
    assert hedges(balancer) == {"won": 1}
    gate.open()


def test_a_quick_first_answer_calls_for_no_hedge(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    balancer = start(evenflow, a, b, hedge={"after": "5s", "budget": 1.0})
    assert balancer.tally(20) == {"a": 10, "b": 10}
    assert hedges(balancer) == {}


def test_a_slow_hedge_is_cancelled_when_the_first_answers(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    first, second = origins("first", "second")
    gate = Gate()
    first.default = respond(200, b"first", before=gate)
    second.default = mute
    balancer = start(evenflow, first, second, hedge=SOON)
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(balancer.request)
        second.wait_for_requests(1)
        gate.open()
        assert asked.result().body == b"first"
    wait_for(lambda: second.open_connections == 0, "the hedge is let go")
    assert hedges(balancer) == {"lost": 1}
    assert errors(balancer) == 0


def test_what_a_failing_hedge_does_changes_nothing(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    first, second = origins("first", "second")
    retry_on = ["connect", "reset", 503]
    balancer = start(evenflow, first, second, hedge=SOON, load_balancer={"retry_on": retry_on})
    ways = [
        hang_up(),
        respond(500),
        raw(b"what?\r\n\r\n"),
        respond(503, b"busy"),
        raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
    ]
    for count, way in enumerate(ways, 1):
        # They take turns: whichever is asked first is the slow one.
        slow, hedged = (first, second) if count % 2 else (second, first)
        gate = Gate()
        slow.default = respond(200, b"slow", before=gate)
        hedged.default = way
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(balancer.request)
            balancer.wait_for_metric(FAILED, count)
            gate.open()
            answer = asked.result()
        assert (answer.status, answer.body) == (200, b"slow")
        assert hedges(balancer) == {"failed": count}
        # The endpoint that failed is charged with it as ever.
        assert errors(balancer) == count


def test_a_hedge_answers_for_a_first_try_that_fails_late(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    first, second = origins("first", "second")
    broken, gate = Gate(), Gate()

    async def break_off(exchange: Exchange) -> None:
        await exchange.read_body()
        await broken.passed()
        exchange.reset()

    first.default = break_off
    second.default = respond(200, b"second", before=gate)
    balancer = start(evenflow, first, second, hedge=SOON)
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(balancer.request)
        second.wait_for_requests(1)
        broken.open()
        wait_for(lambda: first.open_connections == 0, "the first fails")
        gate.open()
        assert asked.result().body == b"second"
    assert hedges(balancer) == {"won": 1}
    assert errors(balancer) == 1


def test_only_requests_that_change_nothing_are_hedged(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    first, second = origins("first", "second")
    balancer = start(evenflow, first, second, hedge={"after": "1ms", "budget": 1.0})
    for origin in (first, second):
        origin.default = sometimes_slow(1.0, 0.05, 1)
    for method, body in (("POST", b"x"), ("PUT", b"x"), ("DELETE", None), ("PATCH", b"x")):
        assert balancer.request(method, body=body).status == 200
    assert balancer.request("GET", body=b"with a body").status == 200
    assert hedges(balancer) == {}
    assert len(first.requests) + len(second.requests) == 5
    for method in ("GET", "HEAD", "OPTIONS"):
        assert balancer.request(method).status == 200
    assert sum(hedges(balancer).values()) == 3


def test_a_hedge_finds_only_backends_that_take_requests(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    first, full, drained, broken = origins("first", "full", "drained", "broken")
    never = Gate()
    for origin in (first, full, broken):
        origin.default = respond(200, origin.name.encode(), before=never)
    balancer = start(
        evenflow,
        first,
        full,
        drained,
        broken,
        hedge={"after": "20ms", "budget": 1.0},
        pool={
            "full": {"max_connections": 1},
            "drained": {"drain": True},
            "breaker": {},
            "queue": {"max": 10, "timeout": "20s"},
        },
    )
    balancer.api("PUT", "/admin/backends/broken/breaker", {"state": "open"})
    with ThreadPoolExecutor() as pool:
        # Whichever has the turn, the other one is the hedge, and then both are busy.
        asked = [pool.submit(balancer.request)]
        wait_for(lambda: len(first.requests) + len(full.requests) == 2, "a hedge")
        asked.append(pool.submit(balancer.request))
        wait_for(lambda: hedges(balancer).get("unavailable") == 1, "no room for another")
        never.open()
        assert {each.result().status for each in asked} == {200}
    assert not drained.requests
    assert not broken.requests


def test_several_hedges_go_to_different_backends(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    started = origins(*"abcd")
    never = Gate()
    balancer = start(evenflow, *started, hedge={"after": "100ms", "max": 3, "budget": 1.0})
    # A share of one allows one for each request; quiet ones save up for more.
    for origin in started:
        origin.default = respond(200, b"quick")
    for _ in range(4):
        balancer.request()
    for origin in started:
        origin.forget()
        origin.default = respond(200, b"late", before=never)
    started[3].default = respond(200, b"d")
    assert balancer.request().body == b"d"
    assert all(len(origin.requests) <= 1 for origin in started)
    never.open()


def test_large_answers_over_kept_encrypted_connections_survive_hedging(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    context = authority.server_context(authority.issue("127.0.0.1", file="origin"))
    a, b = origins("a", "b", tls=context)
    body = bytes(range(256)) * 4096
    random = Random(5)

    async def behave(exchange: Exchange) -> None:
        await exchange.read_body()
        await asyncio.sleep(random.choice([0, 0, 0.03]))
        await exchange.send_head(200, [("Content-Length", str(len(body)))], "OK")
        await exchange.send(b"" if exchange.request.method == "HEAD" else body)

    a.default = b.default = behave
    balancer = start(
        evenflow,
        a,
        b,
        hedge={"after": "10ms", "budget": 1.0},
        pool={"tls": {"ca_file": str(authority.ca)}},
    )
    with balancer.client() as client:
        for index in range(40):
            method = "HEAD" if index % 4 == 0 else "GET"
            head = f"{method} /{index} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
            answer = client.send(head).read_response(method=method)
            assert answer.status == 200
            assert answer.body == (b"" if method == "HEAD" else body)
    found = hedges(balancer)
    assert found.get("won", 0) + found.get("lost", 0) > 3


def test_hedging_cuts_the_slow_tail_within_its_budget(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    # Both backends answer three of a hundred requests a second late: far more than what a machine
    # that is busy with other things adds.
    requests, late_s, budget = 640, 1.0, 0.12
    a, b = origins("a", "b")
    taken: dict[bool, list[float]] = {}
    for hedged in (False, True):
        for seed, origin in enumerate((a, b)):
            origin.forget()
            origin.default = sometimes_slow(0.03, late_s, seed)
        hedge: dict[str, object] = {"after": "80ms", "budget": budget}
        balancer = start(evenflow, a, b, hedge=hedge if hedged else None)
        taken[hedged] = measure(balancer, requests)
        seen = len(a.requests) + len(b.requests)
        if hedged:
            found = hedges(balancer)
            sent = found.get("won", 0) + found.get("lost", 0) + found.get("failed", 0)
            assert seen == requests + sent
            assert sent <= budget * requests
            assert found["won"] >= 8
        else:
            assert seen == requests
    before, after = (statistics.quantiles(taken[hedged], n=100)[98] for hedged in (False, True))
    assert before >= late_s
    assert after < late_s / 2, f"p99 {before:.3f} s without, {after:.3f} s with hedging"


def measure(balancer: EvenflowProcess, requests: int) -> list[float]:
    """Make requests one after the other on each of some connections; how long each took."""

    def one_after_the_other(count: int) -> list[float]:
        times = []
        with balancer.client() as client:
            for _ in range(count):
                began = time.perf_counter()
                client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").read_response()
                times.append(time.perf_counter() - began)
        return times

    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(one_after_the_other, [requests // 8] * 8))
    return [each for part in parts for each in part]


def test_a_percentile_is_learnt_from_what_backends_take(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    for seed, origin in enumerate((a, b)):
        origin.default = sometimes_slow(0.05, 0.3, seed)
    balancer = start(evenflow, a, b, hedge={"after": "p90", "budget": 0.2})
    name = 'evenflow_hedge_delay_seconds{route="app"}'
    assert name not in balancer.metrics()
    measure(balancer, 400)
    balancer.wait_for_metric(name, 0.0001)
    # Nine of ten take a few milliseconds on any machine, and far less than the slow ones.
    assert balancer.metrics()[name] < 0.25
    balancer.api("PATCH", "/admin/config", {"load_balancer": {"retry_delay": "1ms"}})
    times = measure(balancer, 400)
    found = hedges(balancer)
    assert found["won"] >= 5
    assert found["won"] + found.get("lost", 0) + found.get("failed", 0) <= 0.2 * 800
    assert statistics.quantiles(times, n=100)[97] < 0.3


def test_an_exhausted_budget_makes_no_hedges(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    for origin in (a, b):
        origin.default = sometimes_slow(1.0, 0.03, 1)
    balancer = start(evenflow, a, b, hedge={"after": "1ms", "budget": 0.25})
    for _ in range(20):
        assert balancer.request().status == 200
    found = hedges(balancer)
    sent = sum(count for result, count in found.items() if result != "over_budget")
    assert (sent, found["over_budget"]) == (5, 15)
    assert len(a.requests) + len(b.requests) == 25


def test_no_request_is_lost_under_load_with_hedges(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b = origins("a", "b")
    for seed, origin in enumerate((a, b)):
        origin.default = sometimes_slow(0.3, 0.01, seed)
    balancer = start(evenflow, a, b, hedge={"after": "2ms", "budget": 0.5}, server={"workers": 2})
    with Load(balancer.port, connections=16) as load:
        load.wait_for_more(1200)
        balancer.api("PATCH", "/admin/config", {"load_balancer": {"retry_delay": "1ms"}})
        load.wait_for_more(600)
    load.expect_no_failure()
    assert hedges(balancer)["won"] > 50
    listed = balancer.api("GET", "/admin/backends")["backends"]
    wait_for(
        lambda: (
            not any(
                each["active_connections"]
                for each in balancer.api("GET", "/admin/backends")["backends"]
            )
        ),
        "nothing in flight",
    )
    assert len(listed) == 2
    assert not a.violations + b.violations
