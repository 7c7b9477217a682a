"""A change of one pool's members: the same as the whole plan, at the price of the change."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evenflow.config import Config, expand, read_document
from evenflow.config.splice import splice
from evenflow.plan import compile_members_change, compile_plan, members_splice


def config(ids: list[str], **sections: Any) -> Config:
    backends = [{"id": id, "url": f"http://192.0.2.1:{8000 + ord(id)}"} for id in ids]
    return read_document({"backends": backends, **sections})


def edited(old: Config, ids: list[str]) -> Config:
    """The configuration with these backends, those that stay as the very objects they were."""
    known = {backend.id: backend for backend in old.backends}
    new = {backend.id: backend for backend in config(ids).backends}
    return old.model_copy(update={"backends": tuple(known.get(id, new[id]) for id in ids)})


names = st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1)


@settings(deadline=None, max_examples=50)
@given(names, names)
def test_the_change_leads_to_the_pool_of_the_whole_plan(old: list[str], new: list[str]) -> None:
    before = config(old)
    after = edited(before, new)
    change = members_splice(expand(before), expand(after))
    if old == new:
        assert change is None
        return
    assert change is not None
    first = compile_plan(before, revision=1, admin_socket="/s")["pools"][0]
    wanted = compile_plan(after, revision=2, admin_socket="/s")["pools"][0]
    told = compile_members_change(change, revision=2, state={}, addresses={})
    endpoints = list(first["endpoints"])
    assert told["members"] == len(endpoints)
    endpoints[told["at"] : told["at"] + told["remove"]] = told["insert"]
    assert endpoints == wanted["endpoints"]
    assert told["picker"] == wanted["picker"]


@pytest.mark.parametrize(
    "other",
    [
        {"load_balancer": {"strategy": "weighted"}},
        {"load_balancer": {"port": 9999}},
        {"security": {"ip_blacklist": ["192.0.2.0/24"]}},
        {"pools": [{"name": "more", "backends": []}]},
        {"metrics": {"enabled": False}},
    ],
)
def test_anything_else_is_a_whole_plan(other: dict[str, Any]) -> None:
    before = config(["a"])
    after = config(["a", "b"], **other)
    assert members_splice(expand(before), expand(after)) is None


@given(st.lists(st.integers(0, 3)), st.lists(st.integers(0, 3)))
def test_a_splice_leads_from_one_list_to_the_other(old: list[int], new: list[int]) -> None:
    piece = splice(old, new)
    assert [
        *old[: piece.at],
        *new[piece.at : piece.at + piece.inserted],
        *old[piece.at + piece.removed :],
    ] == new
