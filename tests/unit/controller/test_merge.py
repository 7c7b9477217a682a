"""The three-way merge of a reload."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from evenflow.controller.merge import three_way_merge

Doc = dict[str, Any]

scalars = st.one_of(st.booleans(), st.integers(0, 3), st.sampled_from(["a", "b"]))


def members(key: str) -> st.SearchStrategy[list[Doc]]:
    names = st.lists(st.sampled_from(["x", "y", "z"]), unique=True, max_size=3)
    return names.flatmap(
        lambda found: st.tuples(
            *(st.fixed_dictionaries({key: st.just(name), "weight": scalars}) for name in found)
        ).map(list)
    )


values = st.recursive(
    st.one_of(scalars, members("id"), members("name"), st.lists(scalars, max_size=3)),
    lambda inner: st.dictionaries(st.sampled_from("pqr"), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


@given(documents, documents)
def test_an_unchanged_file_changes_nothing(base: Doc, ours: Doc) -> None:
    merged = three_way_merge(base, base, ours)
    assert merged.document == ours
    assert not merged.conflicts


@given(documents, documents)
def test_without_other_changes_the_file_is_taken_as_it_is(base: Doc, theirs: Doc) -> None:
    merged = three_way_merge(base, theirs, base)
    assert merged.document == theirs
    assert not merged.conflicts


@given(documents, documents)
def test_the_same_change_on_both_sides_is_no_conflict(base: Doc, both: Doc) -> None:
    merged = three_way_merge(base, both, both)
    assert merged.document == both
    assert not merged.conflicts


@given(documents, documents, documents)
def test_merging_again_changes_nothing(base: Doc, theirs: Doc, ours: Doc) -> None:
    merged = three_way_merge(base, theirs, ours).document
    again = three_way_merge(theirs, theirs, merged)
    assert again.document == merged


@given(documents, documents, documents)
def test_where_both_changed_a_value_the_files_is_taken(base: Doc, theirs: Doc, ours: Doc) -> None:
    merged = three_way_merge(base, theirs, ours)
    for key in {*base, *theirs, *ours}:
        sides = [document.get(key) for document in (base, theirs, ours)]
        if not any(isinstance(side, dict | list) for side in sides):
            wanted = sides[2] if sides[1] == sides[0] else sides[1]
            assert merged.document.get(key) == wanted
            assert (key in merged.conflicts) == (
                sides[1] not in (sides[0], sides[2]) and sides[2] != sides[0]
            )


def backend(id: str, weight: int = 100) -> Doc:
    return {"id": id, "url": f"http://{id}:80", "weight": weight}


def test_a_backend_added_over_the_api_stays_when_the_file_adds_another() -> None:
    base = {"backends": [backend("a")]}
    merged = three_way_merge(
        base,
        {"backends": [backend("a"), backend("file")]},
        {"backends": [backend("a"), backend("api")]},
    )
    assert [entry["id"] for entry in merged.document["backends"]] == ["a", "file", "api"]
    assert not merged.conflicts


def test_a_backend_removed_over_the_api_stays_removed() -> None:
    base = {"backends": [backend("a"), backend("b")], "port": 1}
    merged = three_way_merge(
        base,
        {"backends": [backend("a"), backend("b")], "port": 2},
        {"backends": [backend("b")], "port": 1},
    )
    assert merged.document == {"backends": [backend("b")], "port": 2}


def test_a_weight_changed_on_both_sides_is_the_files_and_reported() -> None:
    merged = three_way_merge(
        {"backends": [backend("a", 1)]},
        {"backends": [backend("a", 2)]},
        {"backends": [backend("a", 3)]},
    )
    assert merged.document == {"backends": [backend("a", 2)]}
    assert merged.conflicts == ["backends[a].weight"]


def test_a_backend_the_file_removed_goes_even_when_the_api_changed_it() -> None:
    merged = three_way_merge(
        {"backends": [backend("a", 1), backend("b")]},
        {"backends": [backend("b")]},
        {"backends": [backend("a", 3), backend("b")]},
    )
    assert merged.document == {"backends": [backend("b")]}
    assert merged.conflicts == ["backends[a]"]
