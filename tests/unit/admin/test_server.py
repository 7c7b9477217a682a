"""The server: private, quiet, and stoppable."""

from __future__ import annotations

import asyncio
import signal
import stat
from pathlib import Path

import pytest

from evenflow.admin import create_app, serving
from evenflow.private_socket import bind_private, private_socket

from .conftest import Admin


async def test_only_this_user_can_connect(admin: Admin) -> None:
    assert stat.S_IMODE(admin.socket.stat().st_mode) & 0o077 == 0


def test_the_socket_has_a_directory_of_its_own() -> None:
    with private_socket() as listener:
        path = Path(listener.getsockname())
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.parent.exists()


async def test_signals_are_left_to_the_program(admin: Admin) -> None:
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert (await admin.http.get("/health")).status_code == 200


async def test_it_stops_while_a_stream_is_open(admin: Admin, tmp_path: Path) -> None:
    path = tmp_path / "second.sock"
    app = create_app(admin.controller)

    async def follow() -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(
            b"GET /api/v1/admin/events HTTP/1.1\r\nHost: localhost\r\n"
            b"evenflow-client: 127.0.0.1\r\n\r\n"
        )
        await reader.readuntil(b": evenflow\n")
        started.set()
        rest = await reader.read()
        writer.close()
        await writer.wait_closed()
        return rest

    started = asyncio.Event()
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        async with serving(app, bind_private(path)):
            following = tasks.create_task(follow())
            await started.wait()
        assert b"0\r\n\r\n" in await following


async def test_what_the_block_raises_comes_out_as_it_is(admin: Admin, tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        async with serving(create_app(admin.controller), bind_private(tmp_path / "other.sock")):
            raise KeyError


async def test_a_path_that_is_taken_is_refused(admin: Admin) -> None:
    with pytest.raises(OSError, match="in use"):
        bind_private(admin.socket)
    assert (await admin.http.get("/health")).status_code == 200
