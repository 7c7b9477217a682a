"""What every handler of the admin app has at hand."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from evenflow.admin.access import Token
from evenflow.admin.credentials import Credentials
from evenflow.admin.lockout import Lockout
from evenflow.cluster import Cluster
from evenflow.config import AdminConfig
from evenflow.controller import Controller
from evenflow.engine import verify_password
from evenflow.observe.metrics import BusyRatios
from evenflow.state.audit import AuditLog


@dataclass
class Context:
    """One app's collaborators."""

    controller: Controller
    set_log_level: Callable[[str], None] | None
    """Changes the program log's level at once; `None` where the log is not ours."""
    hosts: Collection[str]
    """DNS names, besides the safe ones, under which local callers may address the balancer."""
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server is about to stop, so that streams end."""
    busy: BusyRatios = field(default_factory=BusyRatios)
    audit: AuditLog = field(default_factory=AuditLog)
    cluster: Cluster | None = None
    refused: Counter[str] = field(
        default_factory=lambda: Counter(credential=0, role=0, place=0, locked=0)
    )
    """Requests refused, by what was wrong."""
    lockout: Lockout = field(default_factory=Lockout)
    credentials: Credentials = field(default_factory=lambda: Credentials(verify_password))
    _tokens_of: AdminConfig | None = None
    _tokens: Sequence[Token] = ()

    @property
    def tokens(self) -> Sequence[Token]:
        """The bearer tokens of the configuration in force."""
        admin = self.controller.config.admin
        if admin is not self._tokens_of:
            self._tokens = [Token.of(t.name, t.role, t.token.value) for t in admin.tokens]
            self._tokens_of = admin
        return self._tokens
