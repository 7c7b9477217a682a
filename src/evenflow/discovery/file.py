"""`discover.file`: a list of endpoints in a file, followed when it changes.

The file is looked at every half second, or more often where `every` says so: by its time, size and
number, so that one that was put in its place by a rename is seen, and through links as those of
mounted maps. One that is still being written is left alone until its writer rests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from evenflow.certs import Stamp, stamp
from evenflow.config import ConfigError, Discover, Problem
from evenflow.config.documents import read_file
from evenflow.config.reading import located

from .endpoint import Answer, DiscoveryError, Endpoint
from .listing import read_listing

LOOK_S: Final = 0.5
LIST: Final = "backends"
"""The key of the list in a file that is more than a list."""


async def file(entry: Discover) -> AsyncIterator[Answer]:
    """The endpoints of the list, each time it changed."""
    assert entry.file is not None
    path = Path(entry.file)
    read_at: Stamp = None
    seen: Stamp = None
    answer: Answer | None = None
    told_at = 0.0
    while True:
        before, seen = seen, await asyncio.to_thread(stamp, path)
        if answer is None or (seen != read_at and seen == before):
            try:
                endpoints = await asyncio.to_thread(read, entry, path)
            except ConfigError as error:
                raise DiscoveryError("; ".join(map(str, error.errors[:3]))) from None
            read_at, answer, told_at = seen, Answer(endpoints), time.monotonic()
            yield answer
        elif time.monotonic() - told_at >= entry.every:
            # As before, but known to be so by now.
            told_at = time.monotonic()
            yield answer
        await asyncio.sleep(min(LOOK_S, entry.every))


def read(entry: Discover, path: Path) -> list[Endpoint]:
    """The endpoints of a list in a file; raises `ConfigError` with path and line."""
    decoded = read_file(path, LIST)
    try:
        return read_listing(entry, decoded.data, LIST)
    except ConfigError as error:
        places = {at: (str(path), line) for at, line in decoded.lines.items()}
        found = located(error.errors, places)
        raise ConfigError(
            Problem(each.path, each.message, each.line, each.file or str(path)) for each in found
        ) from None
