"""Signals and watched files: what a process adds to a `LoadBalancer` that serves for ever.

Used by `LoadBalancer.serve_forever`; a program that embeds the balancer keeps its own signals.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Protocol

import structlog

from evenflow.certs import Stamp, stamp
from evenflow.controller.tasks import OwnedTasks

POLL_S: Final = 0.5
_CLOSE_TIMEOUT_S: Final = 5.0

_log = structlog.get_logger("evenflow.lifecycle")


class Served(Protocol):
    """What signals do to a balancer."""

    @property
    def stopping(self) -> bool:
        """Whether a stop was requested."""

    def request_stop(self, *, deadline_s: float | None = None) -> None:
        """Ask for a stop."""

    async def reload_quietly(self, source: str) -> None:
        """Reload without raising."""

    def reopen_logs(self) -> None:
        """Reopen log files."""


@asynccontextmanager
async def handling_signals(balancer: Served) -> AsyncIterator[None]:
    """SIGTERM and SIGINT stop, a second one at once; SIGHUP reloads; SIGUSR1 reopens the logs."""
    loop = asyncio.get_running_loop()
    tasks = OwnedTasks()

    def stop() -> None:
        balancer.request_stop(deadline_s=0.0 if balancer.stopping else None)

    def reload() -> None:
        tasks.start(balancer.reload_quietly("SIGHUP"), "reload")

    def reopen() -> None:
        try:
            balancer.reopen_logs()
        except Exception as error:  # noqa: BLE001 - a log that cannot be opened stops no traffic
            _log.error("logs not reopened", reason=str(error))

    handlers = {
        signal.SIGTERM: stop,
        signal.SIGINT: stop,
        signal.SIGHUP: reload,
        signal.SIGUSR1: reopen,
    }
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)
        await tasks.close(_CLOSE_TIMEOUT_S)


def settle_memory() -> None:
    """Leave what start-up made out of later garbage collections; for whole programs only.

    With 10,000 backends a full collection stops the event loop for about 70 ms, and it would find
    nothing: these objects live as long as the process.
    """
    gc.collect()
    gc.freeze()


@asynccontextmanager
async def watch_files(
    paths: Sequence[Path],
    changed: Callable[[], Awaitable[None]],
    poll_s: float = POLL_S,
    known: Sequence[Stamp] | None = None,
) -> AsyncIterator[None]:
    """Call `changed` after any of the files changed and then rested for one poll.

    `known` are the stamps of the files as they were read, so that no change since then is missed.
    Files are polled: that works on every file system and through renames and links, and costs a
    few microseconds. A file that vanishes is waited for.
    """
    first = [stamp(path) for path in paths] if known is None else list(known)

    async def watch() -> None:
        told = latest = first
        while True:
            await asyncio.sleep(poll_s)
            before, latest = latest, [stamp(path) for path in paths]
            # Half-written files are left alone until their writer rests.
            if latest != told and latest == before and None not in latest:
                told = latest
                await changed()

    tasks = OwnedTasks()
    tasks.loop_forever(watch(), "watch files")
    try:
        yield
    finally:
        await tasks.close(_CLOSE_TIMEOUT_S)
