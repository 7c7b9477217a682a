"""State stores: all keep the same promises; SQLite keeps them over a restart."""

from __future__ import annotations

import json
import sqlite3
import stat
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from evenflow.config import RedisServer
from evenflow.state import (
    MemoryStore,
    RedisPolicy,
    RedisStore,
    Revision,
    SqliteStore,
    StateError,
    StateStore,
    StoredRevision,
)

if TYPE_CHECKING:
    from tests.servers import RedisServers


def entry(revision: int, **document: Any) -> StoredRevision:
    head = Revision(revision, 1_700_000_000.5 + revision, "api", (f"change {revision}",))
    return StoredRevision(head, document or {"number": revision})


@pytest.fixture(params=["memory", "sqlite", "redis"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StateStore]:
    made: StateStore
    match request.param:
        case "memory":
            made = MemoryStore(history_limit=5)
        case "sqlite":
            made = SqliteStore(tmp_path / "state", history_limit=5)
        case _:
            servers: RedisServers = request.getfixturevalue("redis_servers")
            server = RedisServer(url=servers.start().url)
            policy = RedisPolicy(history_limit=5)
            made = RedisStore(server, tmp_path / "state", identity="a", policy=policy)
    await made.open()
    yield made
    await made.close()


async def test_a_new_store_knows_nothing(store: StateStore) -> None:
    assert await store.latest() is None
    assert await store.base() is None
    assert await store.history() == []
    assert await store.load(1) is None


async def test_the_latest_revision_is_the_one_with_the_highest_number(store: StateStore) -> None:
    await store.save(entry(1, name="ä", secret="x"), base={"from": "file"})
    await store.save(entry(2))
    latest = await store.latest()
    assert latest == entry(2)
    assert await store.load(1) == entry(1, name="ä", secret="x")
    assert await store.base() == {"from": "file"}
    assert list(await store.history()) == [entry(2).head, entry(1).head]


async def test_a_base_can_change_alone(store: StateStore) -> None:
    await store.save(entry(1), base={"a": 1})
    await store.save_base({"a": 2})
    assert await store.base() == {"a": 2}
    assert len(await store.history()) == 1


async def test_documents_are_kept_by_name_beside_the_base(store: StateStore) -> None:
    assert await store.kept("base") is None
    await store.save_base({"a": 1})
    await store.keep("base", {"b": 1})
    await store.keep("other", {"c": 1})
    await store.keep("other", {"c": 2})
    assert [await store.kept(name) for name in ("base", "other")] == [{"b": 1}, {"c": 2}]
    assert await store.base() == {"a": 1}


async def test_old_revisions_are_forgotten(store: StateStore) -> None:
    for revision in range(1, 9):
        await store.save(entry(revision))
    assert [head.revision for head in await store.history()] == [8, 7, 6, 5, 4]
    assert await store.load(3) is None


async def test_closing_twice_is_harmless(store: StateStore) -> None:
    await store.close()
    await store.close()


async def test_sqlite_remembers_over_a_restart(tmp_path: Path) -> None:
    first = SqliteStore(tmp_path)
    await first.open()
    await first.save(entry(7), base={"b": 1})
    await first.close()
    second = SqliteStore(tmp_path)
    await second.open()
    assert await second.latest() == entry(7)
    assert await second.base() == {"b": 1}
    await second.close()


async def test_sqlite_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "deep" / "state")
    await store.open()
    await store.save(entry(1, token="s3cret"))
    for path in [store.path.parent, *store.path.parent.iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    await store.close()


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    store.path.write_text("not a database " * 100)
    with pytest.raises(StateError, match=r"evenflow\.sqlite3"):
        await store.open()
    assert store.path.read_text().startswith("not a database")


async def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    connection = sqlite3.connect(store.path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StateError, match="newer evenflow"):
        await store.open()


async def test_a_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError):
        await SqliteStore(tmp_path / "file" / "state").open()


async def test_a_store_that_is_not_open_says_so(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="not open"):
        await SqliteStore(tmp_path).latest()


async def test_ten_thousand_backends_are_kept_quickly(tmp_path: Path) -> None:
    backends = [
        {"id": f"backend-{n}", "url": f"http://10.0.{n >> 8}.{n & 255}:8080", "weight": 100}
        for n in range(10_000)
    ]
    store = SqliteStore(tmp_path)
    await store.open()
    best = 1.0
    for revision in range(1, 6):
        began = time.perf_counter()
        await store.save(entry(revision, backends=backends))
        best = min(best, time.perf_counter() - began)
    await store.close()
    assert best < 0.2, f"{best * 1000:.0f} ms"


async def test_two_balancers_do_not_share_a_directory(tmp_path: Path) -> None:
    first, second = SqliteStore(tmp_path), SqliteStore(tmp_path)
    await first.open()
    with pytest.raises(StateError, match=r"another balancer .* keeps its state here"):
        await second.open()
    await first.close()
    await second.open()
    await second.close()


async def test_a_small_change_of_a_large_document_is_a_small_write(tmp_path: Path) -> None:
    backends = [{"id": f"b{n}", "url": f"http://10.0.{n >> 8}.{n & 255}"} for n in range(10_000)]
    store = SqliteStore(tmp_path)
    await store.open()
    await store.save(entry(1, backends=backends))
    more = [*backends[:5000], {"id": "new", "url": "http://a"}, *backends[5000:]]
    await store.save(entry(2, backends=more))
    pools = [{"name": "p", "backends": more}, {"name": "q", "backends": [{"id": "x"}]}]
    await store.save(entry(3, pools=pools))
    changed = [*more[:17], {**more[17], "weight": 5}, *more[18:]]
    await store.save(entry(4, pools=[{**pools[0], "backends": changed}, pools[1]]))
    await store.close()
    connection = sqlite3.connect(store.path)
    sizes = dict(connection.execute("SELECT revision, length(document) FROM revisions"))
    connection.close()
    assert sizes[1] > 30_000
    assert sizes[2] < 200
    assert sizes[4] < 200
    await store.open()
    for revision, document in ((1, {"backends": backends}), (2, {"backends": more})):
        assert await store.load(revision) == entry(revision, **document)
    latest = await store.latest()
    assert latest is not None
    assert latest.document["pools"][0]["backends"] == changed
    await store.close()


async def test_a_file_of_the_version_before_is_opened_and_gone_on_with(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    connection = sqlite3.connect(store.path)
    connection.executescript(
        """
        CREATE TABLE revisions (
            revision INTEGER PRIMARY KEY, created_at REAL NOT NULL, source TEXT NOT NULL,
            changes TEXT NOT NULL, document BLOB NOT NULL
        ) STRICT;
        CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
        PRAGMA user_version = 1;
        """
    )
    old = entry(3, name="old")
    head, packed = old.head, zlib.compress(json.dumps(old.document).encode())
    row = (head.revision, head.created_at, head.source, json.dumps(head.changes), packed)
    connection.execute("INSERT INTO revisions VALUES (?, ?, ?, ?, ?)", row)
    connection.commit()
    connection.close()
    await store.open()
    assert await store.latest() == old
    await store.save(entry(4, name="new"))
    await store.save(entry(5, name="newer"))
    assert [await store.load(n) for n in (3, 4, 5)] == [
        old,
        entry(4, name="new"),
        entry(5, name="newer"),
    ]
    await store.close()


async def test_a_revision_whose_ground_is_missing_is_an_error(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    await store.open()
    await store.save(entry(1, a=1, b=2))
    await store.save(entry(2, a=1, b=3))
    await store.close()
    connection = sqlite3.connect(store.path)
    connection.execute("DELETE FROM revisions WHERE revision = 1")
    connection.commit()
    connection.close()
    await store.open()
    with pytest.raises(StateError, match="builds on one that is not there"):
        await store.latest()
    await store.save(entry(3, a=4))
    assert await store.latest() == entry(3, a=4)
    await store.close()


WRITER = """
import asyncio, sys
from evenflow.state import Revision, SqliteStore, StoredRevision

async def main():
    store = SqliteStore(sys.argv[1], whole_every=4)
    await store.open()
    members = [{"id": n} for n in range(500)]
    for revision in range(1, 10_000):
        members = [*members, {"id": 500 + revision}]
        await store.save(StoredRevision(Revision(revision, 0.0, "api", ()), {"members": members}))
        print(revision, flush=True)

asyncio.run(main())
"""


async def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while (line := process.stdout.readline()) and int(line) < 23:
            pass
        process.kill()
        acknowledged = int(line)
    store = SqliteStore(tmp_path)
    await store.open()
    latest = await store.latest()
    assert latest is not None
    assert latest.head.revision >= acknowledged
    for head in await store.history():
        kept = await store.load(head.revision)
        assert kept is not None
        expected = [*range(500), *range(501, 501 + head.revision)]
        assert [each["id"] for each in kept.document["members"]] == expected
    await store.close()
