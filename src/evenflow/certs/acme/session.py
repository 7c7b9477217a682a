"""An account with an authority: its directory, its nonces, and requests signed by its key."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from evenflow.config.acme import Acme

from .jws import Key, binding, signed
from .messages import AcmeError, Call, Reply, Steps, checked_url, plain, url_in

NONCES: Final = 16
"""Nonces kept; an authority forgets old ones anyway."""
TRIES: Final = 6
"""How often a request is sent whose nonce is refused."""
_LONGEST_NONCE: Final = 512
_NONCE: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


class AccountGone(AcmeError):
    """The authority does not know the account any more."""


@dataclass(slots=True)
class Session:
    """An account, and where its authority takes requests. One for all certificates of an account."""

    key: Key
    kid: str | None = None
    """The account's address; None before there is one."""
    directory: Mapping[str, Any] = field(default_factory=dict)
    nonces: deque[str] = field(default_factory=lambda: deque(maxlen=NONCES))

    def address(self, member: str) -> str:
        """Where the authority takes a kind of request; raises `AcmeError`."""
        return url_in(self.directory, member)

    def read(self, url: str, *, accept: str = "application/json") -> Steps[Reply]:
        """What is at an address (POST-as-GET, RFC 8555 §6.3)."""
        return self.post(url, None, accept=accept)

    def post(
        self,
        url: str,
        payload: Mapping[str, object] | None,
        *,
        by_key: bool = False,
        accept: str = "application/json",
    ) -> Steps[Reply]:
        """Send a signed request, again where only its nonce was refused; raises `AcmeError`.

        `by_key` names the key itself as the signer, which is for requests about accounts.
        """
        for _ in range(TRIES):
            nonce = self.nonces.popleft() if self.nonces else (yield from self._new_nonce())
            kid = None if by_key else self.kid
            body = signed(self.key, payload, url=url, nonce=nonce, kid=kid)
            reply = yield Call("POST", url, body, accept)
            assert reply is not None
            self._keep_nonce(reply)
            if reply.fine:
                return reply
            error = reply.error()
            if error.kind == "accountDoesNotExist" and not by_key:
                raise AccountGone(str(error), kind=error.kind)
            if error.kind != "badNonce":
                raise error
        raise AcmeError("the authority refused every nonce that it gave", kind="badNonce")

    def _new_nonce(self) -> Steps[str]:
        reply = yield Call("HEAD", self.address("newNonce"))
        assert reply is not None
        self._keep_nonce(reply)
        if not self.nonces:
            text = f"the authority gave no nonce (status {reply.status})"
            raise AcmeError(text, retry_after_s=reply.retry_after_s())
        return self.nonces.popleft()

    def _keep_nonce(self, reply: Reply) -> None:
        nonce = reply.fields.get("replay-nonce", "")
        if nonce and len(nonce) <= _LONGEST_NONCE and _NONCE.issuperset(nonce):
            self.nonces.append(nonce)


def open_account(session: Session, acme: Acme, directory_url: str) -> Steps[str | None]:
    """Learn where the authority takes requests and, where there is none, open the account.

    What comes out is the address of the terms of service that were agreed to in doing so.
    """
    reply = yield Call("GET", directory_url)
    assert reply is not None
    if not reply.fine:
        raise reply.error()
    session.directory = reply.document()
    for member in ("newNonce", "newAccount", "newOrder"):
        session.address(member)
    # Nonces of an earlier time may be forgotten by now.
    session.nonces.clear()
    if session.kid is not None:
        return None
    meta = session.directory.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    terms = meta.get("termsOfService")
    terms = plain(terms) if isinstance(terms, str) else None
    if terms is not None and not acme.terms_agreed:
        raise AcmeError(f"the authority wants its terms agreed to (`terms_agreed`): {terms}")
    if meta.get("externalAccountRequired") is True and acme.external_account is None:
        raise AcmeError("the authority wants an account of its own named (`external_account`)")
    payload = _new_account(session, acme)
    reply = yield from session.post(session.address("newAccount"), payload, by_key=True)
    session.kid = checked_url(reply.fields.get("location"), "location")
    return terms


def _new_account(session: Session, acme: Acme) -> dict[str, object]:
    payload: dict[str, object] = {"termsOfServiceAgreed": acme.terms_agreed}
    if acme.email is not None:
        payload["contact"] = [f"mailto:{acme.email}"]
    if acme.external_account is not None:
        payload["externalAccountBinding"] = binding(
            session.key,
            url=session.address("newAccount"),
            key_id=acme.external_account.key_id,
            mac_key=acme.external_account.mac_key(),
        )
    return payload
