"""`discover.docker`: the running containers of a daemon that have certain labels.

The Docker Engine API without a version in its paths, which is the daemon's newest. The list of containers
is read when it begins, after events that may change it, and every `every` in case one was lost.
Containers that are not healthy as their own check says are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final
from urllib.parse import urlencode

from evenflow.config import Discover
from evenflow.config.discovery import DockerSource
from evenflow.http_client import Response, request

from .documents import Documents
from .endpoint import Answer, DiscoveryError, Endpoint, at_address, in_order, is_address, plain_id

MAX_BYTES: Final = 64 * 1024 * 1024
PREFIX: Final = "evenflow."
"""Labels that begin so are those of the endpoint: `evenflow.zone=a`."""
PAUSE_S: Final = 0.5
"""After the daemon ended the stream of events."""
_UNIX: Final = "unix://"
_NOISE: Final = ("exec_", "attach", "top", "resize", "copy", "export", "archive-path")
"""Events of containers that change nothing of them; which others do differs between daemons."""


async def docker(entry: Discover) -> AsyncIterator[Answer]:
    """The containers, each time something happened to one of them."""
    asked = entry.docker
    assert asked is not None
    wanted = {"type": ["container", "network"]}
    while True:
        # First the events and then the list, so that nothing between the two is missed.
        parameters = {"filters": json.dumps(wanted)}
        async with _request(asked, "/events", parameters, entry.timeout) as response:
            if response.status != 200:
                async with asyncio.timeout(entry.timeout):
                    _check(response.status, await response.read(MAX_BYTES))
            yield await _containers(entry, asked)
            documents = Documents()
            while await _something_happened(response, documents, entry.every):
                yield await _containers(entry, asked)
        await asyncio.sleep(PAUSE_S)


async def _something_happened(response: Response, documents: Documents, within_s: float) -> bool:
    """Wait for the next event, or so long at most; False where the stream of them ended."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while piece := await response.piece():
                if not all(_is_noise(event) for event in documents.take(piece)):
                    return True
            return False
    return True


def _is_noise(event: Mapping[str, Any]) -> bool:
    return str(event.get("Action") or event.get("status") or "").startswith(_NOISE)


async def _containers(entry: Discover, asked: DockerSource) -> Answer:
    labels = [f"{name}={value}" if value else name for name, value in asked.labels.items()]
    filters = {"status": ["running"]} | ({"label": labels} if labels else {})
    parameters = {"filters": json.dumps(filters)}
    async with (
        asyncio.timeout(entry.timeout),
        _request(asked, "/containers/json", parameters) as response,
    ):
        content = await response.read(MAX_BYTES)
        _check(response.status, content)
    return await asyncio.to_thread(read, entry, asked, content)


def read(entry: Discover, asked: DockerSource, content: bytes) -> Answer:
    """The containers of a list; raises `DiscoveryError` where it is none."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DiscoveryError(f"not valid JSON: {error}") from None
    if not isinstance(found, list):
        raise DiscoveryError("expected a list of containers")
    notes: list[str] = []
    endpoints: list[Endpoint] = []
    for container in found:
        if not isinstance(container, Mapping):
            raise DiscoveryError("expected a list of containers")
        status = str(container.get("Status") or "")
        if "(unhealthy)" in status or "(health: starting)" in status or "(Paused)" in status:
            continue
        endpoint = _container(entry, asked, container)
        if isinstance(endpoint, str):
            notes.append(f"container {_name(container)} {endpoint}")
        else:
            endpoints.append(endpoint)
    if notes and not endpoints:
        # Nothing can be used of what there is, which is no empty list.
        raise DiscoveryError("; ".join(notes[:3]))
    return Answer(in_order(endpoints), None, notes)


def _container(
    entry: Discover, asked: DockerSource, container: Mapping[str, Any]
) -> Endpoint | str:
    """One container, or why it cannot be used."""
    labels = {str(name): str(value) for name, value in dict(container.get("Labels") or {}).items()}
    port = _port(entry, asked, labels, container.get("Ports") or ())
    if isinstance(port, str):
        return port
    address = _address(asked, dict(container.get("NetworkSettings") or {}).get("Networks") or {})
    if not is_address(address):
        return address
    weight = labels.get(f"{PREFIX}weight")
    if weight is not None and not (weight.isascii() and weight.isdigit() and int(weight) > 0):
        return f"has the weight {weight!r}, which is no whole number from 1"
    own = {
        name.removeprefix(PREFIX): value
        for name, value in labels.items()
        if name.startswith(PREFIX) and name not in (asked.port_label, f"{PREFIX}weight")
    }
    name = _name(container)
    return at_address(
        entry,
        address,
        port,
        id=plain_id(name),
        weight=None if weight is None else int(weight),
        labels={**own, "container": name},
    )


def _port(
    entry: Discover, asked: DockerSource, labels: Mapping[str, str], ports: Sequence[Any]
) -> int | str:
    """By the container's label, else by the entry, else the only one that it exposes."""
    if (text := labels.get(asked.port_label)) is not None:
        if text.isascii() and text.isdigit() and 1 <= int(text) <= 65535:
            return int(text)
        return f"has the port {text!r} in its label {asked.port_label}"
    if entry.port is not None:
        return entry.port
    kind = "udp" if entry.scheme == "udp" else "tcp"
    exposed = {each.get("PrivatePort") for each in ports if each.get("Type") == kind}
    if len(exposed) == 1 and isinstance(port := exposed.pop(), int):
        return port
    return f"tells no port: give it the label {asked.port_label}, or the entry a `port`"


def _address(asked: DockerSource, networks: Mapping[str, Any]) -> str:
    """The container's address, or why there is none."""
    if asked.network is not None:
        if asked.network not in networks:
            return f"is not in the network {asked.network}"
        networks = {asked.network: networks[asked.network]}
    addresses = {
        name: address
        for name, about in networks.items()
        if (address := about.get("IPAddress") or about.get("GlobalIPv6Address"))
    }
    if len(addresses) == 1:
        return str(next(iter(addresses.values())))
    if not addresses:
        return "has no address of its own"
    return f"is in the networks {', '.join(sorted(addresses))}: name one with `network`"


def _name(container: Mapping[str, Any]) -> str:
    names = container.get("Names") or [str(container.get("Id") or "")[:12]]
    return str(names[0]).lstrip("/")


def _request(
    asked: DockerSource,
    path: str,
    parameters: Mapping[str, str],
    head_timeout_s: float | None = None,
) -> AbstractAsyncContextManager[Response]:
    host = asked.host
    socket_path = host.removeprefix(_UNIX) if host.startswith(_UNIX) else None
    base = "http://docker" if socket_path else host.replace("tcp://", "http://", 1).rstrip("/")
    url = f"{base}{path}?{urlencode(parameters)}"
    return request(
        url, ca_file=asked.ca_file, socket_path=socket_path, head_timeout_s=head_timeout_s
    )


def _check(status: int, content: bytes) -> None:
    if status == 200:
        return
    try:
        message = str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        message = content[:200].decode(errors="replace").strip()
    raise DiscoveryError(f"expected status 200, got {status}: {message}")
