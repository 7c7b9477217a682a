"""A state store in a Redis or Valkey server.

A save is one script inside the server, and is acknowledged once the server has confirmed it (and,
where asked for, replicas have): what was acknowledged is as safe as the server keeps it, which with
`appendonly yes` and `appendfsync always` means on disk. A save whose confirmation did not come is
taken back as soon as the server answers again.

One balancer at a time writes under a prefix: it holds a lease, which it renews, and names its token
with every write. A balancer whose lease another one took writes nothing any more and says why,
while its traffic goes on. A state folder stays in use for what is not the configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import secrets
import socket
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import structlog

from evenflow.config import RedisServer
from evenflow.controller.store import (
    HISTORY_LIMIT,
    Document,
    Revision,
    StateError,
    StoredRevision,
)
from evenflow.controller.tasks import OwnedTasks
from evenflow.redis_client import ServerError, connect, raw, talking
from evenflow.state import redis_scripts as scripts
from evenflow.state.lock import take_lock
from evenflow.state.packed import pack, unpack

if TYPE_CHECKING:
    from redis.asyncio import Redis

SCHEMA_VERSION: Final = 1
_RENEWALS: Final = 3
"""Times that a lease is renewed before it would end."""
_LOOK_AGAIN_S: Final = 0.2
_CLOSE_TIMEOUT_S: Final = 5.0

_log = structlog.get_logger("evenflow.state")


@dataclass(frozen=True, slots=True)
class _Packed:
    """A revision as the server keeps it."""

    revision: int
    head: bytes
    document: bytes


@dataclass(frozen=True, slots=True)
class RedisPolicy:
    """How a server is used."""

    lease_s: float = 10.0
    wait_replicas: int = 0
    history_limit: int = HISTORY_LIMIT


class RedisStore:
    """Keeps revisions and the base document on `server`, and a lock in `folder`.

    `identity` is this balancer's own over restarts: on the same host it takes its lease back at
    once, where any other one has to wait for its end.
    """

    def __init__(
        self,
        server: RedisServer,
        folder: Path | str,
        *,
        identity: str,
        policy: RedisPolicy | None = None,
    ) -> None:
        self._server = server
        self._folder = Path(folder)
        # A folder that was copied to another host makes no second self of this one.
        self._identity = f"{identity} on {socket.gethostname()}"
        self._policy = policy or RedisPolicy()
        self._who = f"{self._identity}, process {os.getpid()}"
        self._lock: int | None = None
        self._client: Redis | None = None
        self._token = ""
        self._tasks = OwnedTasks()
        self._renewing: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._lost = ""
        """Why nothing may be written any more."""
        self._away = False
        self._doubtful = False
        """Whether the server may hold what was not acknowledged."""
        self._newest: _Packed | None = None
        self._base: bytes = b""
        self._kept: dict[str, bytes] = {}

    async def open(self) -> None:
        """Connect and take the lease; waits for the end of one that nobody renews."""
        if self._client is not None:
            return
        try:
            self._lock = await asyncio.to_thread(take_lock, self._folder)
            with self._errors():
                self._client = connect(self._server)
            await self._take_lease()
            self._newest, self._base = await self._read_newest(), await self._read_base()
            self._kept = await self._read_kept()
        except BaseException as error:
            await self.close()
            if isinstance(error, OSError):
                raise StateError(f"{self._folder}: {error}") from error
            raise
        self._renewing = self._tasks.loop_forever(self._keep_renewing(), "state lease")

    async def save(self, entry: StoredRevision, *, base: Document | None = None) -> None:
        """Keep a revision and, where given, a new base document, both or neither."""
        head = entry.head
        text = json.dumps([head.revision, head.created_at, head.source, head.changes])
        document, packed_base = await asyncio.to_thread(
            lambda: (pack(entry.document), b"" if base is None else pack(base))
        )
        await self._save(_Packed(head.revision, text.encode(), document), packed_base)

    async def save_base(self, base: Document) -> None:
        """Keep a new base document alone."""
        await self._save(None, await asyncio.to_thread(pack, base))

    async def keep(self, name: str, document: Document) -> None:
        """Keep a document beside the revisions, in place of an earlier one of this name."""
        await self._save(None, b"", (name, await asyncio.to_thread(pack, document)))

    async def latest(self) -> StoredRevision | None:
        """The newest revision."""
        found = await self._read_newest()
        return None if found is None else StoredRevision(_head(found.head), unpack(found.document))

    async def load(self, revision: int) -> StoredRevision | None:
        """One revision, unless it was never kept or is forgotten."""
        found = await self._read(revision)
        return None if found is None else StoredRevision(_head(found.head), unpack(found.document))

    async def history(self) -> Sequence[Revision]:
        """All kept revisions, newest first."""
        async with self._talking() as client:
            texts = await client.hvals(self._key("heads"))
        return sorted(
            (_head(raw(text)) for text in texts), key=lambda head: head.revision, reverse=True
        )

    async def base(self) -> Document | None:
        """The base document last kept."""
        found = await self._read_base()
        return unpack(found) if found else None

    async def kept(self, name: str) -> Document | None:
        """The document of this name last kept."""
        found = (await self._read_kept()).get(name)
        return None if found is None else unpack(found)

    async def close(self) -> None:
        """Give the lease back; closing twice is harmless."""
        await self._tasks.close(_CLOSE_TIMEOUT_S)
        client, self._client = self._client, None
        if client is not None:
            # Whoever comes next waits a little longer where this cannot be told.
            with contextlib.suppress(ServerError), talking(self._server):
                if self._token:
                    await client.eval(scripts.RELEASE, 6, *self._keys(), self._token)
            with contextlib.suppress(ServerError), talking(self._server):
                await client.aclose()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # The lease.

    async def _take_lease(self) -> None:
        policy, before = self._policy, math.inf
        lease_ms, random = round(policy.lease_s * 1000), secrets.token_hex(8)
        values = (self._identity, random, self._who, lease_ms, SCHEMA_VERSION)
        while True:
            async with self._talking() as client:
                said = _texts(await client.eval(scripts.TAKE, 6, *self._keys(), *values))
            kind, what = said[0], said[1]
            if kind == "taken":
                self._token = what
                return
            if kind == "newer":
                raise StateError(
                    f"{self._place}: written by a newer evenflow (layout {what}, this one knows "
                    f"{SCHEMA_VERSION})"
                )
            left = float(said[2])
            # Its end is near, unless whoever has it is alive and renews it.
            if left > before:
                raise StateError(
                    f"{self._place}: another balancer ({what}) keeps its state here; give this one "
                    "another `state.prefix`"
                )
            if before == math.inf:
                _log.info("waiting for the lease of another balancer", holder=what)
            before = left
            await asyncio.sleep(min(_LOOK_AGAIN_S, before / 1000 + 0.01))

    async def _keep_renewing(self) -> None:
        while not self._lost:
            await asyncio.sleep(self._policy.lease_s / _RENEWALS)
            try:
                async with self._turn:
                    await self._renew()
            except StateError as error:
                self._note_away(error)
            else:
                if self._away:
                    self._away = False
                    _log.info("state store back", server=self._place)

    def _note_away(self, error: StateError) -> None:
        if not self._lost and not self._away:
            self._away = True
            _log.warning("state store away: changes are refused", reason=str(error))

    async def _renew(self) -> None:
        """Renew the lease, and put in order what the server should hold; raises StateError."""
        number = self._token.partition(":")[0]
        lease_ms = round(self._policy.lease_s * 1000)
        values = (number, self._identity, self._who, lease_ms, SCHEMA_VERSION)
        state = await self._run(scripts.RENEW, *values)
        if state == "forgot":
            _log.warning("state store lost what it knew; it gets the newest revision again")
        if state == "forgot" or self._doubtful:
            newest = self._newest
            revision = (newest.revision, newest.head, newest.document) if newest else ("", "", "")
            beside = [part for pair in self._kept.items() for part in pair]
            await self._run(scripts.RESTORE, *revision, self._base, *beside)
            self._doubtful = False

    async def _run(self, script: str, *values: Any) -> str:
        """Run a script that names the token; StateError where that is no longer the last one."""
        if self._lost:
            raise StateError(self._lost)
        async with self._talking() as client:
            said = _texts(await client.eval(script, 6, *self._keys(), self._token, *values))
        return self._judged(said)

    def _judged(self, said: list[str]) -> str:
        if said[0] == "lost":
            self._lose(said[1])
        return said[0]

    def _lose(self, who: str) -> NoReturn:
        self._lost = (
            f"{self._place}: another balancer ({who}) has taken this state over, so no change can be "
            "kept here any more; stop one of the two, then restart this one"
        )
        _log.error("state taken over by another balancer", reason=self._lost)
        raise StateError(self._lost)

    # Reading and writing.

    async def _save(
        self, entry: _Packed | None, base: bytes, beside: tuple[str, bytes] | None = None
    ) -> None:
        wanted = self._policy.wait_replicas
        values: tuple[Any, ...] = ("", "", "")
        if entry is not None:
            values = (entry.revision, entry.head, entry.document)
        values = (*values, base, *(beside or ("", b"")))
        async with self._turn:
            await self._renew()
            # Until the confirmation is here nobody knows what the server has.
            self._doubtful = True
            async with self._talking() as client, client.pipeline(transaction=False) as both:
                limit = self._policy.history_limit
                both.eval(scripts.SAVE, 6, *self._keys(), self._token, limit, *values)
                if wanted:
                    # Half of what an answer may take: the answer itself must come in time.
                    wait_ms = round(self._server.timeout * 500)
                    both.execute_command("WAIT", wanted, wait_ms)
                said, *replicas = await both.execute()
            self._judged(_texts(said))
            if replicas and replicas[0] < wanted:
                raise StateError(
                    f"{self._place}: not kept: {replicas[0]} of {wanted} replicas have it"
                )
            self._doubtful = False
            self._newest = entry or self._newest
            self._base = base or self._base
            if beside is not None:
                self._kept[beside[0]] = beside[1]

    async def _read_newest(self) -> _Packed | None:
        async with self._talking() as client:
            revisions = await client.hkeys(self._key("heads"))
        return await self._read(max(map(int, revisions))) if revisions else None

    async def _read(self, revision: int) -> _Packed | None:
        async with self._talking() as client:
            head = await client.hget(self._key("heads"), str(revision))
            document = await client.hget(self._key("documents"), str(revision))
        if head is None or document is None:
            return None
        return _Packed(revision, raw(head), raw(document))

    async def _read_base(self) -> bytes:
        async with self._talking() as client:
            return raw(await client.get(self._key("base")) or b"")

    async def _read_kept(self) -> dict[str, bytes]:
        async with self._talking() as client:
            found = await client.hgetall(self._key("kept"))
        return {raw(name).decode(): raw(document) for name, document in found.items()}

    @asynccontextmanager
    async def _talking(self) -> AsyncIterator[Redis]:
        if self._client is None:
            raise StateError(f"{self._place}: the state store is not open")
        with self._errors():
            yield self._client

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with talking(self._server):
                yield
        except (ServerError, zlib.error, ValueError) as error:
            raise StateError(f"state store: {error}") from error

    @property
    def _place(self) -> str:
        return f"{self._server.address.shown} {self._server.prefix!r}"

    def _key(self, name: str) -> str:
        return f"{self._server.prefix}:state:{name}"

    def _keys(self) -> list[str]:
        return [*map(self._key, ("meta", "lease", "documents", "heads", "base", "kept"))]


def _texts(said: list[bytes]) -> list[str]:
    return [each.decode(errors="replace") for each in said]


def _head(text: bytes) -> Revision:
    revision, created_at, source, changes = json.loads(text)
    return Revision(revision, created_at, source, tuple(changes))
