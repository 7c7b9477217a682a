"""Consul's health endpoint, played as its documentation tells, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenflow.discovery.consul import consul, next_index, read
from evenflow.discovery.endpoint import DiscoveryError
from tests.unit.discovery.conftest import CUT, Piece, answer, asking, entry, playing, urls


def instance(number: int, port: int = 8080, **service: Any) -> dict[str, Any]:
    """One instance as `GET /v1/health/service/users` lists it."""
    return {
        "Node": {"Node": f"node-{number}", "Address": f"10.0.0.{number}", "Datacenter": "dc1"},
        "Service": {
            "ID": "users",
            "Service": "users",
            "Address": "",
            "Port": port,
            "Tags": ["v2"],
            "Meta": {"zone": "a"},
            "Weights": {"Passing": 1, "Warning": 1},
            **service,
        },
        "Checks": [{"Status": "passing"}],
    }


async def test_a_change_is_told_by_the_query_that_waits_for_it() -> None:
    changed = asyncio.Event()
    script: list[list[Piece]] = [
        [answer([instance(1)], x_consul_index="7")],
        [changed, answer([instance(1), instance(2)], x_consul_index="9")],
        [asyncio.Event()],
    ]
    async with playing(*script) as server:
        settings = {"service": "users", "url": server.url, "token": "s3cret", "datacenter": "dc1"}
        async with asking(consul, consul={**settings, "tag": "v2"}, every="10s") as following:
            assert urls((await following()).endpoints) == ["http://10.0.0.1:8080"]
            changed.set()
            assert len((await following()).endpoints) == 2
        assert server.targets[0] == "/v1/health/service/users?passing=1&dc=dc1&tag=v2"
        assert "index=7&wait=10000ms" in server.targets[1]
        assert all("X-Consul-Token: s3cret" in head for head in server.heads)


async def test_an_index_that_goes_back_begins_anew() -> None:
    script: list[list[Piece]] = [
        [answer([instance(1)], x_consul_index="70")],
        [answer([instance(2)], x_consul_index="3")],
        [answer([instance(3)], x_consul_index="4")],
    ]
    async with playing(*script) as server:
        fields = {"consul": {"service": "users", "url": server.url}}
        async with asking(consul, **fields) as following:
            for _ in range(3):
                await following()
        assert ["index" in target for target in server.targets] == [False, True, False]


async def test_a_server_without_an_index_is_asked_every_so_often() -> None:
    async with playing([answer([instance(1)])]) as server:
        fields = {"consul": {"service": "users", "url": server.url}, "every": "7s"}
        async with asking(consul, **fields) as following:
            assert (await following()).again_s == 7.0


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([answer(b"Permission denied", "403 Forbidden")], "403: the token is refused"),
        ([answer(b"rpc error", "500 Internal Server Error")], "got 500: rpc error"),
        ([answer(b"<html>")], "not valid JSON"),
        ([answer({})], "expected a list of instances"),
        ([answer([{}])], "expected instances with `Node` and `Service`"),
        (
            [b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n[", CUT],
            "before the answer was complete",
        ),
    ],
)
async def test_what_is_no_answer_is_an_error_in_words(pieces: list[bytes], said: str) -> None:
    async with playing(pieces) as server:
        fields = {"consul": {"service": "users", "url": server.url, "token": "s3cret"}}
        with pytest.raises(Exception, match=said) as failed:
            async with asking(consul, **fields) as following:
                await following()
    assert "s3cret" not in str(failed.value)


def test_instances_keep_weight_place_and_labels() -> None:
    users = entry(consul={"service": "users"})
    heavy = instance(1, Address="192.0.2.7", Weights={"Passing": 3})
    found = read(users, json.dumps([heavy, instance(2, port=0)]).encode())
    (one,) = found.endpoints
    assert (one.id, one.url, one.weight) == ("node-1.users", "http://192.0.2.7:8080", 300)
    assert dict(one.labels) == {"zone": "a", "node": "node-1", "datacenter": "dc1"}
    assert found.notes == ["users on node-2 has no port"]


@given(st.integers(0, 10**12), st.text(max_size=5) | st.integers(-5, 10**12).map(str))
def test_the_index_never_goes_back_but_to_the_beginning(last: int, told: str) -> None:
    index = next_index(last, told)
    assert index == 0 or index >= last


@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(["Node", "Service", "ID", "Port", "Address", "Weights"]), inner
            )
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_content_is_an_answer_or_an_error_in_words(content: bytes) -> None:
    with contextlib.suppress(DiscoveryError):
        read(entry(consul={"service": "users"}), content)
