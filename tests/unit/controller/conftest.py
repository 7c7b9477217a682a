"""A controller over the in-memory engine and a store in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from evenflow.config import Backend, Config, read_document
from evenflow.controller import Controller
from evenflow.state import MemoryStore, StateError, StateStore, StoredRevision
from evenflow.testing.fake_engine import FakeEngine


def backend(name: str, port: int = 80, **fields: Any) -> Backend:
    """A backend on a documentation address; it has no checks that would need answers."""
    return read_document(
        {"backends": [{"id": name, "url": f"http://192.0.2.1:{port}", **fields}]}
    ).backends[0]


def document(*names: str, **sections: Any) -> dict[str, Any]:
    """A configuration with these backends, each on a port of its own."""
    backends = [
        {"id": name, "url": f"http://192.0.2.1:{8000 + position}"}
        for position, name in enumerate(names)
    ]
    return {"backends": backends, **sections}


class FailingStore(MemoryStore):
    """A store whose disk may fail."""

    def __init__(self) -> None:
        super().__init__()
        self.failing = False

    async def save(self, entry: StoredRevision, *, base: Any = None) -> None:
        if self.failing:
            raise StateError("the disk is full")
        await super().save(entry, base=base)


@dataclass
class Bench:
    """A controller with what it works on."""

    engine: FakeEngine = field(default_factory=FakeEngine)
    store: StateStore = field(default_factory=FailingStore)
    file: dict[str, Any] = field(default_factory=lambda: document("a", "b"))
    names: dict[str, list[str]] = field(default_factory=dict)
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    """Until it is set, names below `slow.test` have no answer."""
    asked: list[str] = field(default_factory=list)
    controllers: list[Controller] = field(default_factory=list)

    async def lookup(self, host: str) -> list[str]:
        """Resolve as the test says."""
        self.asked.append(host)
        if host.endswith("slow.test"):
            await self.answering.wait()
        if host not in self.names:
            raise OSError(f"unknown host {host}")
        return self.names[host]

    def read(self) -> Config:
        """Read the file that the test wrote."""
        return read_document(self.file)

    async def start(self) -> Controller:
        """A controller that has started; a second one is a restart."""
        controller = Controller(
            self.engine,
            self.store,
            admin_socket="/run/evenflow/admin.sock",
            read_sources=self.read,
            lookup=self.lookup,
        )
        self.controllers.append(controller)
        await controller.start(self.read())
        return controller

    def ids(self, pool: str = "default") -> list[str]:
        """The backends in the engine's plan."""
        for entry in self.engine.plan["pools"]:
            if entry["name"] == pool:
                return [endpoint["id"] for endpoint in entry["endpoints"]]
        return []


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    for controller in made.controllers:
        await controller.close()
    made.engine.close()


Start = Callable[[], Any]
