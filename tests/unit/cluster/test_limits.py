"""The exchange of what passed: every message of others is charged once, whatever its way."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenflow.cluster.limits import LimitExchange
from evenflow.testing.fake_engine import FakeEngine, engine_error


async def test_a_message_is_charged_once_and_ones_own_never() -> None:
    engine = FakeEngine()
    here, there = LimitExchange(engine, "here"), LimitExchange(FakeEngine(), "there")
    await here.take_in(there.message(b"one", 1))
    await here.take_in(there.message(b"one", 1))
    await here.take_in(here.message(b"own", 1))
    await here.take_in(there.message(b"four\nwith a line", 4))
    assert engine.charged == [b"one", b"four\nwith a line"]
    assert here.messages == {"sent": 0, "received": 2, "lost": 2, "refused": 0}


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"[]\n{}", b'["a",0]\n{}', b'["a","1"]\n{}', b"[1,1]\n{}", b"\xff\n", b"1\n"],
)
async def test_what_is_no_message_is_counted_and_changes_nothing(data: bytes) -> None:
    engine = FakeEngine()
    exchange = LimitExchange(engine, "here")
    await exchange.take_in(data)
    assert engine.charged == []
    assert exchange.messages["refused"] == 1


async def test_a_document_that_the_engine_refuses_is_counted() -> None:
    class Refusing(FakeEngine):
        def charge(self, passed: bytes) -> None:
            raise engine_error("plan", "limits", "wrong")

    exchange = LimitExchange(Refusing(), "here")
    await exchange.take_in(LimitExchange(FakeEngine(), "there").message(b"{}", 1))
    assert exchange.messages == {"sent": 0, "received": 0, "lost": 0, "refused": 1}


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.binary(max_size=8)), max_size=30),
    st.randoms(use_true_random=False),
)
async def test_senders_may_come_in_any_order_between_each_other(
    passed: list[tuple[str, bytes]], random: object
) -> None:
    by_sender: dict[str, list[bytes]] = {}
    exchange = LimitExchange(FakeEngine(), "")
    for sender, document in passed:
        messages = by_sender.setdefault(sender, [])
        speaking = LimitExchange(FakeEngine(), sender)
        messages.append(speaking.message(document, len(messages) + 1))
    engine = FakeEngine()
    exchange = LimitExchange(engine, "here")
    waiting = {sender: list(messages) for sender, messages in by_sender.items()}
    while waiting:
        sender = random.choice(sorted(waiting))  # type: ignore[attr-defined]  # Hypothesis's Random
        await exchange.take_in(waiting[sender].pop(0))
        if not waiting[sender]:
            del waiting[sender]
    assert Counter(engine.charged) == Counter(document for _, document in passed)
    assert exchange.messages["lost"] == exchange.messages["refused"] == 0
