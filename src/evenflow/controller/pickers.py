"""Keeps the engine's pickers true to the runtime state: debounced, one pool at a time.

A verdict changes an endpoint at once (`set_endpoint`); the pool's picker, which spreads the
endpoint's share over the others, follows within `DEBOUNCE_S`, so that a hundred verdicts of one
moment cost one table.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from evenflow.engine import Engine, EngineError, PoolUpdate

DEBOUNCE_S: Final = 0.02
MAX_SHARE: Final = 0.1
"""Of the event loop's time, that pickers may take; large pools wait longer."""

_log = structlog.get_logger("evenflow.pickers")


class PickerUpdates:
    """Pools whose picker is out of date, and the timer that brings them up to date."""

    def __init__(self, engine: Engine, compile_pool: Callable[[str], PoolUpdate | None]) -> None:
        self._engine = engine
        self._compile_pool = compile_pool
        self._stale: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._not_before = 0.0
        self._held = False

    def mark(self, pool: str) -> None:
        """Bring a pool's picker up to date soon."""
        self._stale.add(pool)
        self._arm()

    def hold(self) -> None:
        """Send nothing while a plan is being put in force."""
        self._held = True
        self._cancel()

    def release(self, *, applied: bool) -> None:
        """Go on; an applied plan brought every picker up to date by itself."""
        self._held = False
        if applied:
            self._stale.clear()
        self._arm()

    def close(self) -> None:
        """Send nothing any more."""
        self._stale.clear()
        self._cancel()

    def _arm(self) -> None:
        if self._held or not self._stale or self._timer is not None:
            return
        loop = asyncio.get_running_loop()
        delay = max(DEBOUNCE_S, self._not_before - time.monotonic())
        self._timer = loop.call_later(delay, self._flush)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _flush(self) -> None:
        self._timer = None
        stale, self._stale = self._stale, set()
        began = time.monotonic()
        for pool in stale:
            try:
                if (update := self._compile_pool(pool)) is not None:
                    self._engine.update_pool(update)
            # A user's strategy runs here: whatever it raises must not stop the others.
            except Exception as error:  # noqa: BLE001
                level = _log.debug if _closed(error) else _log.error
                level("picker not updated", pool=pool, reason=str(error))
        ended = time.monotonic()
        self._not_before = ended + (ended - began) / MAX_SHARE


def _closed(error: Exception) -> bool:
    return isinstance(error, EngineError) and error.code == "closed"
