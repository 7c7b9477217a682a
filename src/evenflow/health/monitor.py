"""Active health checks: schedules probes, judges results, reports verdicts.

One timer serves all backends: every `TICK_S` the checks that are due go to the engine as one
batch, which does their I/O; the results come back as events. There is no timer per backend, and a
task only for a check that speaks a protocol, while it does.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Final, Protocol

import structlog

from evenflow.config import HealthCheck
from evenflow.controller import Controller, Key, Member, Verdict
from evenflow.engine import EngineError, Probe, ProbeResult
from evenflow.health.dialogue import Dialogue, Dialogues, ProxyVersion
from evenflow.health.dns import DnsCheck
from evenflow.health.encrypted import EncryptedCheck
from evenflow.health.http import HttpCheck
from evenflow.health.mysql import MysqlCheck
from evenflow.health.postgresql import PostgresqlCheck
from evenflow.health.redis import RedisCheck
from evenflow.health.schedule import Schedule
from evenflow.health.tcp import TcpCheck
from evenflow.health.tls import TlsCheck
from evenflow.health.verdict import CheckResult, Standing, Thresholds, judge

TICK_S: Final = 0.05
LOST_AFTER_S: Final = 10.0
"""A probe without a result this long after its timeout counts as lost and is made again."""
TELL_EVERY_S: Final = 60.0
"""Checks that cannot be made for want of sockets are told of so often."""

_log = structlog.get_logger("evenflow.health")


class Check(Protocol):
    """One kind of check on one backend, with the engine's I/O."""

    def probe(self, id: int, addresses: Sequence[str]) -> Probe:
        """What the engine is to do."""

    def judge(self, result: ProbeResult) -> CheckResult:
        """What came of it."""


def check_of(member: Member) -> Check | Dialogue:
    """The check a backend's configuration asks for."""
    config, target = member.health_check, member.backend.target
    # Another port than the traffic's is another server's, which expects no header.
    own_port = config.port is None
    send_proxy = member.send_proxy if own_port else None
    match config.kind:
        case "tcp":
            return TcpCheck.of(config, send_proxy)
        case "tls" if EncryptedCheck.serves(config, target):
            return EncryptedCheck.of(config, send_proxy)
        case "tls":
            return TlsCheck.of(config, target, send_proxy)
        case "dns":
            return DnsCheck.of(config)
        case "postgresql":
            return PostgresqlCheck.of(config, send_proxy)
        case "mysql":
            return MysqlCheck.of(config, send_proxy)
        case "redis":
            return RedisCheck.of(config, send_proxy)
        case "http" | "auto":
            return HttpCheck.of(config, target, send_proxy, http2=member.http2 and own_port)


@dataclass(slots=True, eq=False)
class Target:
    """A backend under watch. Compared by identity: a replaced one is another target."""

    key: Key
    url: str
    config: HealthCheck
    send_proxy: ProxyVersion
    http2: bool
    check: Check | Dialogue
    thresholds: Thresholds
    standing: Standing = field(default_factory=Standing)
    since: float = 0.0
    passed: int = 0
    failed: int = 0

    @classmethod
    def of(cls, member: Member) -> Target:
        """The target for a member."""
        config = member.health_check
        return cls(
            key=member.key,
            url=member.backend.url,
            config=config,
            send_proxy=member.send_proxy,
            http2=member.http2,
            check=check_of(member),
            thresholds=Thresholds(config.healthy_threshold, config.unhealthy_threshold),
        )


class HealthMonitor:
    """Watches the members of a controller from `start` to `close`. Used on its event loop."""

    def __init__(self, controller: Controller, random: Random | None = None) -> None:
        self._controller = controller
        # Jitter only keeps checks apart; nobody gains by guessing it.
        self._schedule: Schedule[Target] = Schedule(random or Random())  # noqa: S311
        self._targets: dict[Key, Target] = {}
        self._members: dict[Key, Member] = {}
        self._ids = itertools.count(1)
        self._waiting: dict[int, tuple[Target, float]] = {}
        """Probes under way, by id: whose, and when to give the result up."""
        self._dialogues = Dialogues()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._sweep_at = 0.0
        self._told_at = 0.0
        self._running = False

    def start(self) -> None:
        """Begin to check, the first time at once."""
        self._running = True
        self._controller.on_members_changed(self.sync)
        self._controller.on_probe_result(self._take)
        self.sync()

    def close(self) -> None:
        """Stop checking; verdicts stay as they are."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._dialogues.close()

    def sync(self) -> None:
        """Follow the members in force.

        Newcomers are checked at once, and those whose check changed; all others keep their
        standing and their place in the schedule.
        """
        if not self._running:
            return
        members = self._controller.members
        fresh: list[Target] = []
        for key in [key for key in self._targets if key not in members]:
            self._drop(key)
        for key, member in members.items():
            if self._members.get(key) is member:
                continue
            self._members[key] = member
            known = self._targets.get(key)
            if not member.health_check.enabled:
                self._drop(key)
                self._members[key] = member
                if self._controller.runtime.verdicts.get(key) is not None:
                    self._controller.set_verdict(key, Verdict(reason="health checks are off"))
                continue
            if known is None or known.url != member.backend.url:
                fresh.append(self._replace(known, Target.of(member)))
            elif (known.config, known.send_proxy, known.http2) != (
                member.health_check,
                member.send_proxy,
                member.http2,
            ):
                target = Target.of(member)
                target.standing = Standing(known.standing.status)
                target.since, target.passed, target.failed = known.since, known.passed, known.failed
                fresh.append(self._replace(known, target))
        self._schedule.add(fresh, time.monotonic())
        self._arm()

    def _replace(self, old: Target | None, new: Target) -> Target:
        if old is not None:
            self._schedule.remove(old)
        self._targets[new.key] = new
        return new

    def _drop(self, key: Key) -> None:
        self._members.pop(key, None)
        if (target := self._targets.pop(key, None)) is not None:
            self._schedule.remove(target)

    # Probes out.

    def _arm(self) -> None:
        at = self._schedule.next_at()
        if at is None or not self._running:
            return
        now = time.monotonic()
        # Rounded up to the tick, so that checks due close together go out together.
        at = max(at, now) + TICK_S if at > now else now
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_later(max(0.0, at - now), self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = time.monotonic()
        if now >= self._sweep_at:
            self._sweep(now)
        self._submit(self._schedule.due(now), now)
        self._arm()

    def _submit(self, due: Iterable[Target], now: float) -> None:
        runtime = self._controller.runtime
        probes: list[Probe] = []
        for target in due:
            member = self._members.get(target.key)
            addresses = runtime.addresses(member) if member is not None else ()
            if not addresses:
                # Without an address it is unusable anyway; the next interval asks again.
                self._schedule.again(target, now, min(5.0, target.config.interval))
                continue
            check = target.check
            if isinstance(check, Dialogue):
                self._dialogues.start(check, addresses[0], partial(self._heard, target))
                continue
            number = next(self._ids)
            self._waiting[number] = target, now + target.config.timeout + LOST_AFTER_S
            probe = check.probe(number, addresses)
            probe["endpoint"] = {"pool": target.key[0], "backend": target.key[1]}
            encrypted = probe["http"] is not None or isinstance(check, EncryptedCheck)
            probe["encrypted"] = member is not None and member.backend.target.is_tls and encrypted
            probes.append(probe)
        if not probes:
            return
        try:
            self._controller.engine.submit_probes(probes)
        except EngineError as error:
            _log.error("probes not submitted", count=len(probes), reason=str(error))
            for probe in probes:
                target, _ = self._waiting.pop(probe["id"])
                self._schedule.again(target, now, target.config.interval)

    def _sweep(self, now: float) -> None:
        """Schedule again whose probe's result never came; a full event queue drops some."""
        self._sweep_at = now + LOST_AFTER_S
        lost = [number for number, (_, until) in self._waiting.items() if until <= now]
        for number in lost:
            target, _ = self._waiting.pop(number)
            if self._targets.get(target.key) is target:
                self._schedule.again(target, now, TICK_S)

    # Results in.

    def _take(self, results: list[ProbeResult]) -> None:
        if not self._running:
            return
        now, wall = time.monotonic(), time.time()
        for result in results:
            target, _ = self._waiting.pop(result["id"], (None, 0.0))
            if target is None or isinstance(target.check, Dialogue):
                continue
            none = result["outcome"] == "no_socket"
            self._settle(target, None if none else target.check.judge(result), now, wall)
        self._arm()

    def _heard(self, target: Target, found: CheckResult | None) -> None:
        if self._running:
            self._settle(target, found, time.monotonic(), time.time())
            self._arm()

    def _settle(self, target: Target, found: CheckResult | None, now: float, wall: float) -> None:
        if self._targets.get(target.key) is not target:
            return
        if found is None:
            self._not_made(now)
            self._schedule.again(target, now, target.config.interval)
            return
        before = target.standing.status
        target.standing = judge(target.standing, found, target.thresholds)
        target.passed += found.passed
        target.failed += not found.passed
        changed = target.standing.status != before
        if changed:
            target.since = wall
        self._controller.set_verdict(target.key, self._verdict(target, found, changed, wall))
        self._schedule.again(target, now, target.config.interval)

    def _not_made(self, now: float) -> None:
        """Tell, now and then, of checks that were not made, which say nothing of the backends."""
        if now >= self._told_at:
            self._told_at = now + TELL_EVERY_S
            _log.warning("health checks not made: this machine has no socket left for them")

    def _verdict(self, target: Target, found: CheckResult, changed: bool, wall: float) -> Verdict:
        reason = found.reason
        against = (target.standing.status == "healthy") != found.passed
        if against:
            row = target.standing.contrary
            needed = target.thresholds.healthy if found.passed else target.thresholds.unhealthy
            reason = f"{reason} ({row} in a row, {needed} change the verdict)"
        return Verdict(
            status=target.standing.status,
            reason=reason,
            since=target.since,
            checked_at=wall,
            checks_passed=target.passed,
            checks_failed=target.failed,
        )
