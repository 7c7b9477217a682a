"""Changes between documents: applied, they give the new one exactly, in any sequence."""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evenflow.state import MemoryStore, Revision, SqliteStore, StateStore, StoredRevision
from evenflow.state.delta import delta, patched

SCALARS = st.none() | st.booleans() | st.integers(0, 2) | st.floats(0, 2) | st.sampled_from("ab")
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)
MEMBERS = st.lists(st.fixed_dictionaries({"id": st.integers(0, 6), "more": VALUES}), max_size=6)
DOCUMENTS = st.fixed_dictionaries({}, optional={"backends": MEMBERS, "pools": MEMBERS, "x": VALUES})


def edited(old: Any, draw: st.DrawFn) -> Any:
    """Another value that has the very same objects as `old` in most of its places."""
    match draw(st.sampled_from(["replace", "below", "below", "below"])), old:
        case "below", dict() if old:
            key = draw(st.sampled_from(sorted(old)))
            if draw(st.booleans()):
                return {**old, key: edited(old[key], draw)}
            return {name: value for name, value in old.items() if name != key}
        case "below", list() if old:
            at = draw(st.integers(0, len(old) - 1))
            return [
                *old[:at],
                *draw(st.lists(st.just(edited(old[at], draw)), max_size=2)),
                *old[at + 1 :],
            ]
        case _:
            return draw(VALUES)


@st.composite
def sequences(draw: st.DrawFn) -> list[Any]:
    """Documents, each mostly the one before."""
    found = [draw(DOCUMENTS)]
    for _ in range(draw(st.integers(1, 9))):
        old = found[-1]
        key = draw(st.sampled_from(["backends", "pools", "x"]))
        new = {**old, key: edited(old[key], draw) if key in old else draw(VALUES)}
        found.append(draw(st.sampled_from([new, old, draw(DOCUMENTS)])))
    return found


def exactly(value: Any) -> str:
    """Text that differs wherever two values do, in order and in kind."""
    return json.dumps(value)


@given(sequences())
def test_a_change_applied_to_the_old_document_gives_the_new_one(documents: list[Any]) -> None:
    for old, new in itertools.pairwise(documents):
        before = exactly(old)
        change = json.loads(json.dumps(delta(old, new)))
        assert exactly(patched(old, change)) == exactly(new)
        assert exactly(old) == before


@given(VALUES, VALUES)
def test_any_two_values_have_a_change_between_them(old: Any, new: Any) -> None:
    change = delta(old, new)
    assert (change is None) == (exactly(old) == exactly(new))
    assert exactly(patched(old, json.loads(json.dumps(change)))) == exactly(new)


def test_what_is_told_of_one_member_among_many_is_that_member() -> None:
    members = [{"id": n} for n in range(1000)]
    changed = [*members[:500], {"id": 500, "weight": 1}, *members[501:]]
    found = delta({"pools": [{"backends": members}]}, {"pools": [{"backends": changed}]})
    assert len(json.dumps(found)) < 150


@pytest.mark.parametrize(
    ("old", "change"),
    [
        ([], {"~": [0, 0, [], {"1": {"=": 2}}]}),
        (1, {".": {}, "-": []}),
        ({}, {".": {}}),
        (None, {"~": [0, 1, [], {}]}),
    ],
)
def test_a_change_of_another_document_is_refused(old: Any, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        patched(old, change)


@settings(max_examples=25, deadline=None)
@given(
    sequences(),
    st.lists(st.integers(1, 8), min_size=10, max_size=10),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(0, 10),
)
def test_sqlite_keeps_what_memory_keeps(
    documents: list[Any], steps: list[int], limit: int, whole_every: int, reopened_at: int
) -> None:
    """Also with revisions out of order, and over a restart."""

    async def both() -> None:
        memory = MemoryStore(history_limit=limit)
        with tempfile.TemporaryDirectory() as folder:
            sqlite = SqliteStore(folder, history_limit=limit, whole_every=whole_every)
            await sqlite.open()
            number = 0
            for count, (document, step) in enumerate(zip(documents, steps, strict=False)):
                # Mostly the next one; now and then one that is there already, or late.
                number = number + 1 if step < 7 else max(1, number - step + 7)
                entry = StoredRevision(Revision(number, float(count), "api", ()), document)
                for store in (memory, sqlite):
                    await store.save(entry)
                if count == reopened_at:
                    await sqlite.close()
                    sqlite = SqliteStore(folder, history_limit=limit, whole_every=whole_every)
                    await sqlite.open()
                assert await shown(sqlite) == await shown(memory)
            await sqlite.close()

    asyncio.run(both())


async def shown(store: StateStore) -> Any:
    heads = await store.history()
    entries = [await store.load(number) for number in range(14)]
    latest = await store.latest()
    documents = [each and exactly(each.document) for each in (latest, *entries)]
    return heads, [each and each.head for each in (latest, *entries)], documents
