"""Serves the admin app on a socket inside the caller's event loop.

Only the engine connects here: it routes the balancer's own paths to this socket as to any backend.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

_STOP_WITHIN_S = 2
# The engine keeps its connections for less than this, so that it is always the engine that closes
# an idle one; the other way round a request could be sent into a connection that is being closed.
_KEEP_ALIVE_S = 3600
_HEAD_BYTES = 1 << 20


class _Server(uvicorn.Server):
    """Leaves signals to the program it is part of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(app: Starlette, listener: socket.socket) -> AsyncIterator[None]:
    """Serve `app` on a listening socket while the block runs, and close the socket afterwards.

    On leaving, streams end and requests get a moment to finish.
    """
    config = uvicorn.Config(
        app,
        http=H11Protocol,
        ws="none",
        lifespan="off",
        loop="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_STOP_WITHIN_S,
        h11_max_incomplete_event_size=_HEAD_BYTES,
    )
    server = _Server(config)
    closing: asyncio.Event = app.state.context.closing
    # Not a task group: it would wrap whatever the caller's block raises.
    running = asyncio.create_task(server.serve([listener]), name="evenflow-admin")
    try:
        while not server.started:
            if running.done():
                raise RuntimeError("the admin server ended before it served")
            await asyncio.sleep(0.001)
        yield
    finally:
        closing.set()
        server.should_exit = True
        try:
            await running
        finally:
            listener.close()
