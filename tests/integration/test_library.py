"""evenflow as a library inside an asyncio program."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from evenflow import Backend, Config, ConfigError, EngineError, LoadBalancer, Request
from evenflow.config import HealthCheck, LoadBalancerConfig
from evenflow.testing import Response, document, free_port, request, running_balancer

if TYPE_CHECKING:
    from tests.conftest import StartOrigins


async def ask(balancer: LoadBalancer, target: str = "/", **options: str) -> Response:
    """Make one request to a balancer of this program."""
    ((address, *_), *_) = balancer.addresses.values()
    port = int(address.rpartition(":")[2])
    return await asyncio.to_thread(request, port, "GET", target, **options)  # type: ignore[arg-type]


async def test_the_example_of_the_documentation_works(origins: StartOrigins) -> None:
    a, b = origins("a", "b")
    config = Config.model_validate(document({"id": "a", "url": a.url}))
    config = config.model_copy(
        update={"load_balancer": config.load_balancer.model_copy(update={"port": free_port()})}
    )
    async with LoadBalancer(config) as lb:
        await lb.add_backend(Backend(id="b", url=b.url, weight=50))
        await lb.set_strategy("ip_hash")
        assert [backend.id for backend in lb.backends] == ["a", "b"]
        assert [backend.id for backend in lb.healthy_backends] == ["a", "b"]
        explained = lb.explain(Request("GET", "/users/7", client="127.0.0.1"))
        served = await ask(lb, "/users/7")
        assert served.text.strip() == explained["backend"]
        assert explained["reason"]
        assert lb.stats()["total_requests"] == 1
        chosen = lb.select_backend(Request("GET", "/users/7", client="127.0.0.1"))
        assert chosen is not None
        assert chosen.id == explained["backend"]
        await lb.remove_backend("a")
        assert (await ask(lb)).text == "b\n"
        forever = asyncio.create_task(lb.serve_forever())
        lb.request_stop()
        await asyncio.wait_for(forever, 20)


async def test_a_balancer_serves_and_stops_with_its_block(origins: StartOrigins) -> None:
    (a,) = origins("a")
    async with running_balancer(document(a.url)) as lb:
        ((address, *_), *_) = lb.addresses.values()
        assert (await ask(lb)).text == "a\n"
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(request, int(address.rpartition(":")[2]))


async def test_two_balancers_serve_in_one_program(origins: StartOrigins) -> None:
    a, b = origins("a", "b")
    async with running_balancer(document(a.url)) as one, running_balancer(document(b.url)) as two:
        assert (await ask(one)).text == "a\n"
        assert (await ask(two)).text == "b\n"


async def test_a_balancer_starts_again_after_its_stop(origins: StartOrigins) -> None:
    (a,) = origins("a")
    async with running_balancer(document(a.url)) as lb:
        await lb.stop()
        await lb.start()
        assert (await ask(lb)).text == "a\n"


async def test_a_change_that_is_refused_changes_nothing(origins: StartOrigins) -> None:
    (a,) = origins("a")
    async with running_balancer(document({"id": "a", "url": a.url})) as lb:
        with pytest.raises(ConfigError) as refused:
            await lb.add_backend(Backend(id="a", url=a.url))
        assert refused.value.errors
        with pytest.raises(ConfigError):
            await lb.set_strategy("best")
        assert [backend.id for backend in lb.backends] == ["a"]
        assert (await ask(lb)).text == "a\n"


async def test_a_port_in_use_is_an_error_of_the_configuration(origins: StartOrigins) -> None:
    (a,) = origins("a")
    port = free_port()
    wanted = document(a.url, load_balancer={"port": port})
    async with running_balancer(wanted):
        with pytest.raises(ConfigError, match=str(port)):
            async with running_balancer(wanted):
                pass


async def test_a_backend_drains_and_says_when_it_is_empty(origins: StartOrigins) -> None:
    a, b = origins("a", "b")
    wanted = document({"id": "a", "url": a.url}, {"id": "b", "url": b.url})
    async with running_balancer(wanted) as lb:
        assert await lb.drain_backend("a")
        for _ in range(3):
            assert (await ask(lb)).text == "b\n"


async def test_a_running_balancer_is_measured_by_its_own_statistics(
    origins: StartOrigins,
) -> None:
    (a,) = origins("a")
    async with running_balancer(document({"id": "a", "url": a.url})) as lb:
        for _ in range(5):
            await ask(lb)
        stats = lb.stats()
        assert stats["total_requests"] == 5
        assert stats["total_errors"] == 0
        assert stats["backend_stats"]["a"]["total_requests"] == 5


async def test_one_endpoint_and_the_totals_agree_with_the_snapshot(origins: StartOrigins) -> None:
    """They are what is asked often; a snapshot of thousands of endpoints takes long."""
    (a,) = origins("a")
    config = Config(
        load_balancer=LoadBalancerConfig(host="127.0.0.1", port=0),
        backends=[Backend(id="a", url=a.url)],
        health_check=HealthCheck(enabled=False),
    )
    async with LoadBalancer(config) as balancer:
        for _ in range(3):
            assert (await ask(balancer)).status == 200
        engine = balancer.controller.engine
        (shown,) = engine.snapshot()["endpoints"]
        found = engine.endpoint_snapshot("default", "a")
        assert shown["requests"] == found["requests"] == engine.totals()["requests"] == 3
        assert found.keys() == shown.keys()
        with pytest.raises(EngineError, match="no endpoint"):
            engine.endpoint_snapshot("default", "nobody")
