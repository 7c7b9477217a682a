"""Waiting times of clients that present wrong tokens."""

from __future__ import annotations

from evenflow.admin.lockout import FREE_FAILURES, LONGEST_DELAY_S, Lockout


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_delay_grows_with_each_failure_up_to_a_bound() -> None:
    clock = Clock()
    lockout = Lockout(clock)
    delays = []
    for _ in range(20):
        delays.append(lockout.failed("192.0.2.1"))
        clock.now += delays[-1]
    assert delays[:FREE_FAILURES] == [0] * FREE_FAILURES
    assert delays[FREE_FAILURES : FREE_FAILURES + 4] == [1, 2, 4, 8]
    assert delays[-1] == LONGEST_DELAY_S


def test_a_locked_client_is_let_in_again_when_its_delay_is_over() -> None:
    clock = Clock()
    lockout = Lockout(clock)
    for _ in range(FREE_FAILURES + 3):
        lockout.failed("192.0.2.1")
    assert lockout.locked_for("192.0.2.1") == 4
    assert lockout.locked_for("192.0.2.2") == 0
    clock.now += 3
    assert lockout.locked_for("192.0.2.1") == 1
    clock.now += 1
    assert lockout.locked_for("192.0.2.1") == 0


def test_success_and_long_quiet_forgive() -> None:
    clock = Clock()
    lockout = Lockout(clock)
    for client in ("192.0.2.1", "192.0.2.2"):
        for _ in range(FREE_FAILURES):
            assert lockout.failed(client) == 0
    lockout.succeeded("192.0.2.1")
    assert lockout.failed("192.0.2.1") == 0
    clock.now += 10_000
    assert lockout.failed("192.0.2.2") == 0


def test_addresses_one_host_can_choose_from_count_together() -> None:
    lockout = Lockout(Clock())
    for number in range(FREE_FAILURES + 1):
        lockout.failed(f"2001:db8::{number:x}")
    assert lockout.locked_for("2001:db8:0:0:ffff::1") > 0
    assert lockout.locked_for("2001:db8:0:1::1") == 0
    for _ in range(FREE_FAILURES + 1):
        lockout.failed("::ffff:192.0.2.9")
    assert lockout.locked_for("192.0.2.9") > 0


def test_a_million_clients_take_no_more_memory_than_the_bound() -> None:
    lockout = Lockout(Clock(), clients=100)
    for number in range(10_000):
        lockout.failed(f"10.0.{number // 256}.{number % 256}")
    assert len(lockout) == 100
