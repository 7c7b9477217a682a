from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evenflow.config.names import STRATEGY_PARAMETERS, strategy_names
from evenflow.strategies import (
    BUILT_IN,
    Cycle,
    Endpoint,
    Hash,
    Least,
    helpers,
    resolve,
)
from evenflow.strategies.picker import Weigh

SLOTS = 509


def _uniform(id: str, slot: int) -> float:
    """A number above 0 and at most 1, drawn from the id and the slot."""
    digest = blake2b(f"{slot}\0{id}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) + 1) / 2**64


def _reference_table(ids: Sequence[str], weights: Sequence[int], slots: int) -> list[int]:
    """The consistent table by its definition, slot by slot: in each slot the id that arrives first
    has it, where arrival times are exponential with the weight as rate."""
    return [
        min(range(len(ids)), key=lambda at: -math.log(_uniform(ids[at], slot)) / weights[at])
        for slot in range(slots)
    ]


def _table(ids: Sequence[str], weights: Sequence[int], _slots: int) -> list[int]:
    return _reference_table(ids, weights, SLOTS)


def _endpoints(weights: Sequence[int]) -> list[Endpoint]:
    return [Endpoint(f"e{index}", weight) for index, weight in enumerate(weights)]


@pytest.fixture
def _reference(monkeypatch: pytest.MonkeyPatch) -> None:
    original = helpers.hash_by

    def by_reference(
        key: str,
        endpoints: Sequence[Endpoint],
        weight: Weigh = helpers.by_weight,
        load_bound: float | None = None,
    ) -> Hash:
        return original(key, endpoints, weight, load_bound, _table)

    monkeypatch.setattr("evenflow.strategies.ip_hash.hash_by", by_reference)
    monkeypatch.setattr("evenflow.strategies.consistent_hash.hash_by", by_reference)


WEIGHTS = st.lists(st.integers(1, 200), min_size=1, max_size=10)


@given(WEIGHTS)
def test_round_robin_gives_each_endpoint_the_same_whatever_its_weight(weights: list[int]) -> None:
    picker = resolve("round_robin")(_endpoints(weights))
    assert isinstance(picker, Cycle)
    assert picker.table == list(range(len(weights)))


def test_round_robin_gives_an_endpoint_in_slow_start_its_share() -> None:
    picker = resolve("round_robin")([Endpoint("a"), Endpoint("b", ramp=0.25)])
    assert isinstance(picker, Cycle)
    assert Counter(picker.table) == {0: 4, 1: 1}


@given(WEIGHTS)
def test_weighted_is_exact_over_a_round(weights: list[int]) -> None:
    picker = resolve("weighted")(_endpoints(weights))
    assert isinstance(picker, Cycle)
    counts = Counter(picker.table)
    for index, weight in enumerate(weights):
        assert counts[index] * sum(weights) == weight * len(picker.table)


@given(WEIGHTS)
def test_random_is_in_proportion_to_weight(weights: list[int]) -> None:
    picker = resolve("random")(_endpoints(weights))
    assert isinstance(picker, Hash)
    assert picker.key == "random"
    counts = Counter(picker.table)
    for index, weight in enumerate(weights):
        assert counts[index] * sum(weights) == weight * len(picker.table)


@pytest.mark.usefixtures("_reference")
@pytest.mark.parametrize(
    ("name", "parameters", "key"),
    [
        ("ip_hash", {}, "client_ip"),
        ("consistent_hash", {"key": "header:x-user"}, "header:x-user"),
        ("consistent_hash", {}, "client_ip"),
    ],
)
def test_hashing_strategies_spread_by_weight_and_move_only_what_they_must(
    name: str, parameters: dict[str, str], key: str
) -> None:
    strategy = resolve(name, **parameters)

    @settings(max_examples=8, deadline=None)
    @given(st.lists(st.sampled_from([100, 50, 200]), min_size=2, max_size=6), st.data())
    def check(weights: list[int], data: st.DataObject) -> None:
        endpoints = _endpoints(weights)
        before = strategy(endpoints)
        assert isinstance(before, Hash)
        assert before.key == key
        counts = Counter(before.table)
        for index, weight in enumerate(weights):
            share = weight / sum(weights)
            # Six standard deviations of a binomial count.
            slack = 6 * (share * (1 - share) / SLOTS) ** 0.5
            assert abs(counts[index] / SLOTS - share) <= slack, counts
        gone = data.draw(st.integers(0, len(weights) - 1))
        left = endpoints[:gone] + endpoints[gone + 1 :]
        after = strategy(left)
        assert isinstance(after, Hash)
        for old, new in zip(before.table, after.table, strict=True):
            if old != gone:
                assert endpoints[old].id == left[new].id

    check()


@pytest.mark.usefixtures("_reference")
def test_the_load_bound_reaches_the_picker() -> None:
    for name in ("ip_hash", "consistent_hash"):
        picker = resolve(name, load_bound=1.25)(_endpoints([1, 1]))
        assert isinstance(picker, Hash)
        assert picker.load_bound == 1.25


@given(st.integers(1, 64))
def test_least_connections_compares_all_of_a_usual_pool(size: int) -> None:
    assert resolve("least_connections")(_endpoints([1] * size)) == Least("in_flight", 0)


def test_least_connections_compares_some_of_a_large_pool() -> None:
    assert resolve("least_connections")(_endpoints([1] * 65)) == Least("in_flight", 64)
    assert resolve("least_connections", choices=3)(_endpoints([1])) == Least("in_flight", 3)


@given(WEIGHTS)
def test_p2c_ewma_compares_the_latency_of_two(weights: list[int]) -> None:
    assert resolve("p2c_ewma")(_endpoints(weights)) == Least("latency", 2)
    assert resolve("p2c_ewma", choices=5)(_endpoints(weights)) == Least("latency", 5)


OWN = """
from evenflow.strategies import cycle

def zone(endpoints, zone="a"):
    return cycle([e for e in endpoints if e.labels.get("zone") == zone] or endpoints)

not_one = 3
"""
ZONES = [Endpoint("a", labels={"zone": "a"}), Endpoint("b", labels={"zone": "b"})]


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module with a strategy, installed with an entry point."""
    (tmp_path / "ownstrategies.py").write_text(OWN)
    (tmp_path / "broken_strategies.py").write_text("raise RuntimeError('no')")
    info = tmp_path / "ownstrategies-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ownstrategies\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[evenflow.strategies]\nlocal = ownstrategies:zone\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "ownstrategies", raising=False)
    return "ownstrategies"


def test_a_strategy_of_ones_own_is_found_by_its_path(own_package: str) -> None:
    assert resolve(f"{own_package}:zone")(ZONES) == Cycle([0], of=[ZONES[0]])
    assert resolve(f"{own_package}:zone", zone="b")(ZONES) == Cycle([0], of=[ZONES[1]])


@pytest.mark.usefixtures("own_package")
def test_a_strategy_of_ones_own_is_found_by_its_entry_point() -> None:
    assert "local" in strategy_names()
    assert resolve("local")(ZONES) == Cycle([0], of=[ZONES[0]])


@pytest.mark.usefixtures("own_package")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("round_robbin", "did you mean `round_robin`"),
        ("ownstrategies:zones", "cannot import"),
        ("nowhere_at_all:f", "cannot import"),
        ("broken_strategies:f", "cannot import"),
        ("ownstrategies:not_one", "not a function"),
    ],
)
def test_what_is_no_strategy_is_refused_with_a_reason(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        resolve(name)


def test_built_in_strategies_take_the_parameters_that_are_declared_for_them() -> None:
    values = {"key": "path", "load_bound": 1.5, "choices": 2}
    assert set(BUILT_IN) == set(STRATEGY_PARAMETERS)
    for name, parameters in STRATEGY_PARAMETERS.items():
        resolve(name, **{parameter: values[parameter] for parameter in parameters})
        with pytest.raises(ValueError, match="takes no"):
            resolve(name, other=1)
