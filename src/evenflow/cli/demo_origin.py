"""The demo's origins: small HTTP servers inside the program that tell who answered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]


@asynccontextmanager
async def demo_origins(count: int) -> AsyncIterator[dict[str, str]]:
    """So many origins on free ports of loopback while the block runs: their URLs by name."""
    servers, urls = list[_Server](), dict[str, str]()
    sockets = list[socket.socket]()
    for number in range(1, count + 1):
        name = f"origin-{number}"
        listener = socket.create_server(("127.0.0.1", 0))
        sockets.append(listener)
        urls[name] = f"http://127.0.0.1:{listener.getsockname()[1]}"
        servers.append(_Server(_origin(name)))
    async with asyncio.TaskGroup() as group:
        for server, listener in zip(servers, sockets, strict=True):
            group.create_task(server.serve([listener]))
        try:
            yield urls
        finally:
            for server in servers:
                server.should_exit = True


class _Server(uvicorn.Server):
    """Leaves signals to the balancer."""

    def __init__(self, app: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_keep_alive=3600,
                timeout_graceful_shutdown=1,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _origin(name: str) -> Callable[[Mapping[str, Any], Receive, Send], Awaitable[None]]:
    async def answer(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        fields = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        document = {
            "served_by": name,
            "method": scope["method"],
            "path": scope["path"],
            "client": fields.get("x-forwarded-for"),
            "request_id": fields.get("x-request-id"),
        }
        body = json.dumps(document).encode() + b"\n"
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer
