"""Verdicts: the first check decides, later ones by thresholds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from evenflow.health.verdict import CheckResult, Standing, Thresholds, judge

PASS = CheckResult(True, "status 200")
FAIL = CheckResult(False, "connection refused")
THRESHOLDS = Thresholds(healthy=2, unhealthy=3)


def statuses(results: str) -> list[str]:
    """The status after each result; `+` passes and `-` fails."""
    standing = Standing()
    seen: list[str] = []
    for result in results:
        standing = judge(standing, PASS if result == "+" else FAIL, THRESHOLDS)
        seen.append(standing.status)
    return seen


def test_the_first_check_decides_at_once() -> None:
    assert statuses("+") == ["healthy"]
    assert statuses("-") == ["unhealthy"]


def test_a_healthy_backend_falls_after_three_failures_in_a_row() -> None:
    assert statuses("+---") == ["healthy", "healthy", "healthy", "unhealthy"]


def test_a_pass_between_failures_starts_the_count_anew() -> None:
    assert statuses("+--+--") == ["healthy"] * 6


def test_an_unhealthy_backend_returns_after_two_passes_in_a_row() -> None:
    assert statuses("-+-++") == ["unhealthy"] * 4 + ["healthy"]


@given(st.text("+-", max_size=40), st.integers(1, 5), st.integers(1, 5))
def test_a_verdict_changes_only_after_its_threshold_of_equal_results(
    results: str, healthy: int, unhealthy: int
) -> None:
    thresholds = Thresholds(healthy, unhealthy)
    standing = Standing()
    for position, result in enumerate(results):
        before = standing
        standing = judge(standing, PASS if result == "+" else FAIL, thresholds)
        if before.status not in ("unknown", standing.status):
            needed = healthy if result == "+" else unhealthy
            assert results[: position + 1].endswith(result * needed)
