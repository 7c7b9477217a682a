"""Pure operations on configuration documents: merge patch, differences, secrets.

A document is what `Config` dumps: plain JSON values. Lists whose members carry an `id` or a `name`
are compared member by member; any other list is one value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from evenflow.config.secrecy import ROOT, Place
from evenflow.config.splice import splice
from evenflow.controller.store import Document

MASK: Final = "***"
"""What stands in API output where a secret is."""

MAX_CHANGES: Final = 200
"""Changes listed by name; further ones are counted."""

_SHORT_VALUE = 80
_LOGIN = re.compile(r"(?<=://)[^/\s]*@")
"""Who logs in, in a URL."""


class _Absent:
    """The value of a key that is not there; `None` is a value of its own."""

    def __repr__(self) -> str:
        return "absent"


ABSENT: Final = _Absent()


def identity_key(*lists: Sequence[Any]) -> str | None:
    """The key (`id` or `name`) that tells the members of all these lists apart, if one does."""
    if not any(lists):
        return None
    for key in ("id", "name"):
        if all(_identified(members, key) for members in lists):
            return key
    return None


def _identified(members: Sequence[Any], key: str) -> bool:
    names = [member.get(key) if isinstance(member, Mapping) else None for member in members]
    return all(isinstance(name, str) for name in names) and len(set(names)) == len(names)


def is_list(value: object) -> bool:
    """Whether a value is a JSON array."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def merge_patch(document: Document, patch: Document) -> dict[str, Any]:
    """Apply an RFC 7396 merge patch: `null` removes a key, objects merge, all else replaces."""
    merged = dict(document)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            old = merged.get(key)
            merged[key] = merge_patch(old if isinstance(old, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def differences(old: Document, new: Document) -> list[str]:
    """How `new` differs from `old`, one readable line per path; secrets are not shown."""
    lines: list[str] = []
    count = 0
    for count, line in enumerate(_differences("", ROOT, old, new), 1):
        if count <= MAX_CHANGES:
            lines.append(line)
    if count > MAX_CHANGES:
        lines.append(f"and {count - MAX_CHANGES} more changes")
    return lines


def _differences(path: str, place: Place, old: Any, new: Any) -> Iterator[str]:
    if old is new or old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            inner = f"{path}.{key}" if path else str(key)
            below = place.below(str(key))
            yield from _differences(inner, below, old.get(key, ABSENT), new.get(key, ABSENT))
        return
    if is_list(old) and is_list(new):
        before, after = _without_common_ends(old, new)
        if (key := identity_key(before, after)) is not None:
            yield from _member_differences(path, place.members, key, before, after)
            return
    if old is ABSENT:
        yield f"{path}: added {_shown(place, new)}"
    elif new is ABSENT:
        yield f"{path}: removed"
    elif place.is_secret or place.members.is_secret:
        yield f"{path}: changed"
    else:
        yield f"{path}: {_shown(place, old)} → {_shown(place, new)}"


def _without_common_ends(
    old: Sequence[Any], new: Sequence[Any]
) -> tuple[Sequence[Any], Sequence[Any]]:
    """What is left of two lists without the very same objects at their beginnings and ends."""
    piece = splice(old, new)
    return (
        old[piece.at : piece.at + piece.removed],
        new[piece.at : piece.at + piece.inserted],
    )


def _member_differences(
    path: str, place: Place, key: str, old: Sequence[Any], new: Sequence[Any]
) -> Iterator[str]:
    before = {member[key]: member for member in old}
    after = {member[key]: member for member in new}
    for name, member in before.items():
        yield from _differences(f"{path}[{name}]", place, member, after.get(name, ABSENT))
    for name, member in after.items():
        if name not in before:
            yield f"{path}[{name}]: added {_shown(place, member)}"
    kept_before = [name for name in before if name in after]
    kept_after = [name for name in after if name in before]
    if kept_before != kept_after:
        yield f"{path}: order changed"


def _shown(place: Place, value: Any) -> str:
    if place.is_secret or place.members.is_secret:
        return MASK
    if isinstance(value, Mapping):
        if "url" in value:
            return _LOGIN.sub(f"{MASK}@", str(value["url"]))
        return "{" + ", ".join(str(key) for key in value) + "}"
    if is_list(value) and any(isinstance(member, Mapping) for member in value):
        return f"[{len(value)} members]"
    text = repr(_LOGIN.sub(f"{MASK}@", value)) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHORT_VALUE else text[: _SHORT_VALUE - 1] + "…"


def keep_secrets(document: Document, known: Document) -> dict[str, Any]:
    """Put the known secret in wherever a document only says that there is one (`***`).

    A mask at a path where nothing is known stays, and validation will refuse it.
    """
    return {key: _keep(value, known.get(key, ABSENT)) for key, value in document.items()}


def _keep(value: Any, known: Any) -> Any:
    if value == MASK and isinstance(known, str):
        return known
    if isinstance(value, Mapping) and isinstance(known, Mapping):
        return keep_secrets(value, known)
    if is_list(value) and is_list(known) and (key := identity_key(value, known)) is not None:
        by_name = {member[key]: member for member in known}
        return [_keep(member, by_name.get(member[key], ABSENT)) for member in value]
    return value
