"""The seam to the Rust engine: its protocol in Python's terms.

This is the only module that imports `evenflow._engine`. Documents cross as JSON; here they become
typed dictionaries. Nothing here decides anything. `evenflow.testing.fake_engine.FakeEngine` follows
the same protocol without a network.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal, NotRequired, Protocol, TypedDict

from evenflow._engine import Engine as _Inner
from evenflow._engine import EngineError, consistent_table, verify_password, write_lines
from evenflow._engine import hash_password as _hash_password
from evenflow.plan import MembersChange, Plan, PoolUpdate

__all__ = [
    "ApplyReport",
    "BreakerChanged",
    "BreakerUpdate",
    "Candidate",
    "DrainReport",
    "Ejected",
    "EndpointSnapshot",
    "EndpointUpdate",
    "Engine",
    "EngineError",
    "Event",
    "ExplainRequest",
    "Explanation",
    "HandshakeFailed",
    "HedgeUpdate",
    "Histogram",
    "HttpProbe",
    "MembersChange",
    "Outcomes",
    "Plan",
    "PoolSnapshot",
    "PoolUpdate",
    "Probe",
    "ProbeResult",
    "Returned",
    "Snapshot",
    "Totals",
    "UnknownKey",
    "consistent_table",
    "hash_password",
    "open_engine",
    "verify_password",
    "write_lines",
]


class ApplyReport(TypedDict):
    """What an apply did."""

    revision: int
    listeners: dict[str, list[str]]
    """Listener name to the addresses really bound, so port 0 shows the port taken."""
    endpoints_added: int
    endpoints_removed: int


class EndpointUpdate(TypedDict):
    """New state of one endpoint; an absent key leaves its value as it is."""

    pool: str
    id: str
    up: NotRequired[bool]
    drain: NotRequired[bool]
    weight: NotRequired[int]
    max_connections: NotRequired[int]
    addresses: NotRequired[list[str]]


class BreakerUpdate(TypedDict):
    """A breaker's state; without `id` that of the pool as a whole."""

    pool: str
    id: str | None
    state: Literal["closed", "open", "half_open", "held"]
    """`held` is closed whatever happens."""
    probes: int
    """How many requests pass while it is half open."""
    for_ms: int | None
    """How long it stays open, where that is known: clients are told so."""


class HedgeUpdate(TypedDict):
    """How long a hedged route waits for a first byte before a further try."""

    route: str
    after_ms: int


class Outcomes(TypedDict):
    """What came of the requests that a breaker saw, since the start."""

    pool: str
    backend: str | None
    requests: int
    failed: int
    slow: int


class Histogram(TypedDict):
    """Counts per bucket, not cumulative; the bounds are the snapshot's `bounds_s`, then +Inf."""

    counts: list[int]
    sum_s: float


class WorkerSnapshot(TypedDict):
    """One worker thread."""

    id: int
    busy_s: float
    restarts: int
    """How often it panicked and began anew, its connections lost."""
    panics: int
    """Panics that cost one connection or request each; the worker served on."""


class ListenerSnapshot(TypedDict):
    """One listener, over all its sockets and workers."""

    name: str
    connections: int
    accepted: int
    rejected: int
    handshakes: dict[str, int]
    """TLS handshakes by how they ended."""


class RequestCount(TypedDict):
    """Requests of one label set; pool and backend are empty where the balancer answered."""

    route: str
    pool: str
    backend: str
    status: int
    count: int


class MethodCount(TypedDict):
    """Requests by method and status."""

    method: str
    status: int
    count: int


class Tunnels(TypedDict):
    """A route's connections that switched to another protocol; bytes as clients see them."""

    active: int
    opened: int
    bytes_received: int
    bytes_sent: int


class RouteSnapshot(TypedDict):
    """One route's request durations and tunnels."""

    route: str
    duration: Histogram
    tunnels: Tunnels


class RouteEvent(TypedDict):
    """How often a route did something besides forwarding."""

    route: str
    event: str
    count: int


class EndpointErrors(TypedDict):
    """An endpoint's failures by kind."""

    connect: int
    reset: int
    timeout: int
    protocol: int
    status_5xx: int


class EndpointSnapshot(TypedDict):
    """One endpoint's state and counters, which live as long as some plan keeps the endpoint."""

    pool: str
    id: str
    target: str
    up: bool
    drain: bool
    usable: bool
    ejected_for_s: float
    weight: int
    in_flight: int
    idle_connections: int
    latency_s: float
    requests: int
    errors: EndpointErrors
    connects: int
    tls_failures: dict[str, int]
    """TLS handshakes that failed, by reason."""
    bytes_sent: int
    bytes_received: int
    connect: Histogram
    first_byte: Histogram
    total: Histogram


class RetryCounts(TypedDict):
    """Further attempts by what made them necessary."""

    connect: int
    reset: int
    timeout: int
    status: int


class PoolSnapshot(TypedDict):
    """One pool's queue, ejections and retries."""

    name: str
    queue_length: int
    queue_timeouts: int
    queue_rejected: int
    ejections: int
    retries: RetryCounts
    retries_over_budget: int
    breaker_refused: int


class FilterSnapshot(TypedDict):
    """Requests a filter chain refused for coming too often."""

    filter: str
    limited: int


class ErrorCount(TypedDict):
    """Answers the balancer made itself, by reason."""

    reason: str
    count: int


class MemorySnapshot(TypedDict):
    """What buffers hold, and the limit of it (`server.memory`)."""

    held_bytes: int
    limit_bytes: int


class AccessLogSnapshot(TypedDict):
    """Access records written, and dropped because the output could not keep up."""

    written: int
    dropped: int


class Snapshot(TypedDict):
    """Every counter and gauge of the engine at one moment."""

    revision: int
    uptime_s: float
    bounds_s: list[float]
    workers: list[WorkerSnapshot]
    listeners: list[ListenerSnapshot]
    requests: list[RequestCount]
    methods: list[MethodCount]
    routes: list[RouteSnapshot]
    route_events: list[RouteEvent]
    endpoints: list[EndpointSnapshot]
    pools: list[PoolSnapshot]
    filters: list[FilterSnapshot]
    errors: list[ErrorCount]
    access_log: AccessLogSnapshot
    memory: MemorySnapshot


class Totals(TypedDict):
    """How many requests there were in all."""

    uptime_s: float
    requests: int
    worker_restarts: int
    worker_panics: int


class ExplainRequest(TypedDict):
    """A request to explain; a listener of `None` is the first HTTP listener."""

    listener: str | None
    method: str
    target: str
    headers: list[tuple[str, str]]
    client: str


class FilterVerdict(TypedDict):
    """The verdict of one step of the filter chain.

    `answered`: the step sends the response itself. `undecided`: it depends on a slow password hash
    or on another service.
    """

    filter: str
    check: Literal[
        "address",
        "rate_limit",
        "concurrency",
        "body_limit",
        "cors",
        "basic",
        "bearer",
        "jwt",
        "external",
    ]
    verdict: Literal["pass", "refused", "answered", "undecided"]
    status: int
    reason: str
    user: str | None
    """Who asks, where authentication found it out."""


class Candidate(TypedDict):
    """One endpoint of the pool and why it cannot be used, if it cannot."""

    id: str
    usable: bool
    reason: Literal["", "breaker_open", "down", "draining", "ejected", "full", "unresolved"]


class PassedOver(TypedDict):
    """A route that fits by host and path and is more specific, and why it does not take it."""

    route: str
    reason: str


class Explanation(TypedDict):
    """Where a request would go, and why; making it sends nothing and changes nothing."""

    listener: str | None
    route: str | None
    passed_over: list[PassedOver]
    split: str | None
    target: str | None
    filters: list[FilterVerdict]
    pool: str | None
    picker: Literal["cycle", "hash", "least"] | None
    backend: str | None
    reason: str
    candidates: list[Candidate]


class HttpProbe(TypedDict):
    """The request of an HTTP probe; `body_bytes` says how much of the answer to return."""

    method: str
    path: str
    host: str
    headers: list[tuple[str, str]]
    body_bytes: int


class ProbeEndpoint(TypedDict):
    """An endpoint by the names it has in the plan."""

    pool: str
    backend: str


class Probe(TypedDict):
    """One health check's I/O; without `http` connecting is all."""

    id: int
    addresses: list[str]
    """Tried one after the other, 250 ms apart, until one answers."""
    timeout_ms: int
    http: HttpProbe | None
    http2: bool
    """The request is sent by HTTP/2."""
    endpoint: ProbeEndpoint | None
    """Whom the probe is for."""
    encrypted: bool
    """As connections to the endpoint are."""
    send_proxy: Literal["v1", "v2"] | None


Outcome = Literal["ok", "refused", "unreachable", "no_socket", "timeout", "reset", "protocol"]


class ProbeResult(TypedDict):
    """How a probe went; `status` and `body` are an HTTP probe's answer."""

    kind: Literal["probe"]
    id: int
    outcome: Outcome
    detail: str
    status: int | None
    body: str
    elapsed_s: float


class Ejected(TypedDict):
    """Passive health took an endpoint out for a while."""

    kind: Literal["ejected"]
    pool: str
    backend: str
    reason: str
    for_s: float


class Returned(TypedDict):
    """An ejection ended."""

    kind: Literal["returned"]
    pool: str
    backend: str


class BreakerChanged(TypedDict):
    """What requests met opened or closed a breaker."""

    kind: Literal["breaker"]
    pool: str
    backend: str | None
    state: Literal["closed", "open"]
    reason: str


class UnknownKey(TypedDict):
    """A token names a key that its filter does not have."""

    kind: Literal["unknown_key"]
    filter: str


class HandshakeFailed(TypedDict):
    """A TLS handshake with a client (of `listener`) or with a backend came to nothing."""

    kind: Literal["handshake_failed"]
    listener: str | None
    pool: str | None
    backend: str | None
    peer: str
    reason: str
    """As in the metrics."""
    detail: str


class WorkerRestarted(TypedDict):
    """A worker panicked, which is a programming error, and begins anew; its connections are lost."""

    kind: Literal["worker_restarted"]
    worker: int
    reason: str


Event = (
    ProbeResult
    | Ejected
    | Returned
    | BreakerChanged
    | UnknownKey
    | HandshakeFailed
    | WorkerRestarted
)


class DrainReport(TypedDict):
    """How a drain ended; `aborted` counts connections cut off at the deadline."""

    clean: bool
    aborted: int


class Engine(Protocol):
    """The data plane.

    Every method may raise `EngineError`. None but `apply` and `drain` takes long enough to matter
    to an event loop.
    """

    def apply(self, plan: Plan) -> ApplyReport:
        """Put a plan in force, all or nothing; until the swap the old one serves."""

    def change_members(self, change: MembersChange) -> ApplyReport:
        """Put the plan in force that differs by one pool's members, all or nothing."""

    def update_pool(self, update: PoolUpdate) -> None:
        """Replace one pool's picker without an apply."""

    def set_endpoint(self, update: EndpointUpdate) -> None:
        """Change one endpoint's state without an apply."""

    def clear_ejection(self, pool: str, id: str) -> None:
        """End an ejection now."""

    def set_breaker(self, update: BreakerUpdate) -> None:
        """Put a breaker into a state."""

    def set_hedge(self, update: HedgeUpdate) -> None:
        """Change how long a hedged route waits."""

    def outcomes(self) -> list[Outcomes]:
        """Read what breakers saw; asks no worker."""

    def snapshot(self) -> Snapshot:
        """Read all counters; costs the workers nothing."""

    def totals(self) -> Totals:
        """Count all requests; unlike a snapshot it costs the same with 10,000 endpoints."""

    def take_passed(self) -> tuple[bytes, int]:
        """What passed limits of the fleet since this was asked last, and what was not noted of it.

        The document is for `charge` of other engines, and empty where nothing passed. It names
        limits, and clients only by hashes that nobody can make without the fleet's secret. Asks the
        workers, so it may take a moment when they are busy.
        """

    def charge(self, passed: bytes) -> None:
        """Charge limits of the fleet for what passed them elsewhere.

        Raises `EngineError` where the document is wrong; nothing was charged then.
        """

    def endpoint_snapshot(self, pool: str, id: str) -> EndpointSnapshot:
        """Read one endpoint's state and counters; `EngineError` where there is none."""

    def explain(self, request: ExplainRequest) -> Explanation:
        """Say where a request would go."""

    def submit_probes(self, probes: Sequence[Probe]) -> None:
        """Start probes; their results come as events."""

    def take_events(self) -> list[Event]:
        """Take all waiting events, oldest first."""

    def fileno(self) -> int:
        """A descriptor that is readable while events wait."""

    def reopen_logs(self) -> None:
        """Reopen the access log's file."""

    def stop_accepting(self) -> None:
        """Close every listener once its accept queue is empty."""

    def drain(self, deadline_s: float) -> DrainReport:
        """Block until no connection has work in flight, or the deadline; call it in a thread."""

    def close(self) -> None:
        """Stop the workers; afterwards every method raises `EngineError` with code `closed`."""


# Documents are made by this program and have no cycles; not looking for them saves a tenth.
_encoder = json.JSONEncoder(separators=(",", ":"), check_circular=False, allow_nan=False)


def _encode(document: object) -> bytes:
    return _encoder.encode(document).encode()


class _RustEngine:
    """`_engine.Engine` with documents instead of bytes."""

    def __init__(self, workers: int) -> None:
        self._inner = _Inner(workers)

    def apply(self, plan: Plan) -> ApplyReport:
        report: ApplyReport = json.loads(self._inner.apply(_encode(plan)))
        return report

    def change_members(self, change: MembersChange) -> ApplyReport:
        report: ApplyReport = json.loads(self._inner.change_members(_encode(change)))
        return report

    def update_pool(self, update: PoolUpdate) -> None:
        self._inner.update_pool(_encode(update))

    def set_endpoint(self, update: EndpointUpdate) -> None:
        self._inner.set_endpoint(_encode(update))

    def clear_ejection(self, pool: str, id: str) -> None:
        self._inner.clear_ejection(pool, id)

    def set_breaker(self, update: BreakerUpdate) -> None:
        self._inner.set_breaker(_encode(update))

    def set_hedge(self, update: HedgeUpdate) -> None:
        self._inner.set_hedge(_encode(update))

    def outcomes(self) -> list[Outcomes]:
        found: list[Outcomes] = json.loads(self._inner.outcomes())
        return found

    def snapshot(self) -> Snapshot:
        snapshot: Snapshot = json.loads(self._inner.snapshot())
        return snapshot

    def totals(self) -> Totals:
        totals: Totals = json.loads(self._inner.totals())
        return totals

    def take_passed(self) -> tuple[bytes, int]:
        return self._inner.take_passed()

    def charge(self, passed: bytes) -> None:
        self._inner.charge(passed)

    def endpoint_snapshot(self, pool: str, id: str) -> EndpointSnapshot:
        found: EndpointSnapshot = json.loads(self._inner.endpoint(pool, id))
        return found

    def explain(self, request: ExplainRequest) -> Explanation:
        explanation: Explanation = json.loads(self._inner.explain(_encode(request)))
        return explanation

    def submit_probes(self, probes: Sequence[Probe]) -> None:
        self._inner.submit_probes(_encode(probes))

    def take_events(self) -> list[Event]:
        events: list[Event] = json.loads(self._inner.take_events())
        return events

    def fileno(self) -> int:
        return self._inner.fileno()

    def reopen_logs(self) -> None:
        self._inner.reopen_logs()

    def stop_accepting(self) -> None:
        self._inner.stop_accepting()

    def drain(self, deadline_s: float) -> DrainReport:
        report: DrainReport = json.loads(self._inner.drain(deadline_s))
        return report

    def close(self) -> None:
        self._inner.close()


def open_engine(workers: int) -> Engine:
    """Start the Rust engine with this many worker threads; it serves nothing before `apply`."""
    return _RustEngine(workers)


def hash_password(password: bytes) -> str:
    """The argon2id hash of a password; takes milliseconds and megabytes, without the GIL."""
    made = _hash_password(password)
    if made is None:
        raise ValueError("the password is too long, or there is no memory for its hash")
    return made
