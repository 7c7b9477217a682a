"""A health monitor over a controller and the in-memory engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from evenflow.config import read_document
from evenflow.controller import BackendStatus, Controller
from evenflow.health import HealthMonitor
from evenflow.state import MemoryStore
from evenflow.testing.fake_engine import Answer, FakeEngine

CHECK = {"interval": "50ms", "timeout": "1s", "healthy_threshold": 2, "unhealthy_threshold": 3}
A, B = "192.0.2.1:80", "192.0.2.2:80"


@dataclass
class Ward:
    """A monitored pair of backends, `a` and `b`."""

    engine: FakeEngine
    controller: Controller
    monitor: HealthMonitor

    async def start(self, **sections: Any) -> None:
        """Start with the two backends and these sections."""
        document = {
            "backends": [{"id": "a", "url": f"http://{A}"}, {"id": "b", "url": f"http://{B}"}],
            "health_check": CHECK,
            **sections,
        }
        await self.controller.start(read_document(document))
        self.controller.start_background()
        self.monitor.start()

    def status(self, id: str) -> BackendStatus:
        """How a backend stands."""
        (found,) = [entry for entry in self.controller.backends() if entry.id == id]
        return found

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition."""
        try:
            async with asyncio.timeout(5):
                while not condition():
                    await asyncio.sleep(0.002)
        except TimeoutError:
            pytest.fail(f"not within 5 s: {what}; backends: {self.controller.backends()}")

    async def until_status(self, id: str, status: str) -> None:
        """Wait for a backend's status."""
        await self.until(lambda: self.status(id).status == status, f"{id} is {status}")


@pytest.fixture
async def ward() -> AsyncIterator[Ward]:
    engine = FakeEngine(answers={A: Answer(), B: Answer()})
    controller = Controller(engine, MemoryStore(), admin_socket="/run/admin.sock")
    made = Ward(engine, controller, HealthMonitor(controller))
    yield made
    made.monitor.close()
    await controller.close()
    engine.close()
