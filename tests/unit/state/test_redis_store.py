"""The Redis store against real servers: who may write, what survives, what is taken back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from evenflow.config import RedisServer, Secret
from evenflow.state import RedisPolicy, RedisStore, Revision, StateError, StoredRevision
from evenflow.testing.authority import Authority

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Redis, RedisServers

QUICK = RedisPolicy(lease_s=1.0)


def entry(revision: int) -> StoredRevision:
    head = Revision(revision, 1_700_000_000.5, "api", (f"change {revision}",))
    return StoredRevision(head, {"number": revision})


def store_on(
    redis: Redis, folder: Path, identity: str = "a", policy: RedisPolicy = QUICK
) -> RedisStore:
    server = RedisServer(url=redis.url, timeout=5.0)
    return RedisStore(server, folder / identity, identity=identity, policy=policy)


async def test_what_was_acknowledged_survives_both_being_killed(
    redis_servers: RedisServers, tmp_path: Path
) -> None:
    redis = redis_servers.start(durable=True)
    first = store_on(redis, tmp_path)
    await first.open()
    await first.save(entry(7), base={"b": 1})
    redis.kill()
    redis.start()
    # As after a crash: nothing was given back, and the lease is still there.
    first._token = ""
    await first.close()
    second = store_on(redis, tmp_path)
    await second.open()
    assert await second.latest() == entry(7)
    assert await second.base() == {"b": 1}
    assert list(await second.history()) == [entry(7).head]
    await second.close()


async def test_a_second_balancer_is_refused_with_the_name_of_the_first(
    redis_servers: RedisServers, tmp_path: Path
) -> None:
    redis = redis_servers.start()
    first, second = store_on(redis, tmp_path), store_on(redis, tmp_path, "b")
    await first.open()
    with pytest.raises(StateError, match=r"another balancer \(a on .*, process .* `state\.prefix`"):
        await second.open()
    await first.save(entry(1))
    await first.close()
    await second.open()
    assert await second.latest() == entry(1)
    await second.close()


async def test_a_lease_that_nobody_renews_goes_to_who_waits_and_shuts_its_holder_out(
    redis_servers: RedisServers, tmp_path: Path
) -> None:
    redis = redis_servers.start()
    first, second = store_on(redis, tmp_path), store_on(redis, tmp_path, "b")
    await first.open()
    await first.save(entry(1))
    # A process that hangs renews nothing, and may come back at any time.
    assert first._renewing is not None
    first._renewing.cancel()
    await second.open()
    with pytest.raises(StateError, match=r"another balancer \(b on .* has taken this state over"):
        await first.save(entry(2))
    assert await second.latest() == entry(1)
    await second.save(entry(2))
    with pytest.raises(StateError, match="taken this state over"):
        await first.save_base({})
    await first.close()
    await second.save(entry(3))
    await second.close()


async def test_two_prefixes_are_two_states(redis_servers: RedisServers, tmp_path: Path) -> None:
    redis = redis_servers.start()
    stores = [
        RedisStore(RedisServer(url=redis.url, prefix=name), tmp_path / name, identity=name)
        for name in ("one", "two")
    ]
    for number, store in enumerate(stores, 1):
        await store.open()
        await store.save(entry(number))
    assert [await store.latest() for store in stores] == [entry(1), entry(2)]
    for store in stores:
        await store.close()


async def test_a_change_is_refused_while_the_server_is_away_and_kept_when_it_is_back(
    redis_servers: RedisServers, tmp_path: Path
) -> None:
    redis = redis_servers.start(durable=True)
    store = store_on(redis, tmp_path)
    await store.open()
    await store.save(entry(1), base={"b": 1})
    redis.kill()
    with pytest.raises(StateError, match=redis.address):
        await store.save(entry(2), base={"b": 2})
    redis.start()
    await store.save(entry(2))
    assert await store.latest() == entry(2)
    assert await store.base() == {"b": 1}
    await store.close()


async def test_what_was_not_acknowledged_is_taken_back(
    redis_servers: RedisServers, tmp_path: Path
) -> None:
    redis = redis_servers.start()
    store = store_on(redis, tmp_path, policy=RedisPolicy(lease_s=1.0, wait_replicas=1))
    await store.open()
    # The server has it, but there is no replica that could have it too.
    with pytest.raises(StateError, match="0 of 1 replicas have it"):
        await store.save(entry(1), base={"b": 1})
    assert await store.latest() == entry(1)
    async with asyncio.timeout(10):
        while await store.latest() is not None:
            await asyncio.sleep(0.05)
    assert await store.base() is None
    await store.close()


async def test_a_change_that_a_replica_has_too_is_acknowledged(
    redis_servers: RedisServers, tmp_path: Path
) -> None:
    primary = redis_servers.start()
    replica = redis_servers.start("--replicaof", "127.0.0.1", str(primary.port))
    store = store_on(primary, tmp_path, policy=RedisPolicy(lease_s=5.0, wait_replicas=1))
    await store.open()
    async with asyncio.timeout(20):
        while "master_link_status:up" not in replica.cli("info", "replication"):
            await asyncio.sleep(0.1)
    await store.save(entry(1))
    assert replica.cli("hget", "evenflow:state:heads", "1").startswith("[1,")
    with pytest.raises(StateError, match="read only replica"):
        await store_on(replica, tmp_path / "other").open()
    await store.close()


async def test_a_server_that_forgot_everything_gets_the_newest_revision_again(
    redis_servers: RedisServers, tmp_path: Path
) -> None:
    redis = redis_servers.start()
    store = store_on(redis, tmp_path)
    await store.open()
    await store.save(entry(1), base={"b": 1})
    await store.save(entry(2))
    await store.keep("held", {"h": 1})
    redis.kill()
    redis.start()
    await store.save_base({"b": 2})
    assert await store.latest() == entry(2)
    assert await store.base() == {"b": 2}
    redis.cli("flushall")
    async with asyncio.timeout(10):
        while await store.latest() != entry(2):
            await asyncio.sleep(0.05)
    assert await store.kept("held") == {"h": 1}
    await store.close()


async def test_it_works_with_tls_and_a_password_and_tells_what_is_wrong_without(
    redis_servers: RedisServers, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("127.0.0.1", file="server")
    tls = (pair.cert, pair.key, authority.ca)
    redis = redis_servers.start(password="s3cret-for-tests", tls=tls)
    plain = f"rediss://{redis.address}"
    ca = str(authority.ca)

    async def opened(server: RedisServer) -> None:
        store = RedisStore(server, tmp_path / "state", identity="a")
        await store.open()
        await store.save(entry(1))
        assert await store.latest() == entry(1)
        await store.close()

    await opened(RedisServer(url=redis.url, ca_file=ca))
    await opened(RedisServer(url=plain, ca_file=ca, password=Secret("s3cret-for-tests")))
    wrong = {
        "certificate verify failed": RedisServer(url=redis.url),
        "No such file": RedisServer(url=redis.url, ca_file="/nonexistent/ca.pem"),
        "Authentication required": RedisServer(url=plain, ca_file=ca),
        "invalid username-password pair": RedisServer(
            url=plain, ca_file=ca, password=Secret("wr0ng")
        ),
    }
    for text, server in wrong.items():
        with pytest.raises(StateError, match=text) as refused:
            await opened(server)
        assert plain in str(refused.value)
        assert "s3cret" not in str(refused.value)
        assert "wr0ng" not in str(refused.value)


async def test_a_layout_of_a_newer_version_is_refused_and_left_alone(
    redis_servers: RedisServers, tmp_path: Path
) -> None:
    redis = redis_servers.start()
    redis.cli("hset", "evenflow:state:meta", "schema", "99")
    with pytest.raises(StateError, match="newer evenflow"):
        await store_on(redis, tmp_path).open()
    assert redis.cli("keys", "*") == "evenflow:state:meta"


async def test_one_folder_serves_one_balancer(redis_servers: RedisServers, tmp_path: Path) -> None:
    redis = redis_servers.start()
    first, second = store_on(redis, tmp_path), store_on(redis, tmp_path)
    await first.open()
    with pytest.raises(StateError, match=r"give this one another `state\.path`"):
        await second.open()
    await first.close()
