"""All that the metrics page tells, as one value."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from evenflow.controller import AcmeStatus, SourceStatus
from evenflow.engine import Snapshot
from evenflow.observe.process import ProcessUsage


@dataclass(frozen=True, slots=True)
class ClusterView:
    """What the page tells of the cluster."""

    up: bool
    nodes: int
    messages: Mapping[str, int]
    """Messages about limits of the fleet, by what became of them."""
    untold: int


@dataclass(frozen=True, slots=True)
class View:
    """All that the page tells."""

    snapshot: Snapshot
    process: ProcessUsage
    version: str
    python: str
    route_pools: Mapping[str, Collection[str]]
    """Each configured route and its pools."""
    health_checks: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    """Health checks of each pool's backend that passed, and that failed."""
    applies: Mapping[str, int] = field(default_factory=dict)
    """Configurations put in force (`ok`), or refused (`failed`)."""
    reloads: Mapping[str, int] = field(default_factory=dict)
    """Reloads: `ok`, `unchanged` or `failed`."""
    last_reload_failed: bool = False
    busy_ratios: Mapping[int, float] = field(default_factory=dict)
    """The share of its time each worker was busy of late."""
    panicking: Collection[str] = ()
    """Pools of which too few backends are usable."""
    breakers: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """The state of each circuit breaker by pool and backend; an empty one is the pool itself."""
    breaker_transitions: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    """How often a breaker (by pool and backend) became what."""
    hedge_delays: Mapping[str, float] = field(default_factory=dict)
    """How long hedged routes wait before a further try, in seconds."""
    lost_log_lines: int = 0
    admin_refused: Mapping[str, int] = field(default_factory=dict)
    """Requests to the admin API that were refused, by what was wrong."""
    audited: Mapping[str, int] = field(default_factory=dict)
    """Entries of the audit log: `written`, or `failed`."""
    certificates: Mapping[str, float] = field(default_factory=dict)
    """When each certificate expires, in Unix seconds."""
    acme: Mapping[str, AcmeStatus] = field(default_factory=dict)
    """How the certificates stand that are ordered from an authority."""
    address_lists: Mapping[str, tuple[int, float, int]] = field(default_factory=dict)
    """By path the networks in the file of an address list, when it was read last, and how often it
    was refused."""
    staples: Mapping[str, float] = field(default_factory=dict)
    """When each stapled OCSP response ends, in Unix seconds."""
    revocation_lists: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """By file and issuer, when the next revocation list is due, in Unix seconds."""
    keys: Mapping[str, int] = field(default_factory=dict)
    """How many public keys each filter for tokens has."""
    keys_refreshed: Mapping[str, float] = field(default_factory=dict)
    """When they were read last, in Unix seconds."""
    discovery: Sequence[SourceStatus] = ()
    """The sources of endpoints."""
    key_fetches: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Fetches of key sets by filter and result (`ok`, `failed`)."""
    cluster: ClusterView | None = None
