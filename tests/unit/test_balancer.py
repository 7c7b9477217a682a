"""`LoadBalancer` as a program embeds it, over the in-memory engine."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from evenflow import Backend, Config, ConfigError, LoadBalancer, MemoryStore, Request
from evenflow.config import read_document
from evenflow.testing.fake_engine import FakeEngine, engine_error

OFF = {"enabled": False}


def config(*names: str, **sections: Any) -> Config:
    backends = [
        {"id": name, "url": f"http://192.0.2.{position}:80"}
        for position, name in enumerate(names, 1)
    ]
    return read_document({"backends": backends, "health_check": OFF, **sections})


async def test_it_serves_while_the_block_runs() -> None:
    engine = FakeEngine()
    async with LoadBalancer(config("a"), engine=engine) as balancer:
        assert (engine.accepting, engine.closed) == (True, False)
        assert [backend.id for backend in balancer.healthy_backends] == ["a"]
        assert balancer.addresses["main"]
    assert (engine.accepting, engine.closed) == (False, True)


async def test_changes_are_in_effect_when_their_call_returns() -> None:
    async with LoadBalancer(config("a"), engine=FakeEngine()) as balancer:
        await balancer.add_backend(Backend(id="b", url="http://192.0.2.9:80", weight=50))
        await balancer.update_backend("b", weight=60)
        await balancer.set_strategy("ip_hash")
        await balancer.remove_backend("a")
        assert [(backend.id, backend.weight) for backend in balancer.backends] == [("b", 60)]
        assert balancer.config.load_balancer.strategy == "ip_hash"


async def test_it_tells_which_backend_a_request_would_go_to() -> None:
    async with LoadBalancer(config("a", "b"), engine=FakeEngine()) as balancer:
        request = Request("GET", "/users/7", client="192.0.2.1", headers={"Host": "a.test"})
        assert request.document()["headers"] == [("host", "a.test")]
        assert balancer.explain(request)["backend"] == "a"
        assert await balancer.drain_backend("a")
        selected = balancer.select_backend(request)
        assert selected is not None
        assert selected.id == "b"


async def test_statistics_have_the_original_shape() -> None:
    engine = FakeEngine()
    async with LoadBalancer(config("a"), engine=engine) as balancer:
        engine.count("default", "a", requests=4, status_5xx=1)
        stats = balancer.stats()
    assert stats["total_requests"] == 4
    assert stats["backend_stats"]["a"] == {
        "total_requests": 4,
        "total_errors": 1,
        "active_connections": 0,
        "average_response_time": "5ms",
    }
    assert set(stats) >= {"total_errors", "average_response_time", "requests_per_second"}


async def test_a_start_that_fails_leaves_nothing_running() -> None:
    engine = FakeEngine()

    def refuse(plan: object) -> None:
        raise engine_error("bind", "listeners[0].addresses[0]", "address in use")

    engine.before_apply = refuse
    balancer = LoadBalancer(config("a"), engine=engine)
    with pytest.raises(ConfigError, match="address in use"):
        await balancer.start()
    assert engine.closed
    with pytest.raises(RuntimeError, match="not running"):
        _ = balancer.backends


async def test_it_keeps_changes_where_its_configuration_says(tmp_path: Path) -> None:
    given = config("a", state={"store": "sqlite", "path": str(tmp_path)})
    async with LoadBalancer(given, engine=FakeEngine()) as balancer:
        await balancer.add_backend(Backend(id="b", url="http://192.0.2.9:80"))
    async with LoadBalancer(given, engine=FakeEngine()) as balancer:
        assert [backend.id for backend in balancer.backends] == ["a", "b"]


async def test_without_a_stated_store_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with LoadBalancer(config("a"), engine=FakeEngine()) as balancer:
        await balancer.add_backend(Backend(id="b", url="http://192.0.2.9:80"))
    assert list(tmp_path.iterdir()) == []


async def test_the_callback_gets_every_configuration_in_force() -> None:
    seen: list[int] = []
    balancer = LoadBalancer(
        config("a"), engine=FakeEngine(), on_config=lambda c: seen.append(len(c.backends))
    )
    async with balancer:
        await balancer.add_backend(Backend(id="b", url="http://192.0.2.9:80"))
    assert seen == [1, 2]


def running_backends(balancer: LoadBalancer) -> list[Any]:
    try:
        return list(balancer.backends)
    except RuntimeError:
        return []


async def until(condition: Any, what: str) -> None:
    try:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        pytest.fail(f"not within 30 s: {what}")


async def test_a_program_reloads_reopens_and_drains_on_signals() -> None:
    engine = FakeEngine()
    current = config("a")
    reopened: list[bool] = []
    balancer = LoadBalancer(
        current,
        engine=engine,
        store=MemoryStore(),
        read_sources=lambda: current,
        reopen_logs=lambda: reopened.append(True),
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(balancer.serve_forever(handle_signals=True))
        await until(lambda: signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL, "it serves")
        current = config("a", "b")
        os.kill(os.getpid(), signal.SIGHUP)
        # The signal came while the first configuration was being put in force, and is not lost.
        await until(lambda: len(running_backends(balancer)) == 2, "the reload")
        os.kill(os.getpid(), signal.SIGUSR1)
        await until(lambda: reopened, "the logs are reopened")
        assert engine.logs_reopened == 1
        os.kill(os.getpid(), signal.SIGTERM)
    assert engine.closed


async def test_a_stop_waits_for_what_is_in_flight() -> None:
    engine = FakeEngine()
    balancer = LoadBalancer(config("a"), engine=engine)
    await balancer.start()
    engine.endpoint("default", "a").in_flight = 1
    async with asyncio.TaskGroup() as group:
        stopping = group.create_task(balancer.stop())
        await until(lambda: not engine.accepting, "it accepts no more")
        await asyncio.sleep(0.05)
        assert not stopping.done()
        engine.endpoint("default", "a").in_flight = 0
    assert engine.closed


async def test_a_second_signal_cuts_the_drain_short() -> None:
    engine = FakeEngine()
    balancer = LoadBalancer(config("a", server={"shutdown_timeout": "1h"}), engine=engine)
    async with asyncio.TaskGroup() as group, asyncio.timeout(10):
        await balancer.start()
        serving = group.create_task(balancer.serve_forever(handle_signals=True))
        await until(lambda: signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL, "it serves")
        engine.endpoint("default", "a").in_flight = 1
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: not engine.accepting, "it drains")
        os.kill(os.getpid(), signal.SIGTERM)
        await serving
    assert engine.closed


async def test_a_failed_reload_keeps_serving_and_says_why() -> None:
    def broken() -> Config:
        return read_document({"backends": [{"url": "nonsense"}]})

    balancer = LoadBalancer(
        config("a"), engine=FakeEngine(), store=MemoryStore(), read_sources=broken
    )
    async with balancer:
        with pytest.raises(ConfigError):
            await balancer.reload()
        assert "backends[0].url" in (balancer.controller.last_reload_error or "")
        assert [backend.id for backend in balancer.backends] == ["a"]
