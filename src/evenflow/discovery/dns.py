"""`discover.dns`: the addresses of a name, asked for again when the answer no longer holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from evenflow.config import Discover
from evenflow.config.discovery import split_name

from .endpoint import Answer, DiscoveryError, at_address, in_order


async def dns(entry: Discover) -> AsyncIterator[Answer]:
    """One endpoint for each address, whatever the order in which the server tells them."""
    # Late, since most balancers ask no name server and its library takes a while to import.
    from .names import LEAST_TTL_S, addresses_of, resolver_of

    assert entry.dns is not None
    name, port = split_name(entry.dns)
    port = entry.default_port if port is None else port
    if port is None:
        raise DiscoveryError(f"{name}: no port is known")
    while True:
        async with asyncio.timeout(entry.timeout):
            found = await addresses_of(resolver_of(entry), name, entry.family)
        endpoints = in_order(at_address(entry, address, port) for address in found.addresses)
        yield Answer(endpoints, min(entry.every, max(LEAST_TTL_S, found.ttl_s)))
