from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import cast

import pytest

from evenflow.config import Backend, Config, ConfigError, LoadBalancerConfig, expand, read_document
from evenflow.plan import (
    Plan,
    RuntimeState,
    States,
    compile_plan,
    compile_pool_update,
    dump_plan,
    effective_weight,
)
from evenflow.plan.document import CyclePicker


def _plan(config: Config, state: States | None = None) -> Plan:
    return compile_plan(config, revision=1, state=state, admin_socket="/run/admin.sock")


def _three(strategy: str = "round_robin", drained: str = "") -> Config:
    return Config(
        load_balancer=LoadBalancerConfig(strategy=strategy),
        backends=[
            Backend(id=name, url=f"http://10.0.0.{n}", drain=name == drained, labels={"zone": name})
            for n, name in enumerate("abc", 1)
        ],
    )


def _table(plan: Plan) -> list[int]:
    picker = cast(CyclePicker, plan["pools"][0]["picker"])
    return picker["cycle"]["table"]


def test_only_endpoints_in_rotation_are_in_the_table() -> None:
    down = {("default", "a"): RuntimeState(up=False)}
    assert _table(_plan(_three())) == [0, 1, 2]
    assert _table(_plan(_three(), down)) == [1, 2]
    assert _table(_plan(_three(drained="b"), down)) == [2]


def test_while_all_are_down_those_not_draining_are_in_the_table() -> None:
    down = {("default", name): RuntimeState(up=False) for name in "abc"}
    assert _table(_plan(_three(drained="b"), down)) == [0, 2]


def test_slow_start_shows_in_the_table_and_the_weight() -> None:
    plan = _plan(_three("weighted"), {("default", "a"): RuntimeState(ramp=0.1)})
    table = _table(plan)
    assert table.count(0) * 10 == table.count(1) == table.count(2)
    assert [endpoint["weight"] for endpoint in plan["pools"][0]["endpoints"]] == [10, 100, 100]
    assert effective_weight(Backend(url="http://a", weight=1), 0.1) == 1


def test_an_update_of_a_pool_is_the_picker_of_its_plan() -> None:
    config = expand(_three())
    state = {("default", "c"): RuntimeState(up=False)}
    update = compile_pool_update(config.pools[0], state, {})
    pool = _plan(config, state)["pools"][0]
    assert update == {"pool": "default", "picker": pool["picker"], "use_all": False, "panic": None}


def test_a_plan_dumps_as_its_json_however_often_and_whatever_changed() -> None:
    config = _three()
    for state in ({}, {("default", "a"): RuntimeState(up=False)}, {}):
        plan = _plan(config, state)
        assert plan["pools"][0]["endpoints"][0]["up"] == (not state)
        for _ in range(2):
            assert json.loads(dump_plan(plan)) == json.loads(json.dumps(plan))


def test_names_are_connected_to_where_they_resolve() -> None:
    config = Config(backends=[Backend(url="http://app:81"), Backend(url="http://other")])
    for addresses in (["10.0.0.1:81"], ["10.0.0.2:81", "10.0.0.3:81"]):
        plan = compile_plan(
            config, revision=1, addresses={"app:81": addresses}, admin_socket="/run/admin.sock"
        )
        endpoints = plan["pools"][0]["endpoints"]
        assert [endpoint["addresses"] for endpoint in endpoints] == [addresses, []]


def test_own_paths_stand_once_for_all_hosts() -> None:
    config = read_document(
        {
            "backends": [{"url": "http://10.0.0.1"}],
            "routes": [{"name": "a", "match": {"host": "a.example"}, "pool": "default"}],
            "admin": {"expose": ["metrics"]},
        }
    )
    own = [route["match"] for route in _plan(config)["routes"] if route["internal"]]
    assert [(match["host"], match["path"]) for match in own] == [(None, {"prefix": "/metrics"})]


@pytest.mark.parametrize(
    ("document", "groups"),
    [
        ({}, {"health", "metrics", "api", "docs", "debug", "dashboard", "openapi"}),
        ({"admin": {"enabled": False}}, {"health", "metrics"}),
        ({"metrics": {"enabled": False}, "admin": {"enabled": False}}, {"health"}),
        ({"admin": {"expose": False}}, set()),
        ({"admin": {"expose": ["api"]}}, {"api"}),
    ],
)
def test_what_is_exposed_is_configuration(document: dict[str, object], groups: set[str]) -> None:
    plan = _plan(read_document(document))
    own = {route["name"].split("-")[1] for route in plan["routes"] if route["internal"]}
    assert own == groups
    assert ("evenflow-admin" in {pool["name"] for pool in plan["pools"]}) == bool(groups)


OWN = """
from evenflow.strategies import Cycle, Least, cycle

def zone_b(endpoints):
    return cycle([e for e in endpoints if e.labels["zone"] == "b"])

def raises(endpoints):
    raise RuntimeError("no luck")

def nothing(endpoints):
    return None

def outside(endpoints):
    return Cycle([3])

def empty(endpoints):
    return Cycle([])
"""


@pytest.fixture
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_plan_strategies.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_plan_strategies", raising=False)


@pytest.mark.usefixtures("_own")
def test_a_strategy_may_choose_among_the_endpoints() -> None:
    assert _table(_plan(_three("own_plan_strategies:zone_b"))) == [1]


@pytest.mark.usefixtures("_own")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("raises", "no luck"),
        ("nothing", "expected Cycle, Hash or Least"),
        ("outside", "outside 0 to 2"),
        ("empty", "table is empty"),
        ("missing", "cannot import"),
    ],
)
def test_a_strategy_that_fails_is_a_problem_of_its_configuration(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        _plan(_three(f"own_plan_strategies:{name}"))
    assert caught.value.errors[0].path == "load_balancer.strategy"
