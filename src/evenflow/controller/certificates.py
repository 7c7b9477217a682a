"""Certificates in force: told when their files change, and when they are about to expire."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import structlog

from evenflow.certs import Material, Stamp, day, stamp
from evenflow.config import ConfigError
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


class _Owner(Protocol):
    """What the controller does for it."""

    decisions: Decisions

    async def renew_certificates(self, *, source: str) -> object:
        """Read all files again."""


class Certificates:
    """Watches the files of what is in force. Used on one event loop."""

    def __init__(self, owner: _Owner, material: Callable[[], Material]) -> None:
        self._owner = owner
        self._material = material
        # The last step of `WARN_DAYS` that was logged, by fingerprint.
        self._warned: dict[str, int] = {}

    def statuses(self) -> list[CertificateStatus]:
        """What is in force."""
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
            )
            for pair in self._material().pairs.values()
        ]

    async def changed(self) -> bool:
        """Whether a file is not as it was when it was read, or holds no longer what it did."""
        material = self._material()
        if _outdated(material, time.time()):
            return True
        return bool(material.stamps) and await asyncio.to_thread(material.stale)

    async def watch(self) -> None:
        """For ever: read files again that changed and then rested, and warn of expiry."""
        seen: dict[str, Stamp] = {}
        refused: dict[str, Stamp] | None = None
        while True:
            await asyncio.sleep(POLL_S)
            material = self._material()
            self._warn(material, time.time())
            if _outdated(material, time.time()) and seen != refused:
                # A response that holds no more does harm: clients that ask for one break off.
                refused = None if await self._renew() else seen
                continue
            if not material.stamps:
                continue
            before, seen = seen, await asyncio.to_thread(_stamps, material)
            # Half-written files are left alone until their writer rests, and missing ones waited
            # for; what was refused is not tried again until it changes.
            if seen == material.stamps or seen != before or None in seen.values():
                continue
            if seen != refused:
                refused = None if await self._renew() else seen

    async def _renew(self) -> bool:
        try:
            await self._owner.renew_certificates(source="file")
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


def _outdated(material: Material, now: float) -> bool:
    """Whether something is stapled that holds no longer."""
    return any(
        pair.ocsp is not None and pair.ocsp_until is not None and pair.ocsp_until <= now
        for pair in material.pairs.values()
    )


def _stamps(material: Material) -> dict[str, Stamp]:
    return {path: stamp(Path(path)) for path in material.stamps}
