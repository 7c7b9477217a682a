"""Certificates in force: told when their files change, and when they are about to expire."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import structlog

from evenflow.certs import Material, Pair, RevocationList, Stamp, day, stamp
from evenflow.config import ConfigError
from evenflow.controller.acme import AcmeStatus
from evenflow.controller.decisions import Decisions
from evenflow.engine import EngineError

POLL_S: Final = 1.0
WARN_DAYS: Final = (30, 14, 7, 1)
_DAY_S: Final = 86_400.0

_log = structlog.get_logger("evenflow.certificates")


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """What may be shown of a certificate."""

    name: str
    domains: tuple[str, ...]
    subject: str
    issuer: str
    not_before: float
    not_after: float
    fingerprint: str
    key: str
    ocsp_until: float | None
    """Until when the stapled OCSP response holds; None where none is stapled or it names no end."""
    ocsp_problem: str | None
    """Why the OCSP response is not stapled."""
    acme: AcmeStatus | None
    """How its orders go, where it comes from an authority."""


class _Owner(Protocol):
    """What the controller does for it."""

    decisions: Decisions

    async def renew_material(self, *, source: str) -> object:
        """Read all files again."""


class Certificates:
    """Watches the files of what is in force. Used on one event loop."""

    def __init__(
        self,
        owner: _Owner,
        material: Callable[[], Material],
        ordered: Callable[[], Mapping[str, AcmeStatus]],
    ) -> None:
        self._owner = owner
        self._material = material
        self._ordered = ordered
        # The last step of `WARN_DAYS` that was logged, by fingerprint.
        self._warned: dict[str, int] = {}
        # OCSP responses whose nearing end was logged.
        self._late: set[bytes] = set()
        # Revocation lists that were told to be overdue, by file.
        self._overdue: set[tuple[str, RevocationList]] = set()
        self.missing: frozenset[str] = frozenset()
        """Files in force that are not there now."""

    def statuses(self) -> list[CertificateStatus]:
        """What is in force."""
        now, ordered = time.time(), self._ordered()
        return [
            CertificateStatus(
                pair.name,
                pair.domains,
                pair.subject,
                pair.issuer,
                pair.not_before,
                pair.not_after,
                pair.fingerprint,
                pair.key_kind,
                _staple_until(pair, now),
                pair.staple.fault(now) if pair.staple is not None else None,
                ordered.get(pair.name),
            )
            for pair in self._material().pairs.values()
        ]

    def revocation_lists_due(self) -> dict[tuple[str, str], float]:
        """By file and issuer, when the next revocation list is due, in Unix seconds."""
        found: dict[tuple[str, str], float] = {}
        for file, lists in self._material().revocations.items():
            for each in lists:
                if each.due is not None:
                    place = (file, each.issuer)
                    found[place] = min(each.due, found.get(place, math.inf))
        return found

    async def changed(self) -> bool:
        """Whether a file is not as it was when it was read, or a staple holds no longer."""
        material = self._material()
        return bool(material.stamps) and await asyncio.to_thread(material.stale)

    async def watch(self) -> None:
        """For ever: read files again that changed and then rested, and warn of expiry."""
        seen: dict[str, Stamp] = {}
        refused: dict[str, Stamp] | None = None
        kept: Material | None = None
        while True:
            await asyncio.sleep(POLL_S)
            material = self._material()
            self._warn(material, time.time())
            self._warn_of_staples(material, time.time())
            self._warn_of_lists(material, time.time())
            if material is not kept and material.staples_changed():
                # Taken out, or in, by a plan that is compiled anew.
                kept = None if await self._renew() else material
                continue
            if not material.stamps:
                continue
            before, seen = seen, await asyncio.to_thread(_stamps, material)
            self.missing = frozenset(path for path, found in seen.items() if found is None)
            # Half-written files are left alone until their writer rests, and missing ones waited
            # for; what was refused is not tried again until it changes.
            if seen == material.stamps or seen != before or None in seen.values():
                continue
            if seen != refused:
                refused = None if await self._renew() else seen

    async def _renew(self) -> bool:
        try:
            await self._owner.renew_material(source="file")
        except (ConfigError, EngineError) as error:
            _log.error("files not reloaded, the old ones serve on", reason=str(error))
            return False
        return True

    def _warn(self, material: Material, now: float) -> None:
        for pair in material.pairs.values():
            left = (pair.not_after - now) / _DAY_S
            steps = [days for days in (*WARN_DAYS, 0) if left <= days]
            if not steps or self._warned.get(pair.fingerprint) == steps[-1]:
                continue
            self._warned[pair.fingerprint] = steps[-1]
            expired = left <= 0
            self._owner.decisions.record(
                "certificate",
                "certificate expired" if expired else "certificate expires soon",
                f"{pair.name} {'expired' if expired else 'expires'} on {day(pair.not_after)}",
                level="error" if expired else "warning",
                certificate=pair.name,
                days_left=int(left),
            )
        known = {pair.fingerprint for pair in material.pairs.values()}
        self._warned = {print_: step for print_, step in self._warned.items() if print_ in known}

    def _warn_of_staples(self, material: Material, now: float) -> None:
        staples = {
            name: pair.staple for name, pair in material.pairs.items() if name in material.stapled
        }
        for name, staple in staples.items():
            if staple is None or not staple.late(now) or staple.response in self._late:
                continue
            self._late.add(staple.response)
            self._owner.decisions.record(
                "certificate",
                "OCSP response ends soon",
                f"that of {name} holds until {day(staple.until)}; write a new one",
                level="warning",
                certificate=name,
            )
        self._late &= set(material.stapled.values())

    def _warn_of_lists(self, material: Material, now: float) -> None:
        overdue = {
            (file, each)
            for file, lists in material.revocations.items()
            for each in lists
            if each.overdue(now)
        }
        for file, each in sorted(overdue - self._overdue, key=str):
            self._owner.decisions.record(
                "certificate",
                "revocation list overdue",
                f"{file}: {each}; this one is gone by",
                level="warning",
                file=file,
                issuer=each.issuer,
            )
        self._overdue = overdue


def _staple_until(pair: Pair, now: float) -> float | None:
    staple = pair.staple
    if staple is None or staple.fault(now) is not None or math.isinf(staple.until):
        return None
    return staple.until


def _stamps(material: Material) -> dict[str, Stamp]:
    return {path: stamp(Path(path)) for path in material.stamps}
