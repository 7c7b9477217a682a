"""`discover.consul`: the healthy instances of a service, by blocking queries.

The health endpoint of Consul's HTTP API, version 1, answers a query that names the last index once
something has changed, or after the time that the query allows.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlencode

from evenflow.config import Discover
from evenflow.config.discovery import ConsulSource
from evenflow.http_client import request

from .endpoint import Answer, DiscoveryError, Endpoint, at_address, in_order, plain_id

MAX_BYTES: Final = 64 * 1024 * 1024
LEAST_S: Final = 0.2
"""From one query to the next, however often something changes."""


async def consul(entry: Discover) -> AsyncIterator[Answer]:
    """The instances that pass all checks, each time something changed."""
    asked = entry.consul
    assert asked is not None
    headers = [("X-Consul-Token", asked.token.value)] if asked.token is not None else []
    index = 0
    while True:
        began = time.monotonic()
        # Consul adds up to a sixteenth to the time, so that not all queries end at once.
        bound = entry.timeout + (entry.every * 17 / 16 if index else 0.0)
        async with (
            asyncio.timeout(bound),
            request(query(asked, index, entry.every), headers, ca_file=asked.ca_file) as response,
        ):
            content = await response.read(MAX_BYTES)
        if response.status != 200:
            raise DiscoveryError(_refused(response.status, content))
        told = response.headers.get("x-consul-index", "")
        index = next_index(index, told)
        answer = await asyncio.to_thread(read, entry, content)
        # Without an index it does not tell of changes; then it is asked as others are.
        yield answer if told else replace(answer, again_s=entry.every)
        await asyncio.sleep(max(0.0, LEAST_S - (time.monotonic() - began)))


def query(asked: ConsulSource, index: int, wait_s: float) -> str:
    """The address that is asked; it answers at once where `index` is 0."""
    parameters = {"passing": "1"}
    if index:
        parameters |= {"index": str(index), "wait": f"{max(1, round(wait_s * 1000))}ms"}
    if asked.datacenter is not None:
        parameters["dc"] = asked.datacenter
    if asked.tag is not None:
        parameters["tag"] = asked.tag
    return f"{asked.url.rstrip('/')}/v1/health/service/{asked.service}?{urlencode(parameters)}"


def next_index(last: int, told: str) -> int:
    """The index for the next query; one that went back begins anew, as Consul's rules say."""
    index = int(told) if told.isascii() and told.isdigit() else 0
    return index if index >= last else 0


def read(entry: Discover, content: bytes) -> Answer:
    """The instances of an answer; raises `DiscoveryError` where it is none."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DiscoveryError(f"not valid JSON: {error}") from None
    if not isinstance(found, list):
        raise DiscoveryError("expected a list of instances")
    notes: list[str] = []
    endpoints: list[Endpoint] = []
    for instance in found:
        endpoint = _instance(entry, instance)
        if isinstance(endpoint, str):
            notes.append(endpoint)
        else:
            endpoints.append(endpoint)
    return Answer(in_order(endpoints), None, notes)


def _instance(entry: Discover, instance: object) -> Endpoint | str:
    """One instance, or why it cannot be used."""
    match instance:
        case {"Node": {"Node": str(node), **about}, "Service": {"ID": str(id), **service}}:
            pass
        case _:
            raise DiscoveryError("expected instances with `Node` and `Service`")
    address = service.get("Address") or about.get("Address")
    port = service.get("Port")
    if not isinstance(address, str) or not address:
        return f"{id} on {node} has no address"
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        return f"{id} on {node} has no port"
    labels = {**_texts(service.get("Meta")), "node": node}
    if isinstance(datacenter := about.get("Datacenter"), str) and datacenter:
        labels["datacenter"] = datacenter
    return at_address(
        entry,
        address,
        port,
        id=plain_id(f"{node}.{id}"),
        weight=_weight(entry, service.get("Weights")),
        labels=labels,
    )


def _weight(entry: Discover, weights: object) -> int | None:
    """The instance's weight in units of the entry's; Consul's own default is 1."""
    match weights:
        case {"Passing": int(passing)} if passing > 0:
            return min(65535, passing * entry.weight)
        case _:
            return None


def _texts(given: object) -> dict[str, str]:
    if not isinstance(given, Mapping):
        return {}
    pairs: Mapping[Any, Any] = given
    return {k: v for k, v in pairs.items() if isinstance(k, str) and isinstance(v, str)}


def _refused(status: int, content: bytes) -> str:
    if status in (401, 403):
        return f"status {status}: the token is refused, or may not read this service"
    said = content[:200].decode(errors="replace").strip()
    return f"expected status 200, got {status}" + (f": {said}" if said else "")
