"""A list of endpoints as a person or a registry writes it, read. Pure.

Its members are URLs, addresses, backends as in the configuration, or groups of targets with
labels, the shape that Prometheus takes from files and over HTTP. Shared by the sources `file`,
`http` and `use`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from evenflow.config import Backend, ConfigError, Discover, Problem
from evenflow.config.discovery import split_name
from evenflow.config.problems import hint

from .endpoint import Endpoint, at_address, is_address, plain_id

_SETTINGS: Final = frozenset(Backend.model_fields)
_GROUP: Final = frozenset({"targets", "labels"})


def read_listing(entry: Discover, document: object, key: str = "backends") -> list[Endpoint]:
    """The endpoints of a list, or of the list under `key`; raises `ConfigError` with paths."""
    prefix = ""
    if isinstance(document, Mapping):
        unknown = [name for name in document if name != key]
        if unknown or key not in document:
            name = str(unknown[0]) if unknown else ""
            text = f"expected a list, or `{key}` with one{hint(name, [key])}"
            raise ConfigError([Problem(name, text)])
        prefix, document = key, document[key]
    if isinstance(document, str | bytes) or not isinstance(document, Sequence):
        raise ConfigError([Problem(prefix, f"expected a list, got {_shown(document)}")])
    problems: list[Problem] = []
    endpoints: dict[str, Endpoint] = {}
    for at, item in enumerate(document):
        path = f"{prefix}[{at}]"
        try:
            problems.extend(
                Problem(path, f"id {endpoint.id!r} is used twice")
                for endpoint in _item(entry, path, item)
                if endpoints.setdefault(endpoint.id, endpoint) != endpoint
            )
        except ConfigError as error:
            problems += error.errors
    if problems:
        raise ConfigError(problems[:10])
    return list(endpoints.values())


def _item(entry: Discover, path: str, item: object) -> Iterator[Endpoint]:
    match item:
        case Endpoint():
            yield item
        case str():
            yield _place(entry, path, item)
        case {"targets": targets, **rest}:
            yield from _group(entry, path, targets, rest)
        case {"url": url, **rest}:
            if not isinstance(url, str):
                raise ConfigError([Problem(f"{path}.url", f"expected text, got {_shown(url)}")])
            yield _backend(entry, path, url, rest)
        case Mapping():
            raise ConfigError([Problem(f"{path}.url", "required, but not given")])
        case _:
            text = f"expected a URL, or keys and values, got {_shown(item)}"
            raise ConfigError([Problem(path, text)])


def _backend(entry: Discover, path: str, url: str, given: Mapping[Any, Any]) -> Endpoint:
    for name in given:
        if name not in _SETTINGS:
            allowed = sorted(_SETTINGS)
            text = f"unknown key{hint(str(name), allowed)}; allowed: {', '.join(allowed)}"
            raise ConfigError([Problem(f"{path}.{name}", text)])
    place = _place(entry, f"{path}.url", url)
    id, weight, drain = given.get("id", place.id), given.get("weight"), given.get("drain", False)
    labels = _labels(f"{path}.labels", given.get("labels") or {})
    if not isinstance(id, str):
        raise ConfigError([Problem(f"{path}.id", f"expected text, got {_shown(id)}")])
    if isinstance(weight, bool) or not (weight is None or isinstance(weight, int)):
        raise ConfigError([Problem(f"{path}.weight", f"expected a whole number, got {weight!r}")])
    if not isinstance(drain, bool):
        raise ConfigError([Problem(f"{path}.drain", f"expected true or false, got {drain!r}")])
    taken = ("id", "weight", "drain", "labels")
    settings = {name: value for name, value in given.items() if name not in taken}
    return Endpoint(id or place.id, place.url, weight, labels, drain, settings)


def _group(
    entry: Discover, path: str, targets: object, rest: Mapping[Any, Any]
) -> Iterator[Endpoint]:
    for name in rest:
        if name not in _GROUP:
            raise ConfigError([Problem(f"{path}.{name}", "unknown key; allowed: labels, targets")])
    labels = _labels(f"{path}.labels", rest.get("labels") or {})
    if isinstance(targets, str) or not isinstance(targets, Sequence):
        text = f"expected a list of addresses, got {_shown(targets)}"
        raise ConfigError([Problem(f"{path}.targets", text)])
    for at, target in enumerate(targets):
        where = f"{path}.targets[{at}]"
        if not isinstance(target, str):
            raise ConfigError([Problem(where, f"expected text, got {_shown(target)}")])
        place = _place(entry, where, target)
        yield Endpoint(place.id, place.url, labels=labels)


def _place(entry: Discover, path: str, text: str) -> Endpoint:
    """An endpoint from a URL, or from a host and perhaps a port."""
    if "://" in text or text.startswith("unix:"):
        _scheme, separator, rest = text.partition("://")
        return Endpoint(
            plain_id(_readable(rest if separator else text.removeprefix("unix:"))), text
        )
    bare = text.rpartition("]")[0].removeprefix("[") if text.startswith("[") else text
    try:
        if is_address(bare) and ":" in bare:
            after = text.rpartition("]")[2] if text.startswith("[") else ""
            host, port = bare, int(after.removeprefix(":")) if after else None
        else:
            host, port = split_name(text)
    except ValueError:
        expected = "expected a URL, or an address such as 10.0.0.1:8080"
        raise ConfigError([Problem(path, f"{expected}, got {text!r}")]) from None
    port = entry.default_port if port is None else port
    if port is None:
        raise ConfigError([Problem(path, f"expected a port, as in {text}:5000")])
    return at_address(entry, host, port)


def _readable(place: str) -> str:
    """The place of a URL as an id: without the brackets of an address of version 6."""
    host, bracket, rest = place.rpartition("]")
    return f"v6:{host.removeprefix('[')}{rest}" if bracket else place.strip("/")


def _labels(path: str, given: object) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise ConfigError([Problem(path, f"expected keys and values, got {_shown(given)}")])
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, str):
            text = f"expected text, got {_shown(value)}"
            raise ConfigError([Problem(f"{path}.{name}", text)])
    return dict(given)


def _shown(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case Mapping():
            return "keys and values"
        case list() | tuple():
            return "a list"
        case _:
            return repr(value)[:80]
