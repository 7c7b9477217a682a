"""Asking name servers: addresses and services with the time for which the answer holds.

A name that does not exist, or has no record of the kind, is an empty answer; a server that fails,
refuses or says nothing is an error. The system's file of hosts is not looked at.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.rdtypes.IN.SRV
import dns.resolver
from dns.rdataclass import IN
from dns.rdatatype import AAAA, SRV, A, RdataType
from dns.resolver import Answer

from evenflow.config import Discover
from evenflow.config.discovery import split_resolver

from .endpoint import DiscoveryError

LEAST_TTL_S: Final = 1.0
"""Answers that hold for less are asked for again after this time."""

AT_ONCE: Final = 32

_KINDS: Final[Mapping[str, tuple[RdataType, ...]]] = {
    "any": (A, AAAA),
    "ipv4": (A,),
    "ipv6": (AAAA,),
}


@dataclass(frozen=True, slots=True)
class Addresses:
    """What a name has, in order; empty where it has nothing."""

    addresses: tuple[str, ...]
    ttl_s: float


@dataclass(frozen=True, slots=True)
class Service:
    """One record of a service (RFC 2782)."""

    priority: int
    weight: int
    port: int
    target: str
    """A name, without the dot at its end."""


def resolver_of(entry: Discover) -> dns.asyncresolver.Resolver:
    """What asks the servers that the entry or the system names."""
    try:
        resolver = dns.asyncresolver.Resolver(configure=entry.resolver is None)
    except (dns.exception.DNSException, OSError) as error:
        raise DiscoveryError(f"the system names no name server: {error}") from None
    if entry.resolver is not None:
        host, resolver.port = split_resolver(entry.resolver)
        resolver.nameservers = [host]
    # Short names are completed as the system does, and asked for as they are elsewhere.
    resolver.use_search_by_default = entry.resolver is None
    resolver.lifetime = entry.timeout
    resolver.timeout = min(2.0, entry.timeout)
    return resolver


async def addresses_of(
    resolver: dns.asyncresolver.Resolver, name: str, family: str = "any"
) -> Addresses:
    """All addresses of a name; raises `DiscoveryError` where one of the questions fails."""
    answers = await asyncio.gather(*(_ask(resolver, name, kind) for kind in _KINDS[family]))
    found = sorted({str(record.address) for answer in answers for record in answer or ()})
    return Addresses(tuple(found), _holds(answers))


async def addresses_of_all(
    resolver: dns.asyncresolver.Resolver, names: Sequence[str], family: str
) -> dict[str, Addresses]:
    """The addresses of several names, a few of them asked for at once."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> Addresses:
        async with limit:
            return await addresses_of(resolver, name, family)

    found = await asyncio.gather(*map(one, names))
    return dict(zip(names, found, strict=True))


async def services_of(
    resolver: dns.asyncresolver.Resolver, name: str
) -> tuple[list[Service], float]:
    """All records of a service, and how long they hold."""
    answer = await _ask(resolver, name, SRV)
    found: list[Service] = []
    for record in answer or ():
        assert isinstance(record, dns.rdtypes.IN.SRV.SRV)
        target = record.target.to_text(omit_final_dot=True)
        found.append(Service(record.priority, record.weight, record.port, target))
    return found, _holds([answer])


async def _ask(resolver: dns.asyncresolver.Resolver, name: str, kind: RdataType) -> Answer | None:
    try:
        return await resolver.resolve(name, kind, IN, raise_on_no_answer=False)
    except dns.resolver.NXDOMAIN:
        return None
    except dns.resolver.NoNameservers as error:
        said = sorted({str(part[-2]) for part in error.kwargs.get("errors", ())})
        text = f"{name}: no server answers ({'; '.join(said)})" if said else f"{name}: {error}"
        raise DiscoveryError(text) from None
    except dns.exception.Timeout:
        raise DiscoveryError(f"{name}: no answer within {resolver.lifetime:g} s") from None
    except (dns.exception.DNSException, OSError) as error:
        raise DiscoveryError(f"{name}: {error}") from None


def _holds(answers: list[Answer | None]) -> float:
    """The shortest time for which one of the answers holds; none holds long that is empty."""
    now = time.time()
    full = [answer for answer in answers if answer is not None and answer.rrset]
    return max(0.0, min((answer.expiration - now for answer in full), default=0.0))
