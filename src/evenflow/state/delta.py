"""What changed from one document to the next, as a document: small for a small change.

Pure. A delta is one of three objects: `{"=": value}` puts a value in place, `{".": {key: delta},
"-": [key]}` changes and removes members, and `{"~": [at, removed, [value], {at: delta}]}` replaces a
stretch of a list and changes single members of it before. Applied to the old document it gives the
new one exactly: the order of keys, and `1` apart from `1.0` and `true`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evenflow.config.splice import splice


def delta(old: Any, new: Any) -> dict[str, Any] | None:
    """What makes `new` of `old`; None where they are the same."""
    if old is new:
        return None
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return _of_mappings(old, new)
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        return _of_lists(old, new)
    if type(old) is type(new) and old == new:
        return None
    return {"=": new}


def patched(old: Any, change: Mapping[str, Any] | None) -> Any:
    """What `change` makes of `old`, which stays as it is; ValueError where the two do not fit."""
    if change is None:
        return old
    if "=" in change:
        return change["="]
    try:
        if "~" in change:
            at, removed, inserted, changes = change["~"]
            members = list(old)
            for index, inner in changes.items():
                members[int(index)] = patched(members[int(index)], inner)
            members[at : at + removed] = inserted
            return members
        gone = set(change["-"])
        result = {key: value for key, value in old.items() if key not in gone}
        for key, inner in change["."].items():
            result[key] = patched(result.get(key), inner)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"a change does not fit the document it was made for ({error})") from error
    return result


def _of_mappings(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any] | None:
    removed = [key for key in old if key not in new]
    # A new key comes last; a change that puts it elsewhere is told as a whole.
    order = [key for key in old if key in new] + [key for key in new if key not in old]
    if order != list(new):
        return {"=": new}
    changed = {
        key: {"=": value} if key not in old else change
        for key, value in new.items()
        if key not in old or (change := delta(old[key], value)) is not None
    }
    return {".": changed, "-": removed} if changed or removed else None


def _of_lists(old: Sequence[Any], new: Sequence[Any]) -> dict[str, Any] | None:
    piece = splice(old, new)
    at, removed, inserted = piece.at, piece.removed, piece.inserted
    if removed == inserted:
        changes = {
            str(index): change
            for index in range(at, at + removed)
            if (change := delta(old[index], new[index])) is not None
        }
        return {"~": [0, 0, [], changes]} if changes else None
    # Members that are equal without being the very same objects.
    while removed and inserted and delta(old[at], new[at]) is None:
        at, removed, inserted = at + 1, removed - 1, inserted - 1
    while removed and inserted and delta(old[at + removed - 1], new[at + inserted - 1]) is None:
        removed, inserted = removed - 1, inserted - 1
    return {"~": [at, removed, list(new[at : at + inserted]), {}]}
