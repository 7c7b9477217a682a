"""`discover.http`: a list of endpoints in JSON, asked for again with its tag.

The list has the shape of `backends`, or the one that Prometheus asks for over HTTP (groups of
`targets` with `labels`). Where the server says that nothing changed (304), nothing is read again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Final

from evenflow.config import ConfigError, Discover
from evenflow.config.types import revealed
from evenflow.http_client import request

from .endpoint import Answer, DiscoveryError, Endpoint
from .listing import read_listing

MAX_BYTES: Final = 32 * 1024 * 1024


async def http(entry: Discover) -> AsyncIterator[Answer]:
    """The endpoints of the list, every `every`."""
    asked = entry.http_source
    headers = [("Accept", "application/json")]
    headers += [(name, revealed(value)) for name, value in asked.headers.items()]
    endpoints: Sequence[Endpoint] = ()
    tag = ""
    while True:
        condition = [("If-None-Match", tag)] if tag else []
        async with (
            asyncio.timeout(entry.timeout),
            request(asked.url, [*headers, *condition], ca_file=asked.ca_file) as response,
        ):
            if response.status != 304 or not tag:
                if response.status != 200:
                    raise DiscoveryError(f"expected status 200, got {response.status}")
                content = await response.read(MAX_BYTES)
                endpoints = await asyncio.to_thread(read, entry, content)
                tag = response.headers.get("etag", "")
        yield Answer(endpoints, entry.every)


def read(entry: Discover, content: bytes) -> list[Endpoint]:
    """The endpoints of a list; raises `DiscoveryError` where it is none."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DiscoveryError(f"not valid JSON: {error}") from None
    try:
        return read_listing(entry, document)
    except ConfigError as error:
        raise DiscoveryError("; ".join(map(str, error.errors[:3]))) from None
