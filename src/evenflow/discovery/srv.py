"""`discover.srv`: the servers of a service (RFC 2782), by priority and weight.

Those of the lowest priority serve, as many as there are. Their weights become those of endpoints; a
server with several addresses shares its weight among them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING

from evenflow.config import Discover

from .endpoint import Answer, DiscoveryError, Endpoint, at_address, in_order

if TYPE_CHECKING:
    from .names import Service

NOBODY = ("", ".")
"""The target that says: this service is not offered."""


async def srv(entry: Discover) -> AsyncIterator[Answer]:
    """One endpoint for each address of each server."""
    # Late, since most balancers ask no name server and its library takes a while to import.
    from .names import LEAST_TTL_S, addresses_of_all, resolver_of, services_of

    assert entry.srv is not None
    while True:
        resolver = resolver_of(entry)
        async with asyncio.timeout(entry.timeout):
            services, ttl_s = await services_of(resolver, entry.srv)
            first = first_choice(services)
            names = list(dict.fromkeys(service.target for service in first))
            found = await addresses_of_all(resolver, names, entry.family)
        addresses = {name: each.addresses for name, each in found.items()}
        notes = [f"{name} has no address" for name in names if not addresses[name]]
        endpoints = endpoints_of(entry, first, addresses)
        if notes and not endpoints:
            # Nothing can be used of what there is, which is no empty service.
            raise DiscoveryError("; ".join(notes[:3]))
        holds = min([ttl_s, *(each.ttl_s for each in found.values())])
        yield Answer(endpoints, min(entry.every, max(LEAST_TTL_S, holds)), notes)


def first_choice(services: Sequence[Service]) -> list[Service]:
    """The records of the lowest priority."""
    offered = [service for service in services if service.target not in NOBODY]
    best = min((service.priority for service in offered), default=0)
    return [service for service in offered if service.priority == best]


def endpoints_of(
    entry: Discover, services: Sequence[Service], addresses: Mapping[str, Sequence[str]]
) -> list[Endpoint]:
    """An endpoint for each address; where all weights are 0 they are the entry's own."""
    weighted = any(service.weight for service in services)
    found: dict[str, Endpoint] = {}
    for service in services:
        hosts = addresses[service.target]
        for host in hosts:
            weight = max(1, round(service.weight / len(hosts))) if weighted else None
            labels = {"host": service.target}
            endpoint = at_address(entry, host, service.port, weight=weight, labels=labels)
            found.setdefault(endpoint.id, endpoint)
    return in_order(found.values())
