"""The program's logs for as long as it serves: set up, followed through changes, rotated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import structlog

from evenflow.config import Config, LoggingConfig
from evenflow.controller.tasks import OwnedTasks
from evenflow.observe.logs import configure_logging, rotators
from evenflow.observe.rotation import keep_rotating

_CLOSE_TIMEOUT_S: Final = 5.0

_log = structlog.get_logger("evenflow.cli")


class Logs:
    """The logs of one serving process. `follow` is told of every configuration put in force."""

    def __init__(self, config: LoggingConfig) -> None:
        """Set up the program log; raises OSError when its file cannot be opened."""
        self._config = config
        self._program = configure_logging(config)
        self._reopen_access: Callable[[], None] | None = None
        self._tasks = OwnedTasks()
        self._rotation: asyncio.Task[None] | None = None

    def follow(self, config: Config) -> None:
        """Take over the logging section, if it is another one."""
        if config.logging == self._config:
            return
        self._config = config.logging
        try:
            configure_logging(config.logging)
        except OSError as error:
            _log.error("the log stays where it is", reason=str(error))
        self._rotate()

    def set_level(self, level: str) -> None:
        """Change the level, until the configuration changes its own."""
        self._program.set_level(level)

    def reopen(self) -> None:
        """Open the program log's file anew; raises OSError."""
        self._program.sink.reopen()

    @asynccontextmanager
    async def rotating(self, reopen_access: Callable[[], None]) -> AsyncIterator[None]:
        """Rotate the log files while the block runs; `reopen_access` opens the access log anew."""
        self._reopen_access = reopen_access
        self._rotate()
        try:
            yield
        finally:
            self._reopen_access = None
            await self._tasks.close(_CLOSE_TIMEOUT_S)

    def _rotate(self) -> None:
        if self._rotation is not None:
            self._rotation.cancel()
        if self._reopen_access is None:
            return
        files = rotators(self._config, self._reopen_access)
        self._rotation = self._tasks.loop_forever(keep_rotating(files), "rotate logs")
