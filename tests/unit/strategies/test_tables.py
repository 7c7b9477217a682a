from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evenflow.strategies.tables import smooth_order, whole_weights

WEIGHTS = st.lists(st.integers(1, 60), min_size=1, max_size=12)


@given(WEIGHTS)
def test_each_index_appears_as_often_as_its_weight(weights: list[int]) -> None:
    counts = Counter(smooth_order(weights))
    assert [counts[index] for index in range(len(weights))] == weights


@settings(max_examples=300, deadline=None)
@given(WEIGHTS)
def test_no_index_is_ever_a_whole_turn_ahead_or_behind(weights: list[int]) -> None:
    total = sum(weights)
    seen = [0] * len(weights)
    for step, index in enumerate(smooth_order(weights), 1):
        seen[index] += 1
        for at, weight in enumerate(weights):
            behind = Fraction(step * weight, total) - seen[at]
            assert -1 < behind < 1, f"after {step} steps index {at} stands {float(behind)} behind"


def test_equal_weights_take_turns_in_order() -> None:
    assert smooth_order([1, 1, 1]) == [0, 1, 2]


def test_a_heavy_index_is_spread_over_the_round() -> None:
    order = smooth_order([5, 1, 1])
    assert Counter(order) == {0: 5, 1: 1, 2: 1}
    assert order == [0, 1, 0, 0, 2, 0, 0]


@given(st.lists(st.integers(1, 65_535), min_size=1, max_size=50), st.integers(60, 5000))
def test_scaled_weights_fit_and_stay_near_their_proportion(weights: list[int], slots: int) -> None:
    whole = whole_weights(weights, slots)
    assert sum(whole) <= slots
    assert min(whole) >= 1
    for weight, scaled in zip(weights, whole, strict=True):
        wanted = weight / sum(weights)
        # Each lightest one that is raised to 1 takes at most one slot from the others.
        assert abs(scaled / sum(whole) - wanted) <= (1 + len(weights)) / slots + 1e-9 or (
            scaled / sum(whole) == pytest.approx(wanted)
        )


@given(WEIGHTS, st.integers(1, 9))
def test_weights_that_fit_keep_their_exact_proportion(weights: list[int], factor: int) -> None:
    whole = whole_weights([weight * factor for weight in weights])
    assert all(a * sum(weights) == b * sum(whole) for a, b in zip(whole, weights, strict=True))


def test_more_weights_than_slots_are_all_one() -> None:
    assert whole_weights([1, 2, 3, 4], 3) == [1, 1, 1, 1]


def test_fractions_are_kept_to_a_thousandth() -> None:
    assert whole_weights([1, 0.5, 0.25]) == [4, 2, 1]


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_weights_that_are_none_are_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        whole_weights([1, weight])
