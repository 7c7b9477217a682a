"""`discover.kubernetes`: the endpoints of a service, by listing and watching its EndpointSlices.

The API group `discovery.k8s.io/v1`. The list is read once; a watch then tells what changed since, and
is begun anew at the version that was told last. Where the API server no longer knows that version
(410 Gone), the list is read again. `ready` endpoints serve; those that are `terminating` and still
`serving` finish what they have.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from evenflow.config import Discover
from evenflow.config.discovery import MAX_ENDPOINTS, KubernetesSource
from evenflow.http_client import HttpError, Response, request

from .documents import Documents
from .endpoint import Answer, DiscoveryError, Endpoint, at_address, in_order, plain_id

PAGE: Final = 500
MAX_BYTES: Final = 64 * 1024 * 1024
LEAST_WATCH_S: Final = 1.0
"""From the begin of a watch to that of the next, however early it ends."""

Slice = Mapping[str, Any]


class Gone(Exception):
    """The version to go on from is no longer known: list again."""


@dataclass(slots=True)
class View:
    """The slices by name, as of a version."""

    slices: dict[str, Slice] = field(default_factory=dict)
    version: str = ""

    def put(self, item: Slice) -> None:
        """Put a slice into the view; raises `DiscoveryError` where there are too many."""
        self.slices[_name(item)] = item
        if len(self.slices) > MAX_ENDPOINTS:
            raise DiscoveryError(f"the service has more than {MAX_ENDPOINTS} EndpointSlices")

    def take(self, event: Mapping[str, Any]) -> bool:
        """Put one event into the view; whether that changed a slice.

        Raises `Gone`, or `DiscoveryError` where it is no such event.
        """
        match event:
            case {"type": "ERROR", "object": {"code": 410}}:
                raise Gone
            case {"type": "ERROR", "object": {"message": message}}:
                raise DiscoveryError(f"the watch failed: {message}")
            case {"type": kind, "object": {"metadata": {"resourceVersion": str(version)}} as found}:
                self.version = version
            case _:
                raise DiscoveryError("expected events of EndpointSlices")
        match kind:
            case "ADDED" | "MODIFIED":
                self.put(found)
            case "DELETED":
                self.slices.pop(_name(found), None)
            case _:  # BOOKMARK: nothing changed up to this version.
                return False
        return True


async def kubernetes(entry: Discover) -> AsyncIterator[Answer]:
    """The service's endpoints, each time its slices changed."""
    asked = entry.kubernetes
    assert asked is not None
    while True:
        try:
            view = await _list(entry, asked)
            yield endpoints_of(entry, asked.port, view.slices.values())
            while True:
                began = time.monotonic()
                async for _ in _watch(entry, asked, view):
                    yield endpoints_of(entry, asked.port, view.slices.values())
                # As before, but known to be so by now.
                yield endpoints_of(entry, asked.port, view.slices.values())
                await asyncio.sleep(max(0.0, LEAST_WATCH_S - (time.monotonic() - began)))
        except Gone:
            await asyncio.sleep(LEAST_WATCH_S)


async def _list(entry: Discover, asked: KubernetesSource) -> View:
    """All slices, page by page."""
    view = View()
    further = ""
    while True:
        parameters = {"limit": str(PAGE)} | ({"continue": further} if further else {})
        async with asyncio.timeout(entry.timeout), _request(asked, parameters) as response:
            content = await response.read(MAX_BYTES)
        if response.status == 410 and further:
            raise Gone
        _check(response.status, content)
        try:
            document = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise DiscoveryError(f"not valid JSON: {error}") from None
        match document:
            case {"metadata": {"resourceVersion": str(version), **about}, "items": items}:
                view.version = version
                for item in items or ():
                    view.put(item)
            case _:
                raise DiscoveryError("expected a list of EndpointSlices")
        further = str(about.get("continue") or "")
        if not further:
            return view


async def _watch(entry: Discover, asked: KubernetesSource, view: View) -> AsyncIterator[None]:
    """One watch to its end; yields whenever the view changed."""
    parameters = {
        "watch": "1",
        "allowWatchBookmarks": "true",
        "resourceVersion": view.version,
        "timeoutSeconds": str(max(1, round(entry.every))),
    }
    # The server ends the watch in time; where it does not, it is no longer there.
    ends_at = asyncio.get_running_loop().time() + max(1.0, entry.every) + entry.timeout
    async with _request(asked, parameters, entry.timeout) as response:
        if response.status != 200:
            async with asyncio.timeout(entry.timeout):
                content = await response.read(MAX_BYTES)
            if response.status == 410:
                raise Gone
            _check(response.status, content)
        documents = Documents()
        silent = True
        while piece := await _piece(response, ends_at, silent=silent):
            silent = False
            # All that came at once is one change.
            changes = [view.take(event) for event in documents.take(piece)]
            if any(changes):
                yield


async def _piece(response: Response, ends_at: float, *, silent: bool) -> bytes:
    """More of the watch; a connection that breaks off after it told something is its end."""
    try:
        async with asyncio.timeout_at(ends_at):
            return await response.piece()
    except HttpError as error:
        if silent or not error.cut:
            raise
        return b""


def endpoints_of(entry: Discover, wanted: int | str | None, slices: Iterable[Slice]) -> Answer:
    """The endpoints that serve, and those that are about to go; one in several slices counts once."""
    found: dict[str, Endpoint] = {}
    notes: list[str] = []
    for each in slices:
        if each.get("addressType") not in ("IPv4", "IPv6"):
            notes.append(f"{_name(each)} has addresses of type {each.get('addressType')}")
            continue
        members = each.get("endpoints") or ()
        port = port_of(wanted, each.get("ports") or ())
        if isinstance(port, str):
            if members:
                notes.append(f"{_name(each)}: {port}")
            continue
        for member in members:
            endpoint = _endpoint(entry, member, port)
            if endpoint is not None and (endpoint.id not in found or found[endpoint.id].drain):
                found[endpoint.id] = endpoint
    if not found and notes:
        # Nothing can be used of what there is, which is no empty service.
        raise DiscoveryError("; ".join(notes[:3]))
    return Answer(in_order(found.values()), None, notes)


def port_of(wanted: int | str | None, ports: Iterable[Mapping[str, Any]]) -> int | str:
    """The number of the port that is wanted by name or number, or why there is none."""
    known = {
        str(each.get("name") or ""): number
        for each in ports
        if isinstance(number := each.get("port"), int)
    }
    listed = ", ".join(f"{name or 'unnamed'} ({number})" for name, number in known.items())
    if wanted is None:
        if len(known) == 1:
            return next(iter(known.values()))
        return f"expected one port, got {listed or 'none'}; name it with `port`"
    for name, number in known.items():
        if wanted in (name, number):
            return number
    return f"no port {wanted}; there are {listed or 'none'}"


def _endpoint(entry: Discover, member: Mapping[str, Any], port: int) -> Endpoint | None:
    conditions = member.get("conditions") or {}
    ready = conditions.get("ready")
    ready = True if ready is None else bool(ready)
    serving = conditions.get("serving")
    serving = ready if serving is None else bool(serving)
    drain = bool(conditions.get("terminating"))
    addresses = member.get("addresses") or ()
    if not addresses or not (serving if drain else ready):
        return None
    labels = {
        name: value
        for name, key in (("zone", "zone"), ("node", "nodeName"), ("hostname", "hostname"))
        if isinstance(value := member.get(key), str)
    }
    # The first of several addresses: they all lead to the same endpoint.
    pod = (member.get("targetRef") or {}).get("name")
    if isinstance(pod, str):
        labels["pod"] = pod
    host = str(addresses[0])
    id = plain_id(f"{pod}:{port}") if isinstance(pod, str) else ""
    return at_address(entry, host, port, id=id, labels=labels, drain=drain)


def _request(
    asked: KubernetesSource, parameters: Mapping[str, str], head_timeout_s: float | None = None
) -> AbstractAsyncContextManager[Response]:
    """A request for the slices of the service, with the account's token as it is by now."""
    try:
        namespace = asked.namespace or Path(asked.namespace_file).read_text().strip()
        token = (
            Path(asked.token_file).read_text().strip() if asked.token is None else asked.token.value
        )
    except OSError as error:
        text = (
            f"{error.filename}: {error.strerror}; outside of a cluster give `namespace` and `token`"
        )
        raise DiscoveryError(text) from None
    selector = {"labelSelector": f"kubernetes.io/service-name={asked.service}"}
    url = (
        f"{api_server(asked)}/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        f"?{urlencode({**selector, **parameters})}"
    )
    headers = [("Authorization", f"Bearer {token}"), ("Accept", "application/json")]
    ca_file = asked.ca_file if url.startswith("https:") else None
    return request(url, headers, ca_file=ca_file, head_timeout_s=head_timeout_s)


def api_server(asked: KubernetesSource) -> str:
    """Where the API server is: as given, or as every pod is told."""
    if asked.url is not None:
        return asked.url.rstrip("/")
    host = os.environ.get("KUBERNETES_SERVICE_HOST")
    if not host:
        raise DiscoveryError("not in a cluster: give the API server's `url`")
    shown = f"[{host}]" if ":" in host else host
    return f"https://{shown}:{os.environ.get('KUBERNETES_SERVICE_PORT', '443')}"


def _check(status: int, content: bytes) -> None:
    if status == 200:
        return
    try:
        message = str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        message = content[:200].decode(errors="replace").strip()
    if status in (401, 403):
        message = f"{message} (its role needs `list` and `watch` of endpointslices)"
    raise DiscoveryError(f"expected status 200, got {status}: {message}")


def _name(item: object) -> str:
    match item:
        case {"metadata": {"name": str(name)}}:
            return name
        case _:
            raise DiscoveryError("expected an EndpointSlice with a name")
