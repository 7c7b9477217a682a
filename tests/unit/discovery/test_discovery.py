"""All sources together: followed as the configuration names them, put in force a moment at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from evenflow.config import ConfigError, read_document
from evenflow.controller import Controller
from evenflow.discovery import Discovery
from evenflow.state import MemoryStore
from evenflow.testing.fake_engine import FakeEngine
from tests.unit.discovery import sources_of_mine
from tests.unit.discovery.conftest import entry

MINE = "tests.unit.discovery.sources_of_mine"


def source(name: str, **fields: Any) -> dict[str, Any]:
    """An entry whose source tells what the test puts into `told`."""
    return {"use": f"{MINE}:told", "options": {"name": name}, "name": name, **fields}


def pools(**discover: Any) -> dict[str, Any]:
    """A configuration with these pools, each with its sources."""
    return {
        "pools": [{"name": name, "discover": each} for name, each in discover.items()],
        "routes": [
            {"name": name, "match": {"path": f"/{name}/*"}, "pool": name} for name in discover
        ],
        "health_check": {"enabled": False},
    }


class Running:
    """A controller over the in-memory engine, with discovery."""

    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.controller = Controller(self.engine, MemoryStore(), admin_socket="/run/s")
        self.discovery = Discovery(self.controller)

    async def start(self, document: dict[str, Any]) -> None:
        await self.controller.start(read_document(document))
        self.discovery.start()

    def members(self, pool: str) -> list[str]:
        return [id for name, id in self.controller.members if name == pool]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)


@pytest.fixture
async def running(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    monkeypatch.setattr(sources_of_mine, "TOLD", {})
    made = Running()
    yield made
    await made.discovery.close()
    await made.controller.close()
    made.engine.close()


async def test_the_first_answers_are_there_at_the_start(running: Running) -> None:
    sources_of_mine.tell("a", "10.0.0.1:80", "10.0.0.2:80")
    sources_of_mine.tell("b", "10.0.0.2:80", "10.0.0.3:80")
    await running.start(pools(users=[source("a"), source("b")]))
    assert running.members("users") == ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]
    assert [each.endpoints for each in running.controller.discovery()] == [2, 2]
    assert [event.kind for event in running.controller.decisions] == [
        "discovery",
        "discovery",
        "apply",
    ]


async def test_what_happens_within_a_moment_is_one_change(running: Running) -> None:
    sources_of_mine.tell("a", "10.0.0.1:80")
    sources_of_mine.tell("b", "10.0.0.2:80")
    await running.start(pools(users=source("a"), orders=source("b")))
    plans = len(running.engine.plans)
    sources_of_mine.tell("a", "10.0.0.1:80", "10.0.0.9:80")
    sources_of_mine.tell("b", "10.0.0.2:80", "10.0.0.8:80")
    await running.until(lambda: len(running.controller.members) == 4)
    assert len(running.engine.plans) == plans + 1
    assert running.controller.revision == 1


async def test_sources_come_and_go_with_the_configuration(running: Running) -> None:
    sources_of_mine.tell("a", "10.0.0.1:80")
    sources_of_mine.tell("b", "10.0.0.2:80")
    await running.start(pools(users=source("a")))
    await running.controller.apply(read_document(pools(users=source("b"))), source="test")
    assert running.members("users") == ["10.0.0.2:80"]
    await running.controller.apply(read_document(pools(users=[])), source="test")
    assert running.members("users") == []
    assert running.controller.discovery() == []
    await running.until(lambda: not sources_of_mine.asking())


async def test_an_entry_that_changed_serves_what_it_had_until_it_answers(running: Running) -> None:
    sources_of_mine.tell("a", "10.0.0.1:80")
    await running.start(pools(users=source("a")))
    other = {**source("silent", timeout="100ms"), "name": "a"}
    await running.controller.apply(read_document(pools(users=other)), source="test")
    assert running.members("users") == ["10.0.0.1:80"]
    sources_of_mine.tell("silent", "10.0.0.7:80")
    await running.until(lambda: running.members("users") == ["10.0.0.7:80"])


async def test_a_refused_change_leaves_the_sources_of_before(running: Running) -> None:
    sources_of_mine.tell("a", "10.0.0.1:80")
    sources_of_mine.tell("b", "10.0.0.2:80")
    await running.start(pools(users=source("a")))
    wrong = {"use": f"{MINE}:nowhere"}
    with pytest.raises(ConfigError) as refused:
        await running.controller.apply(
            read_document(pools(users=[source("b"), wrong])), source="test"
        )
    assert refused.value.errors[0].path == "pools[0].discover[1].use"
    await running.until(lambda: sources_of_mine.asking() == {"a"})
    sources_of_mine.tell("a", "10.0.0.9:80")
    await running.until(lambda: running.members("users") == ["10.0.0.9:80"])


async def test_a_set_that_a_strategy_refuses_is_tried_again(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evenflow.discovery.discovery.AGAIN_S", 0.01)
    sources_of_mine.tell("a", "10.0.0.1:80")
    document = pools(users=source("a"))
    document["pools"][0]["strategy"] = f"{MINE}:at_most_two"
    await running.start(document)
    sources_of_mine.tell("a", "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80")
    await running.until(lambda: running.controller.discovery()[0].endpoints == 3)
    await asyncio.sleep(0.1)
    assert running.members("users") == ["10.0.0.1:80"]
    sources_of_mine.tell("a", "10.0.0.2:80", "10.0.0.3:80")
    await running.until(lambda: running.members("users") == ["10.0.0.2:80", "10.0.0.3:80"])


def test_every_kind_of_source_is_there() -> None:
    from evenflow.config.discovery import SOURCES
    from evenflow.discovery.discovery import source_of

    for kind in SOURCES:
        assert source_of(kind).__name__ == kind
    assert entry(dns="a:1").kind == "dns"
