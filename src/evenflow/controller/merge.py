"""The three-way merge behind a reload.

`base` is the document that file and environment gave when they were last read, `theirs` what they
give now, `ours` what is in force. What changed in the file since is applied; what changed in force
by other ways (the API) stays; where both changed the same thing, the file wins and the conflict is
reported. Lists whose members carry an `id` or a `name` merge member by member; any other list is
one value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evenflow.controller.document import ABSENT, identity_key, is_list
from evenflow.controller.store import Document


@dataclass(frozen=True, slots=True)
class Merged:
    """The merged document and the paths where the file overruled another change."""

    document: dict[str, Any]
    conflicts: list[str]


@dataclass(slots=True)
class _Merge:
    conflicts: list[str] = field(default_factory=list)

    def value(self, path: str, base: Any, theirs: Any, ours: Any) -> Any:
        if theirs in (base, ours):
            return ours
        if ours == base:
            return theirs
        # Both changed it. Containers may have changed in different places.
        if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
            return self.mapping(path, base if isinstance(base, Mapping) else {}, theirs, ours)
        if is_list(theirs) and is_list(ours):
            known = base if is_list(base) else []
            if (key := identity_key(known, theirs, ours)) is not None:
                return self.members(path, key, known, theirs, ours)
        self.conflicts.append(path)
        return theirs

    def mapping(self, path: str, base: Document, theirs: Document, ours: Document) -> Any:
        merged = {}
        for key in [*ours, *(key for key in theirs if key not in ours)]:
            inner = f"{path}.{key}" if path else str(key)
            value = self.value(
                inner, base.get(key, ABSENT), theirs.get(key, ABSENT), ours.get(key, ABSENT)
            )
            if value is not ABSENT:
                merged[key] = value
        return merged

    def members(
        self, path: str, key: str, base: Sequence[Any], theirs: Sequence[Any], ours: Sequence[Any]
    ) -> list[Any]:
        known, new, live = (
            {member[key]: member for member in members} for members in (base, theirs, ours)
        )
        # The file's order counts only once the file itself changed it.
        first, second = (live, new) if list(new) == list(known) else (new, live)
        merged = []
        for name in [*first, *(name for name in second if name not in first)]:
            value = self.value(
                f"{path}[{name}]",
                known.get(name, ABSENT),
                new.get(name, ABSENT),
                live.get(name, ABSENT),
            )
            if value is not ABSENT:
                merged.append(value)
        return merged


def three_way_merge(base: Document, theirs: Document, ours: Document) -> Merged:
    """Merge what changed from `base` to `theirs` into `ours`."""
    merge = _Merge()
    document = merge.mapping("", base, theirs, ours)
    return Merged(document, merge.conflicts)
