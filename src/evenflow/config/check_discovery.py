"""Whether sources of endpoints make sense: what is given for a kind of source that has no use for it."""

from __future__ import annotations

from collections.abc import Iterator

from .discovery import Discover, Discovers, split_name
from .models import Config, sources_in
from .problems import Problem

_OF_DNS = ("dns", "srv")
_NEED_PORT = ("dns", "docker")
_TELL_PORT = ("srv", "consul", "kubernetes")


def discovery_places(config: Config) -> Iterator[tuple[str, str, Discover]]:
    """All sources of a configuration, each with its path and its pool."""
    from .expand import DEFAULT

    for path, entry in _numbered("discover", config.discover):
        yield path, DEFAULT, entry
    for index, pool in enumerate(config.pools):
        for path, entry in _numbered(f"pools[{index}].discover", pool.discover):
            yield path, pool.name, entry


def discovery_problems(config: Config) -> Iterator[Problem]:
    """Every contradiction in `discover`."""
    seen: dict[tuple[str, str], str] = {}
    for path, pool, entry in discovery_places(config):
        first = seen.setdefault((pool, entry.name), path)
        if first != path:
            text = f"source {entry.name!r} is used twice, first at {first}; give each a name"
            yield Problem(f"{path}.name", text)
        yield from _entry(path, entry)


def _numbered(path: str, discover: Discovers) -> Iterator[tuple[str, Discover]]:
    if isinstance(discover, Discover):
        yield path, discover
        return
    for at, entry in enumerate(sources_in(discover)):
        yield f"{path}[{at}]", entry


def _entry(path: str, entry: Discover) -> Iterator[Problem]:
    kind = entry.kind
    if kind not in _OF_DNS:
        if entry.resolver is not None:
            yield Problem(f"{path}.resolver", f"is for dns and srv; {kind} asks no name server")
        if entry.family != "any":
            yield Problem(f"{path}.family", f"is for dns and srv; {kind} asks no name server")
    if entry.options and kind != "use":
        yield Problem(f"{path}.options", "are the arguments of a function of your own (`use`)")
    if entry.port is not None and kind in _TELL_PORT:
        yield Problem(f"{path}.port", f"has no effect: {kind} tells the port of each endpoint")
    if entry.dns is not None:
        port = split_name(entry.dns)[1]
        if port is not None and entry.port is not None:
            yield Problem(f"{path}.port", "is given in `dns` already; keep one of them")
        if port is None and entry.default_port is None:
            text = f"expected a port, as in {entry.dns}:5000: {entry.scheme} has none of its own"
            yield Problem(f"{path}.dns", text)
