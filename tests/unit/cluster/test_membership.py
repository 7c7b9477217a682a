"""Nodes' signs of life over a real server: names, ages, and two nodes that have one name."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from evenflow.cluster.membership import Membership
from evenflow.config import RedisServer, read_document
from evenflow.controller import Controller
from evenflow.redis_client import connect
from evenflow.state import MemoryStore
from evenflow.testing.fake_engine import FakeEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.servers import RedisServers


@asynccontextmanager
async def member(name: str) -> AsyncIterator[Membership]:
    controller = Controller(FakeEngine(), MemoryStore(), admin_socket="/run/admin.sock")
    await controller.start(read_document({"backends": [{"url": "http://10.0.0.1:80"}]}))
    membership = Membership(controller)
    membership.begin(name)
    yield membership
    await controller.close()


async def test_nodes_learn_of_each_other_and_of_one_secret(redis_servers: RedisServers) -> None:
    redis = redis_servers.start()
    async with (
        connect(RedisServer(url=redis.url)) as client,
        member("a") as a,
        member("b") as b,
    ):
        own = b.seed
        await a.beat(client, "p")
        await b.beat(client, "p")
        assert b.seed == a.seed != own
        assert [node.name for node in b.nodes()] == ["a", "b"]
        assert [node.name for node in a.nodes()] == ["a"], "it did not ask since"
        await b.leave(client, "p")
        await a.beat(client, "p")
        assert [node.name for node in a.nodes()] == ["a"]
        # A server that lost what it knew gets the secret back from whoever comes first.
        redis.cli("flushall")
        await b.beat(client, "p")
        assert b.seed == a.seed


async def test_two_nodes_of_one_name_are_told(redis_servers: RedisServers) -> None:
    redis = redis_servers.start()
    async with (
        connect(RedisServer(url=redis.url)) as client,
        member("same") as one,
        member("same") as two,
    ):
        for membership in (one, two, one):
            await membership.beat(client, "p")
        assert one.conflict is not None
        # A node that comes back after a crash finds its own record, which is no conflict.
        assert two.conflict is None
        # Who leaves does not take the other's record along.
        await two.leave(client, "p")
        assert redis.cli("hlen", "p:cluster:nodes") == "1"


@pytest.mark.parametrize("record", ["", "x", "[]", "{}", '{"instance": 1}'])
async def test_a_record_that_nobody_understands_is_passed_over(
    redis_servers: RedisServers, record: str
) -> None:
    redis = redis_servers.start()
    redis.cli("hset", "p:cluster:nodes", "strange", record)
    redis.cli("zadd", "p:cluster:seen", "9999999999999", "strange")
    async with connect(RedisServer(url=redis.url)) as client, member("a") as a:
        await a.beat(client, "p")
        assert [node.name for node in a.nodes()] == ["a"]
