"""Answers become backends: checked as these are, and the same objects while nothing changed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenflow.config.types import parse_name
from evenflow.discovery.endpoint import (
    Answer,
    DiscoveryError,
    Endpoint,
    address_id,
    plain_id,
    take,
)
from tests.unit.discovery.conftest import entry

DNS = entry(dns="users.internal:8080", labels={"from": "dns", "zone": "z"}, weight=7)


def endpoint(number: int, **fields: Any) -> Endpoint:
    return Endpoint(f"e{number}", f"http://10.0.0.{number}:80", **fields)


def test_an_endpoint_gets_what_the_entry_says_of_all() -> None:
    (taken,) = take(DNS, Answer([endpoint(1, labels={"zone": "a"})]), {}).values()
    assert taken[1].weight == 7
    assert taken[1].labels == {"from": "dns", "zone": "a"}


def test_what_did_not_change_is_the_very_same_object() -> None:
    first = take(DNS, Answer([endpoint(1), endpoint(2)]), {})
    again = take(DNS, Answer([endpoint(2), endpoint(1, weight=9), endpoint(3)]), first)
    assert again["e2"][1] is first["e2"][1]
    assert again["e1"][1] is not first["e1"][1]
    assert list(again) == ["e2", "e1", "e3"]


@given(st.lists(st.integers(1, 30)), st.lists(st.integers(1, 30)))
def test_a_set_taken_after_another_is_as_if_it_were_the_first(
    old: list[int], new: list[int]
) -> None:
    before = take(DNS, Answer([endpoint(n) for n in old]), {})
    after = take(DNS, Answer([endpoint(n) for n in new]), before)
    alone = take(DNS, Answer([endpoint(n) for n in new]), {})
    assert after == alone
    assert list(after) == list(alone) == [f"e{n}" for n in dict.fromkeys(new)]
    for id in after.keys() & before.keys():
        assert after[id][1] is before[id][1]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Endpoint("a", "http://10.0.0.1:0"), "endpoint 'a': url: "),
        (Endpoint("a b", "http://10.0.0.1"), "id: expected a name"),
        (Endpoint("a", "tcp://10.0.0.1:1"), "expected http:// as `scheme` says"),
        (Endpoint("a", "http://10.0.0.1", weight=0), "weight: "),
        (Endpoint("a", "http://10.0.0.1", settings={"nope": 1}), "nope: unknown key"),
        (Endpoint("", "http://10.0.0.1"), "has no id"),
    ],
)
def test_what_no_pool_can_have_is_refused_with_its_place(wrong: Endpoint, said: str) -> None:
    with pytest.raises(DiscoveryError) as refused:
        take(DNS, Answer([endpoint(1), wrong]), {})
    assert said in str(refused.value)


def test_more_than_max_endpoints_are_refused() -> None:
    few = entry(file="x", max_endpoints=2)
    take(few, Answer([endpoint(1), endpoint(2)]), {})
    with pytest.raises(DiscoveryError, match="3 endpoints are more than max_endpoints, 2"):
        take(few, Answer([endpoint(1), endpoint(2), endpoint(3)]), {})


def test_a_list_over_http_names_no_unix_sockets() -> None:
    socket = Endpoint("s", "unix:/run/x.sock")
    assert take(entry(file="x"), Answer([socket]), {})
    with pytest.raises(DiscoveryError, match="Unix sockets"):
        take(entry(http="http://registry.internal/x"), Answer([socket]), {})


def test_a_list_over_http_reads_no_secrets_of_this_machine() -> None:
    check = {"kind": "redis", "password": "file:/etc/hostname"}
    asks = Endpoint("e", "redis://10.0.0.1", settings={"health_check": check})
    with pytest.raises(DiscoveryError, match="nor have `health_check`"):
        take(entry(http="http://registry.internal/x", scheme="redis"), Answer([asks]), {})


@given(st.text())
def test_any_name_becomes_an_id_or_nothing(text: str) -> None:
    if made := plain_id(text):
        assert parse_name(made) == made


@given(st.ip_addresses(), st.integers(1, 65535))
def test_an_address_is_an_id(address: Any, port: int) -> None:
    id = address_id(str(address), port)
    assert parse_name(id) == id
