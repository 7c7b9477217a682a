"""Pure edits: a configuration and a wish become a new configuration, checked as a whole.

Only what changed is read anew; untouched backends are taken over as objects, so an edit costs
little even among thousands of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from pydantic import BaseModel

from evenflow.config import Backend, Config, ConfigError, Pool, Problem, read_document
from evenflow.config.splice import splice
from evenflow.config.types import Secret
from evenflow.controller.document import keep_secrets, merge_patch
from evenflow.controller.errors import BackendNotFound
from evenflow.controller.store import Document

Backends = Sequence[Backend]
_WITH_SECRETS = {"secrets": True}
_OWN_CHECK = attrgetter("health_check")


class Documents:
    """Dumps configurations, taking over what the last one's dump has of the same backends."""

    def __init__(self) -> None:
        # By pool, empty for those at the top: the backends of the last configuration, dumped.
        self._last: dict[str, tuple[Backends, list[dict[str, Any]]]] = {}

    def of(self, config: Config) -> dict[str, Any]:
        """The configuration as a document with its secrets, as the store keeps it."""
        document = config.model_dump(
            mode="json",
            exclude_none=True,
            exclude={"backends": True, "pools": {"__all__": {"backends"}}},
            context=_WITH_SECRETS,
        )
        last: dict[str, tuple[Backends, list[dict[str, Any]]]] = {}
        document["backends"] = self._dumped("", config.backends, last)
        for dumped, pool in zip(document.get("pools", ()), config.pools, strict=True):
            dumped["backends"] = self._dumped(pool.name, pool.backends, last)
        self._last = last
        return document

    def _dumped(
        self,
        pool: str,
        backends: Backends,
        last: dict[str, tuple[Backends, list[dict[str, Any]]]],
    ) -> list[dict[str, Any]]:
        before, dumps = self._last.get(pool, ((), []))
        piece = splice(before, backends)
        new = [
            backend.model_dump(mode="json", exclude_none=True, context=_WITH_SECRETS)
            for backend in backends[piece.at : piece.at + piece.inserted]
        ]
        dumps = [*dumps[: piece.at], *new, *dumps[piece.at + piece.removed :]]
        last[pool] = backends, dumps
        return dumps


def rebuilt(config: Config, **changes: Any) -> Config:
    """The configuration with some sections replaced, judged as a whole; raises `ConfigError`."""
    sections = {name: getattr(config, name) for name in config.model_fields_set}
    return read_document({**sections, **changes})


def patched(config: Config, document: Document, patch: Document) -> Config:
    """The configuration after an RFC 7396 merge patch; `document` is its dump with secrets."""
    changed = {
        name: keep_secrets(merge_patch({name: document[name]}, {name: value}), document)[name]
        if name in document and value is not None
        else value
        for name, value in patch.items()
    }
    sections = {
        name: getattr(config, name) for name in config.model_fields_set if name not in changed
    }
    return read_document(
        {**sections, **{name: value for name, value in changed.items() if value is not None}}
    )


def with_secrets(config: Config, current: Config) -> Config:
    """The configuration with every masked secret (`***`) replaced by the known one at its place.

    Members of lists are told apart by name. Raises `ConfigError` where none is known.
    """
    if not hidden_secrets(config):
        return config
    documents = Documents()
    document = keep_secrets(documents.of(config), Documents().of(current))
    kept = read_document(document)
    if paths := hidden_secrets(kept):
        raise ConfigError([Problem(path, "no secret is known here to keep") for path in paths])
    return keep_objects(kept, current)


def hidden_secrets(value: object, path: str = "") -> list[str]:
    """Where a configuration holds `***` instead of a secret."""
    match value:
        case Secret():
            return [path] if value.hidden else []
        case str():
            return []
        case Backend():  # There may be thousands; nothing else of them can be a secret.
            return hidden_secrets(value.health_check, f"{path}.health_check")
        case BaseModel():
            members = ((f".{name}", member) for name, member in value)
        case Mapping():
            members = ((f".{name}", member) for name, member in value.items())
        case Sequence():
            if {*map(type, value)} == {Backend} and not any(map(_OWN_CHECK, value)):
                return []  # Thousands of them are passed over quickly.
            members = ((f"[{index}]", member) for index, member in enumerate(value))
        case _:
            return []
    return [
        found
        for part, member in members
        for found in hidden_secrets(member, f"{path}{part}".removeprefix("."))
    ]


def backend_from(backend: Backend, change: Mapping[str, Any]) -> Backend:
    """The backend after a merge patch; its id cannot change."""
    if change.get("id", backend.id) != backend.id:
        raise ConfigError(
            [Problem("id", "an id cannot change; remove the backend and add another")]
        )
    document = backend.model_dump(mode="json", exclude_none=True, context=_WITH_SECRETS)
    return read_backend(keep_secrets(merge_patch(document, change), document))


def with_backend(config: Config, backend: Backend, pool: str | None) -> Config:
    """The configuration with one more backend, in a pool or among the flat ones."""
    names = [entry.name for entry in config.pools]
    if pool is None and config.pools and not config.backends:
        if len(names) > 1:
            text = f"say which pool the backend joins: {', '.join(names)}"
            raise ConfigError([Problem("pool", text)])
        pool = names[0]
    if pool is None or (pool == "default" and pool not in names):
        return rebuilt(config, backends=(*config.backends, backend))
    if pool not in names:
        expected = ", ".join(names) or "default"
        raise ConfigError([Problem("pool", f"expected one of {expected}, got {pool!r}")])
    return _in_pools(config, lambda entry, old: (*old, backend) if entry.name == pool else old)


def without_backend(config: Config, id: str) -> Config:
    """The configuration without a backend; raises `BackendNotFound`."""
    return _edit_backend(config, id, lambda _: None)


def with_changed_backend(config: Config, id: str, change: Mapping[str, Any]) -> Config:
    """The configuration with one backend patched; raises `BackendNotFound`."""
    return _edit_backend(config, id, lambda backend: backend_from(backend, change))


def _edit_backend(config: Config, id: str, edit: Callable[[Backend], Backend | None]) -> Config:
    def edited(old: Backends) -> Backends:
        return tuple(
            new
            for backend in old
            if (new := edit(backend) if backend.id == id else backend) is not None
        )

    if any(backend.id == id for backend in config.backends):
        return rebuilt(config, backends=edited(config.backends))
    if any(backend.id == id for pool in config.pools for backend in pool.backends):
        return _in_pools(config, lambda _, old: edited(old))
    raise BackendNotFound(id)


def _in_pools(config: Config, edit: Callable[[Pool, Backends], Backends]) -> Config:
    pools = []
    for pool in config.pools:
        backends = edit(pool, pool.backends)
        pools.append(
            pool
            if len(backends) == len(pool.backends)
            and all(new is old for new, old in zip(backends, pool.backends, strict=True))
            else pool.model_copy(update={"backends": backends})
        )
    return rebuilt(config, pools=tuple(pools))


def read_backend(document: Mapping[str, Any]) -> Backend:
    """A backend from a document; raises `ConfigError`."""
    return read_document({"backends": [document]}).backends[0]


def keep_objects(new: Config, old: Config) -> Config:
    """`new` with the objects of `old` wherever a backend is equal, so what is cached stays so."""
    known = {backend.id: backend for backend in old.backends}
    backends = tuple(
        kept if (kept := known.get(backend.id)) == backend and kept is not None else backend
        for backend in new.backends
    )
    return new.model_copy(update={"backends": backends}) if backends else new
