"""What every source of endpoints tells: an `Answer` with all endpoints there are. Pure.

Endpoints become the backends of a configuration here, checked as these are; one that did not change
stays the very same object, so that a change among thousands costs little.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from pydantic import ValidationError

from evenflow.config import Backend, Discover, problems_of
from evenflow.config.types import RESERVED_PREFIX

MAX_NOTES: Final = 10
_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9._:@-]")


class DiscoveryError(Exception):
    """Why a source has no answer, for people to read."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server. `settings` are further ones of a backend, such as `timeout`."""

    id: str
    """What it is known by; one made of its address stays the same as long as that does."""
    url: str
    weight: int | None = None
    """The source's own weight where absent."""
    labels: Mapping[str, str] = field(default_factory=dict)
    drain: bool = False
    """Whether it is about to go and takes no new requests."""
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """All endpoints that a source has at one moment."""

    endpoints: Sequence[Endpoint]
    again_s: float | None = None
    """After how many seconds to ask again; `None` where the source tells of changes by itself."""
    notes: Sequence[str] = ()
    """What was left out, and why."""


Source: TypeAlias = Callable[[Discover], AsyncIterator[Answer]]
"""Answers for ever, each time asked for the next one; raises `DiscoveryError` or `HttpError`."""

Known: TypeAlias = Mapping[str, tuple[Endpoint, Backend]]
"""By id: the endpoints of the last answer, and what became of them."""


def at_address(entry: Discover, host: str, port: int, **told: Any) -> Endpoint:
    """An endpoint that is known by nothing but its address."""
    shown = f"[{host}]" if ":" in host else host
    id = told.pop("id", "") or address_id(host, port)
    return Endpoint(id=id, url=f"{entry.scheme}://{shown}:{port}", **told)


def address_id(host: str, port: int) -> str:
    """`10.0.0.1:8080`, or `v6:fd00::1:8080`, which may stand for an id."""
    return f"v6:{host}:{port}" if ":" in host else f"{host}:{port}"


def plain_id(text: str) -> str:
    """A name from elsewhere with what no id may have replaced."""
    id = _NOT_IN_IDS.sub("-", text).lstrip(".:@-")[:127]
    return f"_{id}" if id.startswith(RESERVED_PREFIX) else id


def is_address(text: str) -> bool:
    """Whether it is an IP address, and not a name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def in_order(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """By id, for sources whose own order means nothing: the same set is the same list."""
    return sorted(endpoints, key=lambda each: each.id)


def take(entry: Discover, answer: Answer, known: Known) -> dict[str, tuple[Endpoint, Backend]]:
    """The answer's endpoints as backends; those that are as they were are the objects of `known`.

    Of several with the same id the first counts. Raises `DiscoveryError` where one of them is none
    that the pool can have, or where there are too many.
    """
    if len(answer.endpoints) > entry.max_endpoints:
        text = (
            f"{len(answer.endpoints)} endpoints are more than max_endpoints, {entry.max_endpoints}"
        )
        raise DiscoveryError(text)
    taken: dict[str, tuple[Endpoint, Backend]] = {}
    for endpoint in answer.endpoints:
        if endpoint.id in taken:
            continue
        kept = known.get(endpoint.id)
        if kept is None or kept[0] != endpoint:
            kept = endpoint, _backend(entry, endpoint)
            if (before := known.get(endpoint.id)) is not None and before[1] == kept[1]:
                kept = endpoint, before[1]
        taken[endpoint.id] = kept
    return taken


def _backend(entry: Discover, endpoint: Endpoint) -> Backend:
    document = {
        "max_connections": entry.max_connections,
        **endpoint.settings,
        "id": endpoint.id,
        "url": endpoint.url,
        "weight": entry.weight if endpoint.weight is None else endpoint.weight,
        "labels": {**entry.labels, **endpoint.labels},
        "drain": endpoint.drain,
    }
    try:
        backend = Backend.model_validate(document)
    except ValidationError as error:
        problems = problems_of(error, document)
        raise DiscoveryError(f"endpoint {endpoint.id!r}: {problems[0]}") from None
    if not backend.id:
        raise DiscoveryError(f"endpoint {endpoint.url!r} has no id")
    target, wanted = backend.target, entry.target
    if entry.http is not None and (target.is_unix or "health_check" in endpoint.settings):
        # Whoever answers over the network gets no say over this machine's files: checks may name
        # secrets by file or variable.
        text = "a list over HTTP cannot name Unix sockets, nor have `health_check`"
        raise DiscoveryError(f"endpoint {endpoint.id!r}: {text}")
    fits = target.is_stream == wanted.is_stream and target.is_datagrams == wanted.is_datagrams
    if not (fits or target.is_unix):
        text = f"expected {entry.scheme}:// as `scheme` says, got {backend.url!r}"
        raise DiscoveryError(f"endpoint {endpoint.id!r}: {text}")
    return backend
