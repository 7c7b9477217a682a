"""What was added to counters of late."""

from __future__ import annotations

from evenflow.controller.window import LONGEST, STEPS, Window


def test_counters_that_fell_began_anew() -> None:
    window = Window()
    window.add(0, (100, 50), 10)
    assert window.add(1, (5, 5), 10) == (0, 0)
    assert window.add(2, (6, 6), 10) == (1, 1)


def test_a_long_window_is_kept_in_few_samples() -> None:
    window = Window()
    late: tuple[int, ...] = (0,)
    for second in range(10_000):
        late = window.add(second, (second,), 3600)
    assert 3400 <= late[0] <= 3800
    assert len(window._samples) <= STEPS + 4


def test_a_longer_time_is_looked_at_until_enough_was_added() -> None:
    window = Window()
    late: tuple[int, ...] = (0,)
    for second in range(200):
        late = window.add(second, (second,), 10, enough=50)
    assert 50 <= late[0] <= 53
    assert window.add(200, (1000,), 10, enough=50)[0] < 900


def test_what_is_kept_is_bounded_however_little_comes() -> None:
    window = Window()
    for second in range(20_000):
        window.add(second, (second // 1000,), 10, enough=100)
    assert len(window._samples) <= LONGEST * STEPS
