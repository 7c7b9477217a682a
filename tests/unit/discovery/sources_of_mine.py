"""Sources such as users write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from evenflow.discovery import Endpoint
from evenflow.strategies import Endpoint as Candidate
from evenflow.strategies import Picker, cycle


async def called(count: int = 1, **_: Any) -> list[object]:
    """Endpoints in all the shapes there are."""
    shapes = [
        Endpoint("one", "http://10.0.0.1", labels={"zone": "a"}),
        {"url": "http://10.0.0.2", "weight": 3},
        "10.0.0.3:80",
    ]
    return [*shapes][:count]


async def yielding(last: int = 2) -> AsyncIterator[list[str]]:
    """Lists that grow, then an end."""
    for count in range(1, last + 1):
        yield [f"10.0.0.{n}:80" for n in range(1, count + 1)]


async def failing() -> list[str]:
    """A source that never works."""
    raise RuntimeError("no such luck")


async def hanging() -> list[str]:
    """A source that never answers."""
    await asyncio.Event().wait()
    return []


def ordinary() -> list[str]:
    """No async function."""
    return []


TOLD: dict[str, asyncio.Queue[list[str]]] = {}
_asking: set[str] = set()


def tell(name: str, *places: str) -> None:
    """What the source of this name tells next."""
    TOLD.setdefault(name, asyncio.Queue()).put_nowait(list(places))


def asking() -> set[str]:
    """The sources that somebody listens to."""
    return set(_asking)


async def told(name: str) -> AsyncIterator[list[str]]:
    """Tell what the test says, when it says it."""
    _asking.add(name)
    try:
        while True:
            yield await TOLD.setdefault(name, asyncio.Queue()).get()
    finally:
        _asking.discard(name)


def at_most_two(endpoints: Sequence[Candidate]) -> Picker:
    """A strategy that fails for more."""
    if len(endpoints) > 2:
        raise ValueError("too many")
    return cycle(endpoints)
