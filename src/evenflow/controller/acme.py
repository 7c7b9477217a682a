"""Certificates that an authority issues: ordered when missing, renewed in time, tried again.

What is there at a start is taken from the state folder; until there is something, a certificate
that vouches for itself serves, so that no listener has to wait. How an order goes is decided in
`evenflow.certs.acme`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol

import structlog

from evenflow.certs import Material, Ordered, Pair, day, read_pair, self_signed
from evenflow.certs.acme.messages import AcmeError
from evenflow.certs.acme.proofs import Proof
from evenflow.certs.acme.store import Held, load_held, save_held
from evenflow.config import Config, ConfigError
from evenflow.config.acme import Acme
from evenflow.controller.acme_accounts import Accounts
from evenflow.controller.decisions import Decisions
from evenflow.controller.errors import NotOrdered
from evenflow.controller.tasks import OwnedTasks
from evenflow.engine import EngineError

TICK_S: Final = 0.25
AT_ONCE: Final = 4
"""Orders under way at the same time."""
ATTEMPT_S: Final = 900.0
"""An order that takes longer has failed."""
LIFE_BEFORE_RENEWAL: Final = 2 / 3
SPREAD: Final = 1 / 30
"""The part of its life by which a certificate is renewed earlier at random: many that were issued
together are not renewed together."""
LONGEST_WAIT_S: Final = 6 * 3600.0
ATTEMPTS_IN_LIFE: Final = 30
LONGEST_ASKED_WAIT_S: Final = 7 * 86_400.0
"""How long an authority may ask to be left alone."""

_log = structlog.get_logger("evenflow.acme")


@dataclass(frozen=True, slots=True)
class AcmeStatus:
    """How a certificate that is ordered stands. Times are Unix seconds."""

    state: Literal["issued", "stand_in"]
    """`stand_in`: there is none yet; one that vouches for itself serves."""
    directory: str
    domains: tuple[str, ...]
    challenge: str
    ordering: bool
    next_attempt: float
    error: str | None
    """Why the last order failed."""
    failures: int
    """In a row."""
    orders: Mapping[str, int]
    """`ok` and `failed`, since the start."""


@dataclass(slots=True, eq=False)
class _Entry:
    """One certificate."""

    name: str
    acme: Acme
    pair: Pair
    """What is to serve; at first a stand-in."""
    stand_in: Pair
    held: Held | None = None
    """What `pair` was issued as; None for a stand-in."""
    early: float = 0.0
    """The part of its life by which it is renewed before its time."""
    proofs: tuple[Proof, ...] = ()
    due: float = 0.0
    wanted: bool = False
    """A new one is asked for, whatever there is."""
    error: str | None = None
    failures: int = 0
    orders: dict[str, int] = field(default_factory=lambda: {"ok": 0, "failed": 0})
    task: asyncio.Task[None] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set at the end of the order that is due or under way; there is one for each."""

    def take(self, held: Held) -> None:
        self.pair = read_pair(self.name, held.chain_pem, held.key_pem)
        self.held = held
        self.early = random.uniform(0, SPREAD)  # noqa: S311 - no secret

    def renewal(self) -> float:
        """When a new one is ordered, as far as this one tells."""
        if self.held is None or not self.held.fits(self.acme):
            return 0.0
        life = self.pair.not_after - self.pair.not_before
        return self.pair.not_before + life * (LIFE_BEFORE_RENEWAL - self.early)

    def longest_wait(self) -> float:
        """The longest time between two attempts: there must be several before it expires."""
        if self.held is None:
            return LONGEST_WAIT_S
        life = self.pair.not_after - self.pair.not_before
        return min(LONGEST_WAIT_S, life / ATTEMPTS_IN_LIFE)


class _Owner(Protocol):
    """What the controller does for it."""

    decisions: Decisions

    async def renew_material(self, *, source: str) -> object:
        """Put anew in force what there is of certificates."""


class AcmeCertificates:
    """All certificates that are ordered. Used on one event loop."""

    def __init__(
        self, owner: _Owner, material: Callable[[], Material], folder: Path | None
    ) -> None:
        """Keep accounts and certificates in `folder`; without one only until the end."""
        self._owner = owner
        self._material = material
        self._folder = folder
        self._entries: dict[str, _Entry] = {}
        self._followed: dict[str, Acme] = {}
        self._accounts = Accounts(folder, owner.decisions)
        self._left_over = False
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks = OwnedTasks()

    # What there is.

    async def first(self, config: Config) -> None:
        """Make ready what a configuration in full form names and was not there before."""
        for name, acme in _ordered(config).items():
            entry = self._entries.get(name)
            if entry is None:
                self._entries[name] = await asyncio.to_thread(self._begin, name, acme)
            elif entry.held is None and entry.pair.domains != tuple(acme.domains):
                entry.pair = entry.stand_in = await asyncio.to_thread(_stand_in, name, acme)

    def ordered(self, config: Config) -> Ordered:
        """What there is for a configuration in full form."""
        names = _ordered(config).keys()
        entries = [each for name, each in self._entries.items() if name in names]
        return Ordered(
            {each.name: each.pair for each in entries},
            tuple(proof for each in entries for proof in each.proofs),
        )

    def warnings(self, config: Config) -> list[str]:
        """What is to be told of a configuration in full form."""
        names = _ordered(config)
        if not names or self._folder is not None:
            return []
        text = "is kept in memory only, so every start orders a new one, which authorities limit"
        return [f"certificates.{name}.acme: {text}; see `state.store`" for name in names]

    def changed(self) -> bool:
        """Whether there is something else than what is in force."""
        material = self._material()
        return material.proofs != self._proofs() or any(
            material.pairs.get(name) != self._entries[name].pair for name in self._followed
        )

    def statuses(self) -> dict[str, AcmeStatus]:
        """How each stands, by name."""
        in_force = self._material().pairs
        return {name: _status(self._entries[name], in_force.get(name)) for name in self._followed}

    def _proofs(self) -> tuple[Proof, ...]:
        return tuple(
            proof
            for name, each in self._entries.items()
            if name in self._followed
            for proof in each.proofs
        )

    def _begin(self, name: str, acme: Acme) -> _Entry:
        pair = _stand_in(name, acme)
        entry = _Entry(name, acme, pair, pair)
        try:
            held = load_held(self._folder, name) if self._folder is not None else None
            if held is not None:
                entry.take(held)
        except (OSError, ValueError) as error:
            _log.error("kept certificate not used", certificate=name, reason=str(error))
        return entry

    # What is wanted.

    def follow(self, config: Config) -> None:
        """Take a configuration in full form that came into force; work for others ends."""
        before, self._followed = self._followed, _ordered(config)
        for name in self._entries.keys() - self._followed.keys():
            self._stop(self._entries.pop(name))
        self._accounts.keep_only(self._followed.values())
        for name, acme in self._followed.items():
            entry = self._entries[name]
            if before.get(name) == acme:
                continue
            self._stop(entry)
            entry.acme, entry.failures, entry.error, entry.wanted = acme, 0, None, False
            entry.due = entry.renewal()
            if entry.held is None:
                self._owner.decisions.record(
                    "certificate",
                    "stand-in certificate serves",
                    f"there is none for {name} yet; it is ordered from {acme.directory_url}",
                    level="warning",
                    certificate=name,
                )

    async def renew(self, name: str, *, wait_s: float = 0.0) -> None:
        """Order a new one now, or have the order that is under way; at most `wait_s` is waited.

        Raises `NotOrdered` where no such certificate is ordered.
        """
        entry = self._entries.get(name)
        if entry is None or name not in self._followed:
            raise NotOrdered(name)
        if entry.task is None:
            entry.wanted, entry.due = True, 0.0
        try:
            async with asyncio.timeout(wait_s):
                await entry.ended.wait()
        except TimeoutError:
            return

    def _stop(self, entry: _Entry) -> None:
        if entry.task is not None:
            entry.task.cancel()
        if entry.proofs:
            # They may still be in force; nobody else takes them out.
            entry.proofs, self._left_over = (), True

    async def watch(self) -> None:
        """For ever: order what is due."""
        try:
            while True:
                await asyncio.sleep(TICK_S)
                if self._left_over:
                    self._left_over = False
                    self._tasks.start(self._tidy(), "take back proofs")
                now = time.time()
                for name in self._followed:
                    entry = self._entries[name]
                    if entry.due <= now and entry.task is None:
                        entry.task = self._tasks.start(self._attempt(entry), f"order {name}")
        finally:
            await self._tasks.close(1.0)

    async def _tidy(self) -> None:
        try:
            await self._owner.renew_material(source="acme")
        except (ConfigError, EngineError) as error:
            _log.error("old proofs are still shown", reason=str(error))

    # One attempt.

    async def _attempt(self, entry: _Entry) -> None:
        try:
            async with self._slots, asyncio.timeout(ATTEMPT_S):
                if entry.wanted or entry.renewal() <= time.time():
                    await self._order(entry)
                if self.changed():
                    await self._owner.renew_material(source="acme")
        except TimeoutError:
            self._failed(entry, AcmeError(f"not over within {ATTEMPT_S:g} s"))
        except AcmeError as error:
            self._failed(entry, error)
        except (ConfigError, EngineError) as error:
            self._failed(entry, AcmeError(f"not in force: {error}"))
        except Exception as error:  # noqa: BLE001 - tried again, and not four times a second
            _log.error("order failed", certificate=entry.name, exc_info=error)
            self._failed(entry, AcmeError(f"{type(error).__name__}: {error}"))
        else:
            self._succeeded(entry)
        finally:
            entry.task = None
            entry.ended.set()
            entry.ended = asyncio.Event()

    async def _order(self, entry: _Entry) -> None:
        # Not before they are needed: they bring cryptography with them.
        from evenflow.certs.acme.order import Wanted, obtain
        from evenflow.certs.acme.session import AccountGone
        from evenflow.controller.ordering import carry_out

        acme = entry.acme

        async def show(proofs: tuple[Proof, ...]) -> None:
            entry.proofs = proofs
            await self._owner.renew_material(source="acme")

        try:
            session = await self._accounts.open(acme)
            wanted = Wanted(tuple(acme.domains), acme.challenge)
            try:
                chain, key = await carry_out(obtain(session, wanted), acme, show)
            except AccountGone:
                session.kid = None
                session = await self._accounts.open(acme)
                chain, key = await carry_out(obtain(session, wanted), acme, show)
        finally:
            if entry.proofs:
                entry.proofs, self._left_over = (), True
        held = Held(acme.directory_url, tuple(acme.domains), chain, key)
        entry.take(held)
        entry.wanted = False
        await self._keep(entry.name, held)

    async def _keep(self, name: str, held: Held) -> None:
        if self._folder is None:
            return
        try:
            await asyncio.to_thread(save_held, self._folder, name, held)
        except OSError as error:
            # It serves all the same, until the end of this process.
            _log.error("certificate not kept", certificate=name, reason=str(error))

    def _succeeded(self, entry: _Entry) -> None:
        entry.error, entry.failures = None, 0
        entry.orders["ok"] += 1
        entry.due = max(entry.renewal(), time.time() + entry.acme.retry_after)
        self._owner.decisions.record(
            "certificate",
            "certificate issued",
            f"{entry.name} holds until {day(entry.pair.not_after)}, issued by {entry.pair.issuer}; "
            f"to be renewed on {day(entry.due)}",
            certificate=entry.name,
            domains=list(entry.acme.domains),
        )

    def _failed(self, entry: _Entry, error: AcmeError) -> None:
        entry.error = str(error)
        entry.failures += 1
        entry.orders["failed"] += 1
        wait = entry.acme.retry_after * 2.0 ** min(entry.failures - 1, 16)
        wait = min(wait, max(entry.acme.retry_after, entry.longest_wait()))
        # Spread, so that many balancers do not come back to the authority at once.
        wait *= random.uniform(0.9, 1.1)  # noqa: S311 - no secret
        if error.retry_after_s is not None:
            wait = max(wait, min(error.retry_after_s, LONGEST_ASKED_WAIT_S))
        entry.due = time.time() + wait
        serving = "the old one serves on" if entry.held is not None else "a stand-in serves"
        self._owner.decisions.record(
            "certificate",
            "certificate not issued",
            f"{entry.name}: {error}; {serving}; tried again in {wait:.0f} s",
            level="warning",
            certificate=entry.name,
            failures=entry.failures,
        )


def _ordered(config: Config) -> dict[str, Acme]:
    return {
        name: certificate.acme
        for name, certificate in config.certificates.items()
        if certificate.acme is not None
    }


def _stand_in(name: str, acme: Acme) -> Pair:
    cert, key = self_signed(list(acme.domains))
    return read_pair(name, cert, key)


def _status(entry: _Entry, in_force: Pair | None) -> AcmeStatus:
    return AcmeStatus(
        "stand_in" if in_force in (None, entry.stand_in) else "issued",
        entry.acme.directory_url,
        tuple(entry.acme.domains),
        entry.acme.challenge,
        entry.task is not None,
        entry.due,
        entry.error,
        entry.failures,
        dict(entry.orders),
    )
