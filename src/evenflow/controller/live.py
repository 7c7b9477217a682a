"""The state in force: members, their runtime state, and the engine's picture of both.

The controller decides what is wanted; this carries it over to the engine, and keeps the engine true
to what happens between two changes: verdicts, addresses, slow starts, ejections.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Final

import structlog

from evenflow.certs import Material, MaterialError, needs_material, read_material
from evenflow.config import Config, Pool, expand
from evenflow.config.expand import by_scheme
from evenflow.controller.acme import AcmeCertificates
from evenflow.controller.address_lists import AddressLists
from evenflow.controller.breaker import State
from evenflow.controller.breakers import Breakers, Place
from evenflow.controller.decisions import Decisions, Level
from evenflow.controller.discovered import Elsewhere, Nowhere, with_found
from evenflow.controller.hedging import HedgeDelays
from evenflow.controller.keys import Keys
from evenflow.controller.members import Members, members_of, spliced_members
from evenflow.controller.pickers import PickerUpdates
from evenflow.controller.runtime import Key, Member, Runtime, Verdict, WorkerRestarts
from evenflow.engine import (
    ApplyReport,
    EndpointUpdate,
    Engine,
    EngineError,
    Event,
    PoolUpdate,
    ProbeResult,
)
from evenflow.plan import (
    Panic,
    PoolSplice,
    compile_members_change,
    compile_plan,
    compile_pool_update,
    members_splice,
)
from evenflow.plan.memory import default_buffer_bytes
from evenflow.plan.pools import given
from evenflow.resolve import Lookup, Resolution, changed, resolve_targets

RESOLVE_AGAIN_S: Final = 30.0
RESOLVE_FAILED_AGAIN_S: Final = 5.0
FIRST_ANSWER_S: Final = 0.5
"""How long a change waits for the addresses of names that are new in it."""

_NAME: Final = attrgetter("unresolved")

_log = structlog.get_logger("evenflow.live")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A configuration made ready for the engine."""

    config: Config
    """In its full form, with the members found elsewhere."""
    configured: Config
    """The same without these."""
    discovered: Mapping[Key, str]
    """The source of each member found elsewhere."""
    pools: Mapping[str, Pool]
    members: Members
    splice: PoolSplice | None
    """What differs from the configuration of before, where that is one pool's members alone."""
    resolutions: Mapping[str, Resolution]
    warnings: list[str]
    material: Material
    """What the files of TLS and the key sets hold."""
    fleet_seed: bytes = b""
    """The secret of limits of scope fleet; empty while it is not known."""


def _encrypted(pool: Pool) -> bool:
    """Whether some of a pool's backends are sent to over TLS."""
    return any(target.is_tls for target in by_scheme(pool).values())


def _unverified(config: Config) -> list[str]:
    """A warning for each pool that trusts whoever answers."""
    found = [
        f"pool {pool.name}: tls.verify is false, so anyone on the way can read and change all that "
        "is sent to its backends"
        for pool in config.pools
        if pool.tls is not None and not pool.tls.verify
    ]
    for text in found:
        _log.warning("backends are not verified", reason=text)
    return found


class Live:
    """What is in force. Used on one event loop, except for the methods of `Swap`."""

    def __init__(
        self,
        engine: Engine,
        decisions: Decisions,
        lookup: Lookup,
        admin_socket: str,
        sticky_key: bytes = b"",
        *,
        keys: Keys,
        acme: AcmeCertificates,
        address_lists: AddressLists,
    ) -> None:
        self.members: Mapping[Key, Member] = {}
        self.runtime = Runtime()
        self.panics: dict[str, Panic] = {}
        """What is done in the pools of which too few members are usable."""
        self.joined: dict[Key, float] = {}
        """Since when (Unix seconds) a member is there."""
        self.member_callbacks: list[Callable[[], None]] = []
        self.probe_callbacks: list[Callable[[list[ProbeResult]], None]] = []
        self.restarts = WorkerRestarts()
        self.keys = keys
        self.acme = acme
        self.elsewhere: Elsewhere = Nowhere()
        self.address_lists = address_lists
        self.fleet_seed = b""
        """As the next plan has it."""
        self.breakers = Breakers(engine, decisions, self._breaker_changed)
        self.hedging = HedgeDelays(engine)
        self._engine = engine
        self._decisions = decisions
        self._lookup = lookup
        self._unresolved = asyncio.Event()
        """Set when a change brings a name that has no address yet."""
        self._admin_socket = admin_socket
        self._sticky_key = sticky_key
        self._wanted: Wanted | None = None
        self._revision = 0
        self._pickers = PickerUpdates(engine, self._pool_update)
        self._watching: asyncio.AbstractEventLoop | None = None
        # While a plan is put in force: whose state changed meanwhile, to be sent afterwards.
        self._missed: set[Key] | None = None

    @property
    def pools(self) -> Collection[str]:
        """The names of the pools in force."""
        return () if self._wanted is None else self._wanted.pools.keys()

    # A new configuration.

    async def prepare(self, config: Config, *, first: bool) -> Wanted:
        """Expand a configuration and resolve the names that are new in it."""
        configured = expand(config)
        full, discovered = with_found(configured, await self.elsewhere.found(config))
        splice = None if self._wanted is None else members_splice(self._wanted.config, full)
        members = (
            members_of(full, self.members)
            if splice is None
            else spliced_members(full, splice, self.members)
        )
        resolutions = await self._resolved(full)
        warnings = sorted({found.error for found in resolutions.values() if found.error})
        pools = {pool.name: pool for pool in full.pools}
        material = Material()
        if needs_material(full):
            before = None if self._wanted is None else self.material
            await self.keys.first(full)
            await self.acme.first(full)
            fetched, ordered = self.keys.fetched(), self.acme.ordered(full)
            try:
                material = await asyncio.to_thread(read_material, full, before, fetched, ordered)
            except MaterialError as error:
                self.address_lists.refused(error.lists)
                raise
            self.address_lists.taken(material)
            warnings += self.acme.warnings(full)
        if splice is not None and (material != self.material or _encrypted(splice.pool)):
            # Only a whole plan carries what TLS needs.
            splice = None
        if self.reseeded:
            splice = None
        warnings += [*material.warnings, *_unverified(full)]
        return Wanted(
            full,
            configured,
            discovered,
            pools,
            members,
            splice,
            resolutions,
            warnings,
            material,
            self.fleet_seed,
        )

    async def prepare_found(self) -> Wanted | None:
        """What is in force with the members found elsewhere by now; `None` where nothing differs."""
        before = self._wanted
        if before is None:
            return None
        full, discovered = with_found(before.configured, self.elsewhere.found_by_now())
        splice = members_splice(before.config, full)
        if splice is None and full == before.config:
            return None
        members = (
            members_of(full, self.members)
            if splice is None
            else spliced_members(full, splice, self.members)
        )
        if splice is not None and _encrypted(splice.pool):
            splice = None
        return replace(
            before,
            config=full,
            discovered=discovered,
            pools={pool.name: pool for pool in full.pools},
            members=members,
            splice=splice,
            resolutions=await self._resolved(full),
            warnings=[],
        )

    async def _resolved(self, full: Config) -> dict[str, Resolution]:
        """What all names of backends resolve to; only those are looked up that are new.

        A name that has no address yet is looked up again by `keep_resolving`, so that no change
        waits for a resolver that does not answer.
        """
        known = self.runtime.resolutions
        names = {name for pool in full.pools for name in set(map(_NAME, pool.backends)) if name}
        resolutions = {name: known[name] for name in names if name in known}
        return resolutions | await resolve_targets(
            names - resolutions.keys(), self._lookup, FIRST_ANSWER_S
        )

    @property
    def discovered(self) -> Mapping[Key, str]:
        """The source of each member that was found elsewhere."""
        return {} if self._wanted is None else self._wanted.discovered

    @property
    def reseeded(self) -> bool:
        """Whether the secret of the fleet is another one than that of the plan in force."""
        return self._wanted is not None and self._wanted.fleet_seed != self.fleet_seed

    @property
    def material(self) -> Material:
        """What the files of TLS hold that is in force."""
        return self._wanted.material if self._wanted is not None else Material()

    @asynccontextmanager
    async def swap(self, wanted: Wanted) -> AsyncIterator[Swap]:
        """Hold back all small changes while a plan is put in force, then publish it.

        When the block fails, the state before it stays published.
        """
        self._missed = set()
        self._pickers.hold()
        swap = self._new_swap(wanted)
        try:
            yield swap
        except BaseException:
            self._resume(applied=False)
            raise
        self._publish(swap)
        self._resume(applied=True)

    def _new_swap(self, wanted: Wanted) -> Swap:
        # What the other thread works with is copied here; what comes later is sent afterwards.
        members = wanted.members
        runtime = self.runtime.copy()
        runtime.forget(members.gone)
        runtime.resolutions = {**self.runtime.resolutions, **wanted.resolutions}
        new_ramps: dict[Key, float] = {}
        if self._wanted is not None:
            now = time.monotonic()
            new_ramps = {key: now for key in members.fresh if members.all[key].slow_start_s > 0}
            runtime.ramps.update(new_ramps)
        before = (self._wanted, self._revision, self.runtime.copy())
        # What a member that stays resolves to may have changed as well, which is no matter of its
        # pool's list.
        whole = wanted.splice is None or any(
            (known := self.runtime.resolutions.get(name)) is not None
            and known.addresses != found.addresses
            for name, found in wanted.resolutions.items()
        )
        return Swap(
            self._engine,
            self._admin_socket,
            self._sticky_key,
            wanted,
            before,
            runtime,
            new_ramps,
            whole=whole,
        )

    def published(self) -> None:
        """Tell who watches the members."""
        if self._wanted is not None:
            self.breakers.follow(self._wanted.pools)
            self.keys.follow(self._wanted.config)
            self.acme.follow(self._wanted.config)
            self.hedging.follow(self._wanted.config)
        for callback in self.member_callbacks:
            callback()

    def _publish(self, swap: Swap) -> None:
        wanted = swap.wanted
        members, now = wanted.members, time.time()
        self.runtime.forget(members.gone)
        for key in members.gone:
            self.joined.pop(key, None)
        for key in members.fresh:
            self.joined[key] = now
        self.runtime.ramps.update(swap.new_ramps)
        fresh = wanted.resolutions.keys() - self.runtime.resolutions.keys()
        if not all(wanted.resolutions[name].addresses for name in fresh):
            self._unresolved.set()
        # A name may have resolved anew while the plan was on its way.
        self.runtime.resolutions = {
            target: known
            if (known := self.runtime.resolutions.get(target)) is not None and known.addresses
            else found
            for target, found in wanted.resolutions.items()
        }
        self.members, self._wanted, self._revision = members.all, wanted, swap.revision
        for pool in self.panics.keys() - wanted.pools.keys():
            del self.panics[pool]
        for pool, panic in swap.panics.items():
            self._note_panic(pool, panic)

    def _resume(self, *, applied: bool) -> None:
        missed, self._missed = self._missed or set(), None
        self._pickers.release(applied=applied)
        for key in missed:
            if (member := self.members.get(key)) is not None:
                self._send(member)
                self._pickers.mark(member.pool)

    # Between two configurations.

    def set_verdict(self, key: Key, verdict: Verdict) -> None:
        """Take a verdict; where it changes who gets requests, the engine learns it at once."""
        member = self.members.get(key)
        if member is None:
            return
        before = self.runtime.verdicts.get(key, Verdict())
        flipped = self.runtime.set_verdict(key, verdict)
        if verdict.checks_passed > before.checks_passed and key in self.runtime.ejections:
            self._return_early(member)
        if verdict.status == before.status:
            return
        if flipped:
            if self.runtime.up(key):
                self.runtime.begin_ramp(member, time.monotonic())
                # It was down and is well again: what it was ejected for belongs to the past.
                self._engine.clear_ejection(member.pool, key[1])
            self._send(member)
            self._pickers.mark(member.pool)
        if before.status == "unknown" and not flipped:
            # The expected first verdict of each of perhaps thousands is no news.
            _log.debug("backend healthy", pool=key[0], backend=key[1], reason=verdict.reason)
            return
        self._decisions.record(
            "health",
            f"backend {verdict.status}",
            verdict.reason,
            level="info" if self.runtime.up(key) else "warning",
            pool=key[0],
            backend=key[1],
        )

    def _return_early(self, member: Member) -> None:
        """Take an ejected member back that passed a check, unless its pool wants it otherwise."""
        pool = self._wanted.pools.get(member.pool) if self._wanted is not None else None
        if pool is not None and pool.outlier is not None and pool.outlier.unejected_by_check:
            self._engine.clear_ejection(member.pool, member.backend.id)

    def health_counts(self) -> tuple[int, int]:
        """How many members there are, and how many of them are healthy or not checked yet."""
        out = sum(
            1
            for key, member in self.members.items()
            if member.backend.drain
            or key in self.runtime.ejections
            or self.breakers.refuses(*key)
            or not self.runtime.up(key)
            or not self.runtime.addresses(member)
        )
        return len(self.members), len(self.members) - out

    def advance_ramps(self) -> None:
        """Bring the weights of slow starts up to date; called once a second."""
        if not self.runtime.ramps:
            return
        now = time.monotonic()
        ramping = [self.members[key] for key in self.runtime.ramps if key in self.members]
        self.runtime.end_ramps(self.members, now)
        for member in ramping:
            self._send(member)
            self._pickers.mark(member.pool)

    async def keep_resolving(self) -> None:
        """Resolve names again for ever, those that failed more often."""
        since_all = 0.0
        while True:
            began = time.monotonic()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._unresolved.wait(), RESOLVE_FAILED_AGAIN_S)
            self._unresolved.clear()
            since_all += time.monotonic() - began
            every = since_all >= RESOLVE_AGAIN_S
            known = self.runtime.resolutions
            names = [target for target, found in known.items() if every or not found.addresses]
            if every:
                since_all = 0.0
            if names:
                self._take_resolutions(await resolve_targets(names, self._lookup))

    def _take_resolutions(self, found: Mapping[str, Resolution]) -> None:
        known = self.runtime.resolutions
        news = {target: found[target] for target in changed(known, found) if target in known}
        if not news:
            return
        known.update(news)
        for target, resolution in news.items():
            self._decisions.record(
                "resolve",
                "addresses changed",
                f"{target} resolves to {', '.join(resolution.addresses)}",
                target=target,
            )
        for member in self.members.values():
            if member.backend.target.address in news:
                self._send(member)
                self._pickers.mark(member.pool)
        self.published()

    # Events of the engine.

    def watch_events(self) -> None:
        """Take the engine's events as they come."""
        self._watching = asyncio.get_running_loop()
        self._watching.add_reader(self._engine.fileno(), self._on_events)

    def close(self) -> None:
        """Stop watching and sending; must come before the engine is closed."""
        self._pickers.close()
        self.breakers.close()
        if self._watching is not None:
            self._watching.remove_reader(self._engine.fileno())
            self._watching = None

    def _on_events(self) -> None:
        events: Iterable[Event] = self._engine.take_events()
        results: list[ProbeResult] = []
        for event in events:
            match event["kind"]:
                case "probe":
                    results.append(event)
                case "ejected":
                    self._ejected(event["pool"], event["backend"], event["reason"], event["for_s"])
                case "breaker":
                    self.breakers.heard(event)
                case "handshake_failed":
                    given = {name: value for name, value in event.items() if value}
                    del given["kind"]
                    _log.debug("tls handshake failed", **given)
                case "unknown_key":
                    self.keys.asked_for(event["filter"])
                case "returned":
                    self._returned(event["pool"], event["backend"])
                case "worker_restarted":
                    self._worker_restarted(event["worker"], event["reason"])
        if results:
            for callback in self.probe_callbacks:
                callback(results)

    def _worker_restarted(self, worker: int, reason: str) -> None:
        self.restarts = WorkerRestarts(self.restarts.count + 1, worker, reason, time.time())
        self._decisions.record("worker", "worker restarted", reason, level="error", worker=worker)

    def _ejected(self, pool: str, id: str, reason: str, for_s: float) -> None:
        self.runtime.ejections[pool, id] = (time.time(), reason)
        self._mark_panicking(pool)
        self._decisions.record(
            "ejection",
            "backend ejected",
            reason,
            level="warning",
            pool=pool,
            backend=id,
            for_s=for_s,
        )

    def _returned(self, pool: str, id: str) -> None:
        self.runtime.ejections.pop((pool, id), None)
        self._mark_panicking(pool)
        if (member := self.members.get((pool, id))) is not None:
            self._ramp_up(member)
        self._decisions.record(
            "ejection", "backend returned", "its ejection ended", pool=pool, backend=id
        )

    def _breaker_changed(self, place: Place, state: State) -> None:
        pool, id = place
        if id is None:
            return
        if state != "closed":
            self.runtime.broken.add((pool, id))
        elif (pool, id) in self.runtime.broken:
            self.runtime.broken.discard((pool, id))
            if (member := self.members.get((pool, id))) is not None:
                self._ramp_up(member)
        self._mark_panicking(pool)

    def _ramp_up(self, member: Member) -> None:
        """Begin the slow start of a member that is back, where it has one."""
        self.runtime.begin_ramp(member, time.monotonic())
        if member.key in self.runtime.ramps:
            self._send(member)
            self._pickers.mark(member.pool)

    # To the engine.

    def _send(self, member: Member) -> None:
        if self._missed is not None:
            self._missed.add(member.key)
            return
        update: EndpointUpdate = {
            "pool": member.pool,
            "id": member.backend.id,
            "up": self.runtime.up(member.key),
            "weight": self.runtime.weight(member, time.monotonic()),
            "addresses": list(self.runtime.addresses(member)),
        }
        try:
            self._engine.set_endpoint(update)
        except EngineError as error:
            level = _log.debug if error.code == "closed" else _log.error
            level("endpoint not updated", pool=member.pool, backend=update["id"], reason=str(error))

    def _pool_update(self, pool: str) -> PoolUpdate | None:
        wanted = self._wanted
        if wanted is None or pool not in wanted.pools:
            return None
        states = self.runtime.states(self.members, time.monotonic(), pool)
        update = compile_pool_update(wanted.pools[pool], states, self.runtime.address_lists())
        self._note_panic(pool, update["panic"])
        return update

    def _mark_panicking(self, pool: str) -> None:
        """After an ejection began or ended: look again whether enough members are usable."""
        wanted = self._wanted
        if wanted is not None and pool in wanted.pools and given(wanted.pools[pool].panic).below:
            self._pickers.mark(pool)

    def _note_panic(self, pool: str, panic: Panic | None) -> None:
        if panic == self.panics.get(pool):
            return
        level: Level
        if panic is None:
            del self.panics[pool]
            event, reason, level = "panic over", "enough backends are usable", "info"
        else:
            self.panics[pool] = panic
            does = "all are used" if panic == "use_all" else "all requests are refused"
            event, reason, level = "panic", f"too few backends are usable: {does}", "warning"
        self._decisions.record("panic", event, reason, level=level, pool=pool)


@dataclass(slots=True)
class Swap:
    """One plan on its way; its methods run in the controller's thread."""

    _engine: Engine
    _admin_socket: str
    _sticky_key: bytes
    wanted: Wanted
    _before: tuple[Wanted | None, int, Runtime]
    _runtime: Runtime
    new_ramps: Mapping[Key, float]
    whole: bool
    """Whether the plan has to be told as a whole."""
    revision: int = 0
    panics: Mapping[str, Panic | None] = field(default_factory=dict)
    """By pool, as the plan has them."""

    def put_in_force(self, revision: int) -> ApplyReport:
        """Compile the plan and have the engine swap to it."""
        self.revision = revision
        if self.whole or self.wanted.splice is None:
            return self._apply(self.wanted, revision, self._runtime)
        change = compile_members_change(
            self.wanted.splice,
            revision=revision,
            state=self._runtime.states(self.wanted.members.all, time.monotonic()),
            addresses=self._runtime.address_lists(),
        )
        self.panics = {change["pool"]: change["panic"]}
        return self._engine.change_members(change)

    def undo(self) -> ApplyReport:
        """Put the plan of before in force again; before the first there is none to go back to."""
        wanted, revision, runtime = self._before
        if wanted is None:
            return {"revision": 0, "listeners": {}, "endpoints_added": 0, "endpoints_removed": 0}
        # With the verdicts of before: those of members that were to go are forgotten in the other.
        return self._apply(wanted, revision, runtime)

    def _apply(self, wanted: Wanted, revision: int, runtime: Runtime) -> ApplyReport:
        plan = compile_plan(
            wanted.config,
            revision=revision,
            state=runtime.states(wanted.members.all, time.monotonic()),
            addresses=runtime.address_lists(),
            admin_socket=self._admin_socket,
            sticky_key=self._sticky_key,
            material=wanted.material,
            fleet_seed=wanted.fleet_seed,
            buffer_bytes=default_buffer_bytes(),
        )
        self.panics = {
            pool["name"]: pool["panic"] for pool in plan["pools"] if pool["name"] in wanted.pools
        }
        return self._engine.apply(plan)
