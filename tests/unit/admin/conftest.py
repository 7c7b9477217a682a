"""The admin app on a real server behind a Unix socket, over a controller with a fake engine."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from evenflow.admin import create_app, serving
from evenflow.config import Config, read_document
from evenflow.controller import Controller
from evenflow.private_socket import bind_private
from evenflow.state import MemoryStore
from evenflow.testing.fake_engine import FakeEngine

LOOPBACK = "127.0.0.1"


@dataclass
class Admin:
    """A running admin app. `http` speaks as the engine does for a loopback client."""

    engine: FakeEngine
    controller: Controller
    http: httpx.AsyncClient
    socket: Path
    levels: list[str] = field(default_factory=list)
    """The log levels the app has set."""

    async def json(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        """Exchange JSON and check the status."""
        response = await self.http.request(method, path, json=body)
        assert response.status_code == status, response.text
        return response.json()


StartAdmin = Callable[..., Awaitable[Admin]]


@pytest.fixture
async def start_admin(tmp_path: Path) -> AsyncIterator[StartAdmin]:
    """Start the app over a configuration document."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(document: dict[str, Any], *, read_sources: Any = None) -> Admin:
            socket = tmp_path / "admin.sock"
            engine = FakeEngine()
            stack.callback(engine.close)
            controller = Controller(
                engine, MemoryStore(), admin_socket=str(socket), read_sources=read_sources
            )
            stack.push_async_callback(controller.close)
            await controller.start(read_document(document))
            levels: list[str] = []
            app = create_app(controller, set_log_level=levels.append)
            await stack.enter_async_context(serving(app, bind_private(socket)))
            http = await stack.enter_async_context(
                httpx.AsyncClient(
                    transport=httpx.AsyncHTTPTransport(uds=str(socket)),
                    base_url="http://localhost:8080",
                    headers={"evenflow-client": LOOPBACK},
                    timeout=30,
                )
            )
            return Admin(engine, controller, http, socket, levels)

        yield start


@pytest.fixture
async def admin(start_admin: StartAdmin) -> Admin:
    """The app over two backends."""
    return await start_admin(two_backends())


def two_backends() -> dict[str, Any]:
    """A small configuration."""
    return {
        "backends": [
            {"id": "a", "url": "http://127.0.0.1:8081"},
            {"id": "b", "url": "http://127.0.0.1:8082", "weight": 50, "labels": {"zone": "x"}},
        ]
    }


@pytest.fixture
def config() -> Config:
    """The configuration of `admin`."""
    return read_document(two_backends())
