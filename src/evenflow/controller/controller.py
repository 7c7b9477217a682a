"""The controller: owner of the wanted state, and the only one who changes what the engine does.

A change goes one way: judge the configuration, resolve names, compile the plan, put it in force,
keep it on disk, publish it. Changes go one at a time. Whatever fails before the engine's swap has
changed nothing; where keeping fails after it, the old plan is put in force again, so what the API
acknowledged is on disk and what is not on disk is not in force.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from evenflow.certs import changes as material_changes
from evenflow.config import (
    Backend,
    Config,
    ConfigError,
    Problem,
    has_fleet_limits,
    read_document,
)
from evenflow.config.imports import import_problems
from evenflow.controller import edits
from evenflow.controller.acme import AcmeCertificates
from evenflow.controller.address_lists import AddressLists, AddressListStatus
from evenflow.controller.breaker import Override
from evenflow.controller.breakers import (
    Breakers,
    BreakerStatus,
    Hold,
    Place,
    read_holds,
    write_holds,
)
from evenflow.controller.certificates import Certificates, CertificateStatus
from evenflow.controller.decisions import Decisions
from evenflow.controller.discovered import Elsewhere, SourceStatus
from evenflow.controller.document import differences
from evenflow.controller.errors import (
    BackendDiscovered,
    BackendNotFound,
    RevisionConflict,
    RevisionNotFound,
)
from evenflow.controller.keys import Keys, KeysStatus
from evenflow.controller.live import Live, Swap
from evenflow.controller.made import made
from evenflow.controller.merge import three_way_merge
from evenflow.controller.moves import followed
from evenflow.controller.runtime import Key, Member, Runtime, Verdict, WorkerRestarts
from evenflow.controller.stats import RequestRate, stats_document
from evenflow.controller.status import BackendStatus, backend_status, backend_statuses
from evenflow.controller.store import (
    HISTORY_LIMIT,
    Document,
    Revision,
    StateError,
    StateStore,
    StoredRevision,
)
from evenflow.controller.tasks import OwnedTasks
from evenflow.engine import (
    ApplyReport,
    Engine,
    EngineError,
    ExplainRequest,
    Explanation,
    Snapshot,
)
from evenflow.resolve import Lookup, system_lookup

T = TypeVar("T")

CLOSE_TIMEOUT_S: Final = 5.0
_HOLDS: Final = "breakers"
IN_PROCESS: Final = "python"
"""The source of a change by the program that runs the balancer, which may import what it likes."""
_log = structlog.get_logger("evenflow.controller")

ReadSources = Callable[[], Config]
"""Reads file, environment and flags again; raises `ConfigError`."""

Revisions = Collection[int] | None
"""The revisions on which a change may be made; `None` is any."""


class Explained(Explanation):
    """Where a request would go, and why; with the source of the backend, where it was found by one."""

    discovered: str | None


@dataclass(frozen=True)
class Applied:
    """A change that is in force. `changes` is empty when nothing had to change."""

    revision: int
    changes: list[str]
    warnings: list[str]


class Controller:
    """The wanted state and every way to change it. Used on one event loop.

    Every change takes `only_at`: it is made only while one of these revisions is in force, and
    raises `RevisionConflict` otherwise. Between that look and the change nothing else can change.

    `start` puts the first configuration in force; `close` lets go of engine and store, which it
    does not own.
    """

    def __init__(
        self,
        engine: Engine,
        store: StateStore,
        *,
        admin_socket: str,
        sticky_key: bytes = b"",
        read_sources: ReadSources | None = None,
        lookup: Lookup = system_lookup,
        folder: Path | None = None,
    ) -> None:
        """Decide over `engine`; what `store` is too small for is kept in `folder`, if anywhere."""
        self.engine = engine
        self.decisions = Decisions()
        self.started_at = time.time()
        self.revision = 0
        self.listening: Mapping[str, list[str]] = {}
        self.last_reload_error: str | None = None
        self.applies_total: Counter[str] = Counter(ok=0, failed=0)
        self.reloads_total: Counter[str] = Counter(ok=0, failed=0, unchanged=0)
        self._store = store
        self._read_sources = read_sources
        self._documents = edits.Documents()
        self._document: Document = {}
        self._base: Document = {}
        self._config: Config | None = None
        self._history: deque[Revision] = deque(maxlen=HISTORY_LIMIT)
        self._lock = asyncio.Lock()
        self._tasks = OwnedTasks()
        # One thread for compiling and applying: changes go one at a time anyway, and a resolver
        # that hangs in the loop's default threads cannot hold one up.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="evenflow-apply")
        self._rate = RequestRate()
        self._config_callbacks: list[Callable[[Config], None]] = []
        self._revision_callbacks: list[Callable[[Revision], None]] = []
        self._keys = Keys(self, lambda: self._live.material)
        self._acme = AcmeCertificates(self, lambda: self._live.material, folder)
        self._certificates = Certificates(self, lambda: self._live.material, self._acme.statuses)
        self._address_lists = AddressLists(lambda: self._live.material)
        self._live = Live(
            engine,
            self.decisions,
            lookup,
            admin_socket,
            sticky_key,
            keys=self._keys,
            acme=self._acme,
            address_lists=self._address_lists,
        )

    # Life.

    async def start(self, config: Config, *, source: str = "start") -> Applied:
        """Put the first configuration in force.

        It is `config` with the changes that the store remembers from before the restart and that
        did not come from the sources. Raises `ConfigError`, `StateError` or `EngineError`.
        """
        await self._store.open()
        latest, base = await self._store.latest(), await self._store.base()
        self._history.extend(await self._store.history())
        read = self._documents.of(config)
        warnings: list[str] = []
        if latest is not None:
            self.revision, self._document = latest.head.revision, latest.document
            config, warnings = self._merged_at_start(config, read, base, latest)
        async with self._lock:
            applied = await self._change(config, source, base=read, warnings=warnings)
            held = read_holds(await self._store.kept(_HOLDS))
            self.breakers.restore(held)
            await self._let_go(tuple(held))
        return applied

    async def close(self) -> None:
        """Stop all work of its own; engine and store stay open."""
        self._live.close()
        await self._tasks.close(CLOSE_TIMEOUT_S)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def start_background(self) -> None:
        """Begin what goes on by itself: events, slow starts, resolving names again."""
        self._live.watch_events()
        self._tasks.loop_forever(self._live.keep_resolving(), "resolve names")
        self._tasks.loop_forever(self._each_second(), "ramps and rates")
        self._tasks.loop_forever(self._certificates.watch(), "watch certificates")
        self._tasks.loop_forever(self._keys.watch(), "watch keys")
        self._tasks.loop_forever(self._acme.watch(), "order certificates")

    # The wanted state.

    @property
    def config(self) -> Config:
        """The configuration in force."""
        if self._config is None:
            raise RuntimeError("the controller has not started")
        return self._config

    def document(self) -> dict[str, Any]:
        """The configuration in force as a document, secrets masked; `apply` reads it back."""
        return self.config.model_dump(mode="json", exclude_none=True)

    async def change(
        self, edit: Callable[[Config], Config], *, source: str, only_at: Revisions = None
    ) -> Applied:
        """Put in force what `edit` makes of the configuration in force; raises what it raises."""
        return await self._exclusively(lambda: edit(self.config), source, only_at)

    async def apply(self, config: Config, *, source: str, only_at: Revisions = None) -> Applied:
        """Put a whole configuration in force; raises `ConfigError`, and then nothing changed."""
        return await self._exclusively(lambda: config, source, only_at)

    async def patch(
        self, change: Mapping[str, object], *, source: str, only_at: Revisions = None
    ) -> Applied:
        """Put the configuration in force that an RFC 7396 merge patch of the document gives."""
        return await self._exclusively(
            lambda: edits.patched(self.config, self._document, change), source, only_at
        )

    def diff(self, config: Config) -> list[str]:
        """What applying a configuration would change."""
        wanted = edits.with_secrets(config, self.config)
        return differences(self._document, edits.Documents().of(wanted))

    async def add_backend(
        self,
        backend: Backend,
        *,
        pool: str | None = None,
        source: str,
        only_at: Revisions = None,
    ) -> Applied:
        """Add one backend; raises `ConfigError`, also when its id is taken."""
        return await self._exclusively(
            lambda: edits.with_backend(self.config, backend, pool), source, only_at
        )

    async def update_backend(
        self, id: str, change: Mapping[str, object], *, source: str, only_at: Revisions = None
    ) -> Applied:
        """Merge-patch one backend.

        Raises `BackendNotFound`, `BackendDiscovered` or `ConfigError`.
        """
        return await self._exclusively(
            lambda: self._configured(
                id, lambda: edits.with_changed_backend(self.config, id, change)
            ),
            source,
            only_at,
        )

    async def remove_backend(self, id: str, *, source: str, only_at: Revisions = None) -> Applied:
        """Remove one backend; what is in flight on it goes on.

        Raises `BackendNotFound` or `BackendDiscovered`.
        """
        return await self._exclusively(
            lambda: self._configured(id, lambda: edits.without_backend(self.config, id)),
            source,
            only_at,
        )

    async def restore_backends(
        self, backends: Sequence[Backend], *, source: str, only_at: Revisions = None
    ) -> Applied:
        """Replace the list of backends as a whole."""
        return await self._exclusively(
            lambda: edits.rebuilt(self.config, backends=tuple(backends)), source, only_at
        )

    async def rollback(self, revision: int, *, source: str, only_at: Revisions = None) -> Applied:
        """Put an earlier configuration in force, as a new revision; raises `RevisionNotFound`."""
        entry = await self._store.load(revision)
        if entry is None:
            raise RevisionNotFound(revision)
        # What may be imported is the file's to say, now as then.
        document = {**entry.document, "extensions": list(self.config.extensions)}
        return await self._exclusively(lambda: read_document(document), source, only_at)

    def history(self) -> list[Revision]:
        """The kept revisions, newest first."""
        return list(self._history)

    async def reload(self, *, source: str, only_at: Revisions = None) -> Applied:
        """Read file and environment again and apply what changed in them.

        On failure (`ConfigError`, `StateError`, `EngineError`) the old configuration serves on;
        the reason is in `last_reload_error`, the log and the decisions.
        """
        return await self._owned(self._reload(source, only_at), "reload")

    async def renew_members(self) -> bool:
        """Put in force what is found elsewhere by now; whether that changed anything.

        The configuration stays what it is, and so does its revision. Raises `ConfigError` (a
        strategy that fails) or `EngineError`, and then the members of before serve on.
        """
        task = self._tasks.start(self._renew_members(), "renew members")
        return await asyncio.shield(task)

    async def renew_material(self, *, source: str) -> Applied:
        """Read files again, and take what key sets hold and what was issued.

        Raises `ConfigError`, and then the old ones serve on.
        """
        return await self._exclusively(lambda: self.config, source, None)

    async def renew_certificate(self, name: str, *, wait_s: float = 0.0) -> None:
        """Have a certificate ordered now that comes from an authority; see `certificates`.

        At most `wait_s` is waited for the end of the order. Raises `NotOrdered`.
        """
        await self._acme.renew(name, wait_s=wait_s)

    async def set_fleet_seed(self, seed: bytes) -> None:
        """Take the secret of limits of scope fleet; where there are any, put it in effect.

        Their counts begin anew with another secret. Raises as `apply` does.
        """
        self._live.fleet_seed = seed
        if self._live.reseeded and has_fleet_limits(self.config):
            await self._exclusively(lambda: self.config, "cluster", None)

    # What is going on.

    def certificates(self) -> list[CertificateStatus]:
        """The certificates in force; no keys."""
        return self._certificates.statuses()

    def revocation_lists_due(self) -> dict[tuple[str, str], float]:
        """By file and issuer, when the next revocation list is due, in Unix seconds."""
        return self._certificates.revocation_lists_due()

    def address_lists(self) -> list[AddressListStatus]:
        """The files of address lists in force, and how it went when they were read."""
        return self._address_lists.statuses(self._certificates.missing)

    def signing_keys(self) -> list[KeysStatus]:
        """What each filter for tokens checks them with, and how its key set is."""
        return self._keys.statuses()

    @property
    def members(self) -> Mapping[Key, Member]:
        """All backends by pool and id, as they are in force."""
        return self._live.members

    @property
    def runtime(self) -> Runtime:
        """Addresses, verdicts and ramps; only `set_verdict` changes a verdict."""
        return self._live.runtime

    def get_members_from(self, elsewhere: Elsewhere) -> None:
        """Have further members come from elsewhere; before `start`."""
        self._live.elsewhere = elsewhere

    @property
    def discovered(self) -> Mapping[Key, str]:
        """The source of each member that is not configured but was found elsewhere."""
        return self._live.discovered

    def discovery(self) -> list[SourceStatus]:
        """How each source of further members is."""
        return self._live.elsewhere.statuses()

    def on_members_changed(self, callback: Callable[[], None]) -> None:
        """Be told after every change of `members` or of their addresses."""
        self._live.member_callbacks.append(callback)

    def on_config(self, callback: Callable[[Config], None]) -> None:
        """Be told every configuration that came into force."""
        self._config_callbacks.append(callback)

    def on_revision(self, callback: Callable[[Revision], None]) -> None:
        """Be told every new revision once it is in force and kept."""
        self._revision_callbacks.append(callback)

    def on_probe_result(self, callback: Callable[[Any], None]) -> None:
        """Receive the results of probes."""
        self._live.probe_callbacks.append(callback)

    def set_verdict(self, key: Key, verdict: Verdict) -> None:
        """Take a health verdict and put it in effect at once."""
        self._live.set_verdict(key, verdict)

    def backends(self) -> list[BackendStatus]:
        """All backends with configuration, engine state and health joined."""
        return backend_statuses(
            self._live.members.values(),
            self._live.runtime,
            self.snapshot(),
            self._live.joined,
            self._live.runtime.ejections,
            self._live.breakers,
            self._live.discovered,
        )

    def backend(self, id: str) -> BackendStatus | None:
        """One backend; where several pools have one of this id, the first, configured ones before."""
        live = self._live
        for pool in sorted(live.pools, key=lambda pool: (pool, id) in live.discovered):
            if (member := live.members.get((pool, id))) is not None:
                try:
                    endpoint = self.engine.endpoint_snapshot(pool, id)
                except EngineError as error:
                    if error.code != "plan":
                        raise
                    endpoint = None
                return backend_status(
                    member,
                    live.runtime,
                    endpoint,
                    live.joined,
                    live.runtime.ejections,
                    live.breakers,
                    live.discovered,
                )
        return None

    def health_counts(self) -> tuple[int, int]:
        """How many backends there are, and how many of them get requests as far as health goes.

        Unlike `backends` this asks the engine nothing, and takes 2 ms for 10,000.
        """
        return self._live.health_counts()

    @property
    def worker_restarts(self) -> WorkerRestarts:
        """What is known of workers of the engine that panicked."""
        return self._live.restarts

    @property
    def panics(self) -> Mapping[str, str]:
        """What is done (`fail`, `use_all`) in pools of which too few backends are usable."""
        return self._live.panics

    @property
    def breakers(self) -> Breakers:
        """The circuit breakers of backends and pools."""
        return self._live.breakers

    async def hold_breaker(
        self, place: Place, override: Override | None, who: str
    ) -> BreakerStatus:
        """Hold a breaker open or closed, or let it go, over a restart too.

        Raises `NoBreaker`, or `StateError`, and then nothing changed.
        """

        async def hold() -> BreakerStatus:
            async with self._lock:
                holds = self.breakers.holds_after(place, override, who)
                await self._store.keep(_HOLDS, write_holds(holds))
                return self.breakers.force(place, override, who)

        return await self._owned(hold(), "hold a breaker")

    @property
    def hedge_delays(self) -> Mapping[str, float]:
        """How long hedged routes wait, in seconds; absent while it is still to be learnt."""
        return self._live.hedging.delays

    def has_pool(self, name: str) -> bool:
        """Whether the configuration in force has a pool of this name."""
        return name in self._live.pools

    def snapshot(self) -> Snapshot:
        """All counters of the engine."""
        return self.engine.snapshot()

    def requests_per_second(self) -> float:
        """Requests of the last seconds."""
        return self._rate.latest

    def stats(self) -> dict[str, Any]:
        """Statistics in the original's shape."""
        return stats_document(self.snapshot(), self._rate)

    def explain(self, request: ExplainRequest) -> Explained:
        """Where a request would go, and why."""
        found = self.engine.explain(request)
        source = self.discovered.get((found["pool"] or "", found["backend"] or ""))
        return {**found, "discovered": source}

    # How a change happens.

    async def _exclusively(
        self, wanted: Callable[[], Config], source: str, only_at: Revisions
    ) -> Applied:
        def judged() -> Config:
            config = wanted()
            if source != IN_PROCESS and (problems := [*import_problems(config, self.config)]):
                raise ConfigError(problems)
            return config

        async def change() -> Applied:
            async with self._lock:
                self._check_revision(only_at)
                config = judged()
                if not (unknown := self._keys.unknown(config)):
                    return await self._change(config, source)
            # An issuer may take its time, and nobody else's change has to wait for it.
            async with self._keys.holding(unknown), self._lock:
                self._check_revision(only_at)
                return await self._change(judged(), source)

        return await self._owned(change(), "apply")

    def _configured(self, id: str, edit: Callable[[], Config]) -> Config:
        """What an edit of one backend makes; says so where this one is not configured."""
        try:
            return edit()
        except BackendNotFound:
            for (pool, known), source in self.discovered.items():
                if known == id:
                    raise BackendDiscovered(id, pool, source) from None
            raise

    def _check_revision(self, only_at: Revisions) -> None:
        if only_at is not None and self.revision not in only_at:
            raise RevisionConflict(self.revision)

    async def _owned(self, work: Coroutine[Any, Any, T], name: str) -> T:
        """Finish a change even when whoever asked for it goes away meanwhile."""
        return await asyncio.shield(self._tasks.start(work, name))

    async def _change(
        self,
        config: Config,
        source: str,
        *,
        base: Document | None = None,
        warnings: Sequence[str] = (),
    ) -> Applied:
        if self._config is not None:
            config = edits.with_secrets(config, self._config)
            same = config == self._config and not self._live.reseeded
            same &= not (self._keys.changed() or self._acme.changed())
            if same and not await self._certificates.changed():
                await self._keep_base(base)
                return Applied(self.revision, [], list(warnings))
        try:
            applied = await self._put_in_force(config, source, base, warnings)
        except Exception as error:
            if self._config is not None:
                self._live.elsewhere.follow(self._config)
            self.applies_total["failed"] += 1
            self.decisions.record(
                "apply", "configuration refused", str(error), level="error", source=source
            )
            raise
        self.applies_total["ok"] += 1
        return applied

    async def _put_in_force(
        self, config: Config, source: str, base: Document | None, warnings: Sequence[str]
    ) -> Applied:
        first = self._config is None
        wanted = await self._live.prepare(config, first=first)
        document = self._documents.of(config)
        changes = differences(self._document, document)
        # A start that finds what it left changes nothing and is no new revision, nor does a renewed
        # certificate.
        fresh = bool(changes) or self.revision == 0 or (not first and config != self._config)
        renewed = [] if first else material_changes(self._live.material, wanted.material)
        revision = self.revision + 1 if fresh else self.revision
        async with self._live.swap(wanted) as swap:
            report = await self._in_thread(lambda: swap.put_in_force(revision))
            if fresh:
                head = Revision(revision, time.time(), source, tuple(changes))
                try:
                    await self._store.save(StoredRevision(head, document), base=base)
                except BaseException:
                    await self._undo(swap)
                    raise
                self._history.appendleft(head)
            else:
                await self._keep_base(base)
        previous = self._config
        self._config, self._document, self.revision = config, document, revision
        if base is not None:
            self._base = base
        self.listening = report["listeners"]
        warned = [*warnings, *wanted.warnings, *_only_at_start(previous, config)]
        self.decisions.record(
            "apply",
            "configuration in force",
            f"asked for by {source}",
            source=source,
            revision=revision,
            changes=[*changes, *renewed][:20],
            warnings=warned,
        )
        self._live.elsewhere.follow(config)
        held = self.breakers.holds()
        self._live.published()
        await self._let_go(held)
        self._tell(config)
        if fresh:
            head = Revision(revision, time.time(), source, tuple(changes))
            made(head)
            for told in self._revision_callbacks:
                told(head)
        return Applied(revision, [*changes, *renewed], warned)

    async def _renew_members(self) -> bool:
        async with self._lock:
            wanted = await self._live.prepare_found()
            if wanted is None:
                return False
            async with self._live.swap(wanted) as swap:
                await self._in_thread(lambda: swap.put_in_force(self.revision))
            self._live.published()
            return True

    async def _let_go(self, held: tuple[Hold, ...]) -> None:
        """Forget breakers that were held and are no more: one of that name is another one."""
        if self.breakers.holds() == held:
            return
        try:
            await self._store.keep(_HOLDS, write_holds(self.breakers.holds()))
        except StateError as error:
            # Their backends are gone: until these come back it makes no difference.
            _log.warning("held breakers not forgotten", reason=str(error))

    def _tell(self, config: Config) -> None:
        for callback in self._config_callbacks:
            try:
                callback(config)
            # The configuration is in force by now; a listener cannot refuse it any more.
            except Exception as error:  # noqa: BLE001
                _log.error("a listener failed on the new configuration", exc_info=error)

    async def _undo(self, swap: Swap) -> None:
        try:
            await self._in_thread(swap.undo)
        except (ConfigError, EngineError) as error:
            # The engine took this plan before, so only a lost address can bring us here.
            self.decisions.record(
                "apply", "configuration of before not restored", str(error), level="error"
            )

    async def _in_thread(self, work: Callable[[], ApplyReport]) -> ApplyReport:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except EngineError as error:
            if error.code in ("plan", "bind"):
                raise ConfigError([Problem(error.path, error.message)]) from error
            raise

    async def _keep_base(self, base: Document | None) -> None:
        if base is not None and base != self._base:
            await self._store.save_base(base)
            self._base = base

    # Reload and restart.

    def _merged_at_start(
        self, config: Config, read: Document, base: Document | None, latest: StoredRevision
    ) -> tuple[Config, list[str]]:
        before = base if base is not None else read
        merged = three_way_merge(*followed(before, read, latest.document), latest.document)
        warnings = [_conflict(path) for path in merged.conflicts]
        if merged.document == read:
            return config, warnings
        try:
            return read_document(merged.document), warnings
        except ConfigError as error:
            # Serving what the file says beats not serving; the revision stays in the history.
            text = f"revision {latest.head.revision} does not go with the file: {error}"
            self.decisions.record("reload", "stored changes left out", text, level="error")
            return config, [*warnings, text]

    async def _reload(self, source: str, only_at: Revisions) -> Applied:
        async with self._lock:
            self._check_revision(only_at)
            try:
                applied = await self._reload_locked(source)
            except Exception as error:
                self.last_reload_error = str(error) or type(error).__name__
                self.reloads_total["failed"] += 1
                self.decisions.record(
                    "reload", "reload failed", self.last_reload_error, level="error", source=source
                )
                raise
        self.last_reload_error = None
        result = "ok" if applied.changes else "unchanged"
        self.reloads_total[result] += 1
        self.decisions.record(
            "reload",
            "reloaded",
            "; ".join(applied.warnings) or ("changes applied" if applied.changes else "no change"),
            source=source,
            revision=applied.revision,
        )
        return applied

    async def _reload_locked(self, source: str) -> Applied:
        if self._read_sources is None:
            return Applied(self.revision, [], ["there is no file or environment to read again"])
        config = await asyncio.to_thread(self._read_sources)
        read = edits.Documents().of(config)
        merged = three_way_merge(*followed(self._base, read, self._document), self._document)
        if merged.document != read:
            config = read_document(merged.document)
        config = edits.keep_objects(config, self.config)
        warnings = [_conflict(path) for path in merged.conflicts]
        return await self._change(config, source, base=read, warnings=warnings)

    async def _each_second(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._live.advance_ramps()
            self._live.breakers.judge()
            self._live.hedging.learn()
            try:
                totals = self.engine.totals()
            except EngineError as error:
                _log.debug("requests not counted", reason=str(error))
                continue
            self._rate.sample(totals["uptime_s"], totals["requests"])


def _conflict(path: str) -> str:
    return f"{path}: changed in the file and elsewhere; the file's value was taken"


def _only_at_start(old: Config | None, new: Config) -> list[str]:
    """A warning for each changed setting that a running process cannot follow."""
    if old is None:
        return []
    settings = {
        "server.workers": (old.server.workers, new.server.workers),
        "state": (old.state, new.state),
    }
    return [
        f"{path}: takes effect after a restart"
        for path, (before, after) in settings.items()
        if before != after
    ]
