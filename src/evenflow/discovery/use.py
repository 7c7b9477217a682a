"""`discover.use`: endpoints from a function of the user's own.

An `async def` that returns a list is called every `every`; one that yields lists is run once and
tells of changes by itself. Its members are those of a list in a file, or `Endpoint` objects; each
list is complete.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from importlib import import_module
from typing import Any

from evenflow.config import ConfigError, Discover

from .endpoint import Answer, DiscoveryError
from .listing import read_listing


def load(entry: Discover) -> Callable[..., Any]:
    """The function; raises ValueError where there is none of that name."""
    assert entry.use is not None
    module, _, name = entry.use.partition(":")
    try:
        function = getattr(import_module(module), name)
    except Exception as error:  # An import runs the user's code, which may raise anything.
        raise ValueError(f"cannot import {entry.use}: {error}") from error
    if not (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)):
        raise ValueError(f"{entry.use} is not an `async def` function")
    return function  # type: ignore[no-any-return]  # narrowed to what inspect knows


async def use(entry: Discover) -> AsyncIterator[Answer]:
    """What the function returns, or yields."""
    function = load(entry)
    if inspect.isasyncgenfunction(function):
        async with aclosing(function(**entry.options)) as lists:
            async for found in lists:
                yield await asyncio.to_thread(_answer, entry, found, None)
        raise DiscoveryError("the function ended; one that yields is expected to go on")
    while True:
        async with asyncio.timeout(entry.timeout):
            found = await function(**entry.options)
        yield await asyncio.to_thread(_answer, entry, found, entry.every)


def _answer(entry: Discover, found: object, again_s: float | None) -> Answer:
    try:
        return Answer(read_listing(entry, found), again_s)
    except ConfigError as error:
        raise DiscoveryError("; ".join(map(str, error.errors[:3]))) from None
