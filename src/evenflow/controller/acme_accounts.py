"""Accounts with authorities: opened once, kept, and shared by all certificates that name the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from evenflow.certs.acme.proofs import Proof
from evenflow.certs.acme.store import Account, load_account, save_account
from evenflow.config.acme import Acme
from evenflow.controller.decisions import Decisions

if TYPE_CHECKING:
    from evenflow.certs.acme.session import Session

_log = structlog.get_logger("evenflow.acme")

_Key = tuple[str, str | None, str | None]


@dataclass(slots=True)
class _Known:
    """An account in use."""

    account: Account
    session: Session
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while it is opened, so that no two orders open it."""


class Accounts:
    """All accounts in use. Used on one event loop."""

    def __init__(self, folder: Path | None, decisions: Decisions) -> None:
        """Keep accounts in `folder`; without one only until the end."""
        self._folder = folder
        self._decisions = decisions
        self._known: dict[_Key, _Known] = {}

    def keep_only(self, used: Iterable[Acme]) -> None:
        """Forget the accounts of others; what is kept on disk stays there."""
        keys = set(map(_key, used))
        self._known = {key: each for key, each in self._known.items() if key in keys}

    async def open(self, acme: Acme) -> Session:
        """The account for a certificate, opened where there is none; raises `AcmeError`."""
        # Not before they are needed: they bring cryptography with them.
        from evenflow.certs.acme.session import open_account
        from evenflow.controller.ordering import carry_out

        known = self._known.get(_key(acme))
        if known is None:
            made = await asyncio.to_thread(self._begin, acme)
            known = self._known.setdefault(_key(acme), made)
        session = known.session
        async with known.lock:
            if session.kid is None:
                # Its key first: an account whose key is lost cannot be used again.
                await self._keep(known.account)
            before = session.kid
            terms = await carry_out(open_account(session, acme, acme.directory_url), acme, _nothing)
            if session.kid != before:
                told = f"; its terms of service are agreed to: {terms}" if terms else ""
                text = f"with {acme.directory_url}{told}"
                self._decisions.record("certificate", "account opened", text)
                known.account = Account(*_key(acme), known.account.key_pem, session.kid)
                await self._keep(known.account)
        return session

    def _begin(self, acme: Acme) -> _Known:
        from evenflow.certs.acme.jws import key_pem, new_key, read_key
        from evenflow.certs.acme.session import Session

        try:
            kept = load_account(self._folder, acme) if self._folder is not None else None
            if kept is not None:
                return _Known(kept, Session(read_key(kept.key_pem), kept.url))
        except (OSError, ValueError) as error:
            _log.error("kept account not used", directory=acme.directory_url, reason=str(error))
        key = new_key()
        return _Known(Account(*_key(acme), key_pem(key)), Session(key))

    async def _keep(self, account: Account) -> None:
        if self._folder is None:
            return
        try:
            await asyncio.to_thread(save_account, self._folder, account)
        except OSError as error:
            # It is of use all the same, until the end of this process.
            _log.error("account not kept", directory=account.directory, reason=str(error))


def _key(acme: Acme) -> _Key:
    external = acme.external_account
    return acme.directory_url, acme.email, external.key_id if external is not None else None


async def _nothing(_proofs: tuple[Proof, ...]) -> None:
    """An account needs no proofs."""
