"""Members from elsewhere: how they join, and that nothing else of a configuration changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenflow.config import Backend, Config, ConfigError, expand, read_document
from evenflow.controller import (
    BackendDiscovered,
    BackendNotFound,
    Controller,
    Found,
    SourceStatus,
    Verdict,
)
from evenflow.controller.discovered import with_found
from evenflow.state import MemoryStore
from evenflow.testing.fake_engine import FakeEngine
from tests.unit.controller.conftest import Bench, backend, document


class Given:
    """Members as a test gives them."""

    def __init__(self) -> None:
        self.members: dict[str, dict[str, Sequence[Backend]]] = {}
        self.followed: list[Config] = []
        self.refuses = False

    async def found(self, config: Config) -> Found:
        if self.refuses:
            raise ConfigError([])
        return self.members

    def found_by_now(self) -> Found:
        return self.members

    def follow(self, config: Config) -> None:
        self.followed.append(config)

    def statuses(self) -> list[SourceStatus]:
        return []


async def started(bench: Bench, elsewhere: Given) -> Controller:
    controller = Controller(
        bench.engine, bench.store, admin_socket="/run/evenflow/admin.sock", read_sources=bench.read
    )
    controller.get_members_from(elsewhere)
    bench.controllers.append(controller)
    await controller.start(bench.read())
    return controller


def member(id: str, number: int, **fields: object) -> Backend:
    return backend(id, 9000 + number, **fields)


async def test_found_members_serve_beside_those_configured_and_are_no_configuration(
    bench: Bench,
) -> None:
    elsewhere = Given()
    elsewhere.members = {"default": {"dns": [member("x", 1)]}}
    controller = await started(bench, elsewhere)
    assert bench.ids() == ["a", "b", "x"]
    assert [each["id"] for each in controller.document()["backends"]] == ["a", "b"]
    assert {each.id: each.discovered for each in controller.backends()} == {
        "a": None,
        "b": None,
        "x": "dns",
    }
    stored = await bench.store.latest()
    assert stored is not None
    assert "9001" not in str(stored.document)


async def test_a_change_of_members_is_no_revision_and_tells_the_engine_that_alone(
    bench: Bench,
) -> None:
    elsewhere = Given()
    elsewhere.members = {"default": {"dns": [member(f"m{n}", n) for n in range(50)]}}
    controller = await started(bench, elsewhere)
    told, revision = len(bench.engine.member_changes), controller.revision
    kept = controller.members["default", "m7"]
    elsewhere.members = {"default": {"dns": elsewhere.members["default"]["dns"][5:]}}
    assert await controller.renew_members()
    assert not await controller.renew_members()
    assert len(bench.ids()) == 47
    assert len(bench.engine.member_changes) == told + 1, "a whole plan was told"
    assert controller.revision == revision
    assert controller.members["default", "m7"] is kept


async def test_who_stays_keeps_its_state_and_who_comes_starts_slowly(bench: Bench) -> None:
    elsewhere = Given()
    elsewhere.members = {"default": {"dns": [member("x", 1), member("y", 2)]}}
    bench.file = document("a", load_balancer={"slow_start": "30s"})
    controller = await started(bench, elsewhere)
    controller.set_verdict(("default", "x"), Verdict("unhealthy", "status 500"))
    elsewhere.members = {"default": {"dns": [member("x", 1), member("z", 3, drain=True)]}}
    await controller.renew_members()
    found = {each.id: each for each in controller.backends()}
    assert found.keys() == {"a", "x", "z"}
    assert (found["x"].status, found["x"].reason) == ("unhealthy", "status 500")
    assert found["z"].status == "draining"
    assert found["z"].effective_weight < found["z"].weight == 100
    # The same id at another place is another server, of which nothing is known.
    elsewhere.members = {"default": {"dns": [member("x", 9)]}}
    await controller.renew_members()
    assert {each.id: each.status for each in controller.backends()} == {
        "a": "unknown",
        "x": "unknown",
    }


async def test_changes_of_the_configuration_keep_found_members(bench: Bench) -> None:
    elsewhere = Given()
    elsewhere.members = {"default": {"dns": [member("x", 1)]}}
    controller = await started(bench, elsewhere)
    await controller.add_backend(backend("c"), source="test")
    await controller.update_backend("a", {"weight": 5}, source="test")
    await controller.apply(read_document(controller.document()), source="test")
    bench.file = document("a", "b", "d")
    await controller.reload(source="test")
    assert set(bench.ids()) == {"a", "b", "c", "d", "x"}
    assert elsewhere.followed[-1] is controller.config


async def test_a_found_member_cannot_be_changed_here(bench: Bench) -> None:
    elsewhere = Given()
    elsewhere.members = {"default": {"dns": [member("x", 1)]}}
    controller = await started(bench, elsewhere)
    with pytest.raises(BackendDiscovered, match="discovered by the source 'dns' of pool 'default'"):
        await controller.remove_backend("x", source="test")
    with pytest.raises(BackendDiscovered):
        await controller.update_backend("x", {"weight": 1}, source="test")
    with pytest.raises(BackendNotFound):
        await controller.remove_backend("y", source="test")


async def test_a_refused_change_goes_back_to_the_sources_of_before(bench: Bench) -> None:
    elsewhere = Given()
    controller = await started(bench, elsewhere)
    before, elsewhere.refuses = controller.config, True
    with pytest.raises(ConfigError):
        await controller.add_backend(backend("c"), source="test")
    assert elsewhere.followed[-1] is before


IDS = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=5)


@given(IDS, st.lists(st.tuples(st.sampled_from(["dns", "file"]), IDS), max_size=3))
def test_whoever_is_there_already_is_not_added_again(
    configured: list[str], lists: list[tuple[str, list[str]]]
) -> None:
    numbers = {id: n for n, id in enumerate("abcdefgh")}
    full = expand(
        read_document(
            {
                "backends": [
                    {"id": id, "url": f"http://192.0.2.1:{9000 + numbers[id]}"} for id in configured
                ]
            }
        )
    )
    found: Mapping[str, Mapping[str, Sequence[Backend]]] = {
        "default": {kind: [member(id, numbers[id]) for id in ids] for kind, ids in lists},
        "no such pool": {"dns": [member("z", 99)]},
    }
    merged, sources = with_found(full, found)
    members = merged.pools[0].backends
    assert [each.id for each in members[: len(configured)]] == configured
    assert len({each.url for each in members}) == len({each.id for each in members}) == len(members)
    wanted = {id for ids in found["default"].values() for id in (each.id for each in ids)}
    assert {each.id for each in members} == wanted | set(configured)
    assert {id for _, id in sources} == wanted - set(configured)


def test_a_server_listed_by_another_name_gets_no_second_share() -> None:
    full = expand(read_document({"backends": [{"id": "a", "url": "http://192.0.2.1:9001"}]}))
    merged, sources = with_found(full, {"default": {"dns": [member("other", 1)]}})
    assert merged is full
    assert not sources


async def test_the_store_may_be_new_again() -> None:
    engine, elsewhere = FakeEngine(), Given()
    elsewhere.members = {"default": {"file": [member("x", 1)]}}
    controller = Controller(engine, MemoryStore(), admin_socket="/run/s")
    controller.get_members_from(elsewhere)
    await controller.start(read_document({"discover": {"file": "backends.yaml"}}))
    try:
        assert [each.id for each in controller.backends()] == ["x"]
    finally:
        await controller.close()
        engine.close()
