"""Delays of hedged routes that are learnt."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenflow.config import Config, ConfigError, expand, read_document
from evenflow.controller import hedging
from evenflow.controller.hedging import HedgeDelays, quantile
from evenflow.engine import Plan
from evenflow.plan import compile_plan
from evenflow.testing.fake_engine import BOUNDS_S, FakeEngine


@given(
    st.lists(st.integers(0, 1000), min_size=len(BOUNDS_S) + 1, max_size=len(BOUNDS_S) + 1).filter(
        any
    ),
    st.floats(0.01, 0.999),
)
def test_a_quantile_lies_in_its_bucket(counts: list[int], share: float) -> None:
    found = quantile(counts, BOUNDS_S, share)
    wanted = share * sum(counts)
    bucket = next(at for at, total in enumerate(accumulate(counts)) if total >= wanted)
    low = BOUNDS_S[bucket - 1] if bucket else 0.0
    high = BOUNDS_S[bucket] if bucket < len(BOUNDS_S) else BOUNDS_S[-1]
    assert low - 1e-9 <= found <= high + 1e-9


@given(st.lists(st.integers(0, 9), min_size=6, max_size=6).filter(any))
def test_a_higher_share_takes_no_less_time(counts: list[int]) -> None:
    found = [quantile(counts, BOUNDS_S, share / 20) for share in range(1, 20)]
    assert found == sorted(found)


def config(after: object, backends: int = 2, **more: object) -> Config:
    members = [{"id": f"b{n}", "url": f"http://192.0.2.1:{n + 1}"} for n in range(backends)]
    route = {"name": "app", "pool": "app", "hedge": {"after": after, **more}}
    return expand(
        read_document({"pools": [{"name": "app", "backends": members}], "routes": [route]})
    )


def plan_of(config: Config) -> Plan:
    return compile_plan(config, revision=1, admin_socket="/run/admin.sock")


def answer(engine: FakeEngine, count: int, bucket: int = 2, id: str = "b0") -> None:
    engine.endpoint("app", id).first_byte[bucket] += count


def test_a_percentile_is_learnt_once_enough_answers_came(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    monkeypatch.setattr(hedging, "monotonic", lambda: clock)
    engine = FakeEngine()
    wanted = config("p90")
    engine.apply(plan_of(wanted))
    delays = HedgeDelays(engine)
    delays.follow(wanted)
    delays.learn()
    answer(engine, 60)
    delays.learn()
    assert delays.delays == {}
    answer(engine, 60, id="b1")
    delays.learn()
    # A bucket from 10 ms to 100 ms, all answers in it.
    assert delays.delays == {"app": pytest.approx(0.091)}
    assert engine.hedge_updates == [{"route": "app", "after_ms": 91}]
    clock = 30.0
    answer(engine, 1000, bucket=3)
    delays.learn()
    assert delays.delays["app"] > 0.8
    # Long afterwards only what came since counts.
    for clock in (95.0, 100.0, 120.0, 200.0):  # noqa: B007 - read by the clock above
        answer(engine, 500)
        delays.learn()
    assert delays.delays["app"] == pytest.approx(0.091)
    told = len(engine.hedge_updates)
    delays.learn()
    assert len(engine.hedge_updates) == told
    # A plan that comes into force has none; it is told again.
    delays.follow(wanted)
    assert len(engine.hedge_updates) == told + 1
    engine.close()


def test_other_backends_are_learnt_anew() -> None:
    engine = FakeEngine()
    wanted = config("p50")
    engine.apply(plan_of(wanted))
    delays = HedgeDelays(engine)
    delays.follow(wanted)
    delays.learn()
    answer(engine, 200)
    delays.learn()
    assert "app" in delays.delays
    # With other members what is known holds until they are known.
    more = config("p50", backends=3)
    engine.apply(plan_of(more))
    delays.follow(more)
    assert "app" in delays.delays
    assert len(engine.hedge_updates) == 2
    delays.follow(config("70ms"))
    assert delays.delays == {"app": 0.07}
    delays.follow(config("p50", max=0))
    assert delays.delays == {}
    engine.close()


def test_some_backends_stand_for_a_large_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine()
    wanted = config("p50", backends=1000)
    engine.apply(plan_of(wanted))
    asked: list[str] = []
    inner = engine.endpoint_snapshot

    def noting(pool: str, id: str) -> Any:
        asked.append(id)
        return inner(pool, id)

    monkeypatch.setattr(engine, "endpoint_snapshot", noting)
    delays = HedgeDelays(engine)
    delays.follow(wanted)
    assert 16 <= len(asked) <= hedging.ASKED
    assert len(set(asked)) == len(asked)
    engine.close()


def test_the_plan_waits_for_a_percentile_to_be_known() -> None:
    routes = [plan_of(config(after))["routes"][0]["hedge"] for after in ("p95", "50ms", 2)]
    assert [route and route["after_ms"] for route in routes] == [0, 50, 2000]
    assert config("p95").routes[0].model_dump(mode="json")["hedge"]["after"] == "p95"
    assert config("50ms").routes[0].model_dump(mode="json")["hedge"]["after"] == "50ms"


@pytest.mark.parametrize("after", ["p", "p100", "95p", "p-5", "often", "0s", "2h"])
def test_what_is_neither_time_nor_percentile_is_refused(after: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config(after)
    assert {problem.path for problem in refused.value.errors} == {"routes[0].hedge.after"}
