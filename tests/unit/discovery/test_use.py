"""Sources of the user's own: called, or running; whatever they do, it is told."""

from __future__ import annotations

import pytest

from evenflow.discovery.endpoint import DiscoveryError
from evenflow.discovery.use import load, use
from tests.unit.discovery.conftest import asking, entry, urls

MINE = "tests.unit.discovery.sources_of_mine"


async def test_a_function_is_called_with_its_options() -> None:
    fields = {"use": f"{MINE}:called", "options": {"count": 3}, "every": "9s"}
    async with asking(use, **fields) as following:
        found = await following()
    assert found.again_s == 9.0
    assert [each.id for each in found.endpoints] == ["one", "10.0.0.2", "10.0.0.3:80"]


async def test_a_function_that_yields_tells_by_itself_and_must_not_end() -> None:
    async with asking(use, use=f"{MINE}:yielding") as following:
        assert len((await following()).endpoints) == 1
        second = await following()
        assert urls(second.endpoints) == ["http://10.0.0.1:80", "http://10.0.0.2:80"]
        assert second.again_s is None
        with pytest.raises(DiscoveryError, match="the function ended"):
            await following()


async def test_a_function_that_hangs_is_given_up_in_time() -> None:
    with pytest.raises(TimeoutError):
        async with asking(use, use=f"{MINE}:hanging", timeout="100ms") as following:
            await following()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere.at_all:x", "cannot import nowhere.at_all:x: No module named 'nowhere'"),
        (f"{MINE}:missing", f"cannot import {MINE}:missing: "),
        (f"{MINE}:ordinary", "is not an `async def` function"),
    ],
)
def test_what_cannot_be_used_is_told(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load(entry(use=name))
