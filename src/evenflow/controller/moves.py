"""What the API has moved from the flat to the full form, moved in the file's documents as well.

A file goes on to say `backends` after the pool they make was changed over the API, which wrote that
pool out below `pools`. So that a later change in the file meets what became of it, and does not make
the pool a second time, both of the file's documents are seen in the other's form before a merge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evenflow.config.expand import DEFAULT, MAIN_LISTENER, path_name
from evenflow.config.targets import parse_listen, parse_url
from evenflow.controller.store import Document

_ADDRESS = ("host", "port")


def followed(base: Document, theirs: Document, ours: Document) -> tuple[Document, Document]:
    """`base` and `theirs` with what is written out in `ours` alone written out there too."""
    if MAIN_LISTENER in _added("listeners", base, theirs, ours) and not base.get("listeners"):
        base, theirs = (_with_listener(each, ours) for each in (base, theirs))
    added = _added("pools", base, theirs, ours)
    if added and (moved := added & _flat_pools(base).keys()):
        base, theirs = (_with_pools(each, moved) for each in (base, theirs))
    return base, theirs


def _added(section: str, base: Document, theirs: Document, ours: Document) -> set[str]:
    """The names that `ours` alone has in a section."""
    names = [{each.get("name") for each in it.get(section) or ()} for it in (base, theirs, ours)]
    return names[2] - names[0] - names[1]


def _flat_pools(document: Document) -> dict[str, list[Any]]:
    """The backends at the top by the pool they make."""
    found: dict[str, list[Any]] = {}
    for backend in document.get("backends") or ():
        found.setdefault(path_name(parse_url(backend["url"]).path), []).append(backend)
    if not found and not document.get("pools"):
        found[DEFAULT] = []
    return found


def _with_pools(document: Document, moved: set[str]) -> Document:
    flat = _flat_pools(document)
    pools = [{"name": name, "backends": flat.get(name, [])} for name in sorted(moved)]
    left = [each for name, several in flat.items() if name not in moved for each in several]
    return {**document, "backends": left, "pools": [*(document.get("pools") or ()), *pools]}


def _with_listener(document: Document, ours: Document) -> Document:
    if document.get("listeners"):
        return document
    section: Mapping[str, Any] = document.get("load_balancer") or {}
    known: Mapping[str, Any] = ours.get("load_balancer") or {}
    host = str(section.get("host", "0.0.0.0"))  # noqa: S104 - the model's own default
    shown = f"[{host}]" if ":" in host else host
    address = parse_listen(f"{shown}:{section.get('port', 8080)}")
    rest = {key: value for key, value in section.items() if key not in _ADDRESS}
    return {
        **document,
        "load_balancer": {**rest, **{key: known[key] for key in _ADDRESS if key in known}},
        "listeners": [{"name": MAIN_LISTENER, "address": address}],
    }
