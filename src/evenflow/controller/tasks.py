"""Tasks with an owner: each is kept until it ends, its failure is logged, `close` ends them all."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

T = TypeVar("T")

_log = structlog.get_logger("evenflow.tasks")


class OwnedTasks:
    """Tasks that fail apart from each other, which a `TaskGroup`'s do not."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run `work` until it ends or the owner closes."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def loop_forever(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run `work`, which is not expected to end; if it fails, that is logged."""
        task = self.start(work, name)
        task.add_done_callback(_log_failure)
        return task

    async def close(self, timeout_s: float) -> None:
        """Cancel what still runs and wait for its end, at most so long."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # fetched here, so that one nobody waited for is not reported twice


def _log_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("task failed", task=task.get_name(), reason=str(error), exc_info=error)
