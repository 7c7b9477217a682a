"""The JSON shapes of requests and answers, from which the OpenAPI document takes its schemas.

Backends and configurations are the configuration's own models; here is what only the HTTP
interface has. Docstrings become descriptions.
"""

# pydantic reads a TypedDict's keys reliably only from this module before Python 3.12.
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict


class Health(TypedDict):
    """Whether requests can be served."""

    status: Literal["healthy", "unhealthy"]
    """`healthy` while at least one backend is usable."""
    total_backends: int
    healthy_backends: int
    worker_restarts: NotRequired[int]
    """How often a worker of the engine crashed and was restarted; absent while none did."""
    timestamp: str


class Live(TypedDict):
    """The process answers."""

    status: Literal["alive"]
    timestamp: str


class Ready(TypedDict):
    """Whether the balancer should be given traffic."""

    status: Literal["ready", "not ready"]
    reason: str
    timestamp: str


class BreakerView(TypedDict):
    """How a circuit breaker stands."""

    state: Literal["closed", "half_open", "open"]
    reason: str
    since: str | None
    """When the state became this one."""
    until: str | None
    """When an open one lets probes through."""
    held: bool
    """Somebody holds it open or closed by hand."""


class PoolBreaker(TypedDict):
    """The circuit breakers of a pool."""

    pool: str
    breaker: BreakerView | None
    """Of the pool as a whole."""
    backends: dict[str, BreakerView]


class BackendBreaker(TypedDict):
    """The circuit breaker of a backend."""

    pool: str
    backend: str
    breaker: BreakerView


class SetBreaker(TypedDict):
    """What a circuit breaker is to do."""

    state: Literal["open", "closed", "automatic"]
    """`open` and `closed` hold it so until `automatic` lets it go."""


class BackendView(TypedDict):
    """A backend: its configuration and how it is. `POST …/restore` accepts it as it is."""

    id: str
    pool: str
    url: str
    status: Literal["healthy", "unhealthy", "unknown", "ejected", "tripped", "draining"]
    """`unknown` before the first check; counts as usable."""
    reason: str
    since: str | None
    """When the status became this one."""
    weight: int
    active_connections: int
    max_connections: int
    """0 is no bound."""
    health_check_path: str | None
    timeout: str | None
    connect_timeout: str | None
    idle_timeout: str | None
    labels: dict[str, str]
    drain: bool
    health_check: dict[str, Any] | None
    requests: int
    errors: int
    latency_ms: float
    """A decaying estimate."""
    breaker: BreakerView | None
    """Its own breaker, where it has one."""
    discovered: str | None
    """The source that found it; null where it is configured."""


class BackendList(TypedDict):
    """All backends."""

    backends: list[BackendView]


class WorkersHealth(TypedDict):
    """What went wrong with workers of the engine since the start."""

    restarts: int
    """How often one crashed and was restarted; its connections were lost."""
    panics: int
    """Crashes that cost one connection or request each."""
    last_restart_at: str | None
    last_restart_reason: str | None


class DetailedHealth(TypedDict):
    """Health with traffic and every backend."""

    status: Literal["healthy", "unhealthy"]
    total_backends: int
    healthy_backends: int
    success_rate: float
    """Per cent of all requests that were not answered with a 5xx; 100 before the first."""
    total_requests: int
    total_errors: int
    revision: int
    uptime_seconds: float
    last_reload_error: str | None
    workers: WorkersHealth
    timestamp: str
    backends: list[BackendView]


class Applied(TypedDict):
    """A change that is in effect."""

    revision: int
    changes: list[str]
    warnings: list[str]


class AcmeView(TypedDict):
    """How a certificate that is ordered from an authority stands."""

    state: Literal["issued", "stand_in"]
    """`stand_in`: there is none yet, and one that vouches for itself serves."""
    directory: str
    domains: list[str]
    challenge: Literal["http-01", "tls-alpn-01"]
    ordering: bool
    """An order is under way."""
    next_attempt: str | None
    """When a new one is ordered, for renewal or because the last order failed."""
    last_error: str | None
    """Why the last order failed."""
    failures: int
    """Orders that failed in a row."""


class CertificateView(TypedDict):
    """What may be shown of a certificate."""

    name: str
    domains: list[str]
    subject: str
    issuer: str
    not_before: str
    not_after: str
    fingerprint: str
    """SHA-256 in hexadecimal digits."""
    key: str
    """The kind of its key."""
    ocsp_until: str | None
    """Until when the stapled OCSP response holds."""
    ocsp_problem: str | None
    """Why the OCSP response is not stapled."""
    acme: AcmeView | None
    """Where it is ordered from an authority: how that goes."""


class CertificateList(TypedDict):
    """All certificates in force."""

    certificates: list[CertificateView]


class PutCertificate(TypedDict):
    """A certificate and its key."""

    cert: str
    """The certificate and those that link it to a root, in PEM."""
    key: str
    """Its private key, in PEM."""


class AddCertificate(PutCertificate):
    """A certificate with its key, and what it is called."""

    name: str


class AppliedCertificate(Applied):
    """A certificate after a change that is in effect."""

    certificate: CertificateView | None


class KeyView(TypedDict):
    """A public key that tokens are checked with."""

    kid: str | None
    algorithms: list[str]


class DiscoverySource(TypedDict):
    """Where a pool's further endpoints come from, and how that is."""

    pool: str
    source: str
    kind: Literal["dns", "srv", "file", "http", "consul", "kubernetes", "docker", "use"]
    place: str
    endpoints: int
    """How many there are in its last good answer."""
    last_success: str | None
    last_change: str | None
    next_attempt: str | None
    """When it is asked again; null while it tells of changes by itself."""
    last_error: str | None
    """Why its last answer was not taken; the endpoints from before serve on."""
    failures: int
    """In a row."""
    updates: dict[str, int]
    """Answers that `changed` something, were `unchanged`, `empty` and not taken, or `failed`."""
    notes: list[str]
    """What of the last answer was left out, and why."""


class DiscoveryList(TypedDict):
    """All sources."""

    sources: list[DiscoverySource]


class FilterKeys(TypedDict):
    """The public keys of a filter for tokens, and how it gets them."""

    filter: str
    source: Literal["jwks_url", "jwks_file", "public_key", "public_key_file"]
    place: str | None
    """The address or the file."""
    keys: list[KeyView]
    ignored: list[str]
    """Keys of the set that are of no use, and why."""
    last_refresh: str | None
    """When the keys were read last, with success."""
    last_error: str | None
    """Why the last fetch failed; the keys from before serve on."""


class AddressListView(TypedDict):
    """A file with addresses, and how it went when it was read."""

    list: Literal["ip_whitelist", "ip_blacklist"]
    file: str
    networks: int
    """Those in force."""
    last_read: str
    """When it was read last, with success."""
    last_error: str | None
    """Why the file as it is now is not in force."""
    failures: int
    """How often it was refused."""


class FilterLists(TypedDict):
    """The files of a filter's address lists."""

    filter: str
    lists: list[AddressListView]


class RemovedPiece(Applied):
    """What is gone, and the change that took it away."""

    name: str


class AppliedBackend(BackendView):
    """A backend after a change that is in effect."""

    revision: int
    changes: list[str]
    warnings: list[str]


class Restore(TypedDict):
    """Replaces all backends."""

    backends: list[dict[str, Any]]
    """Backends as `GET` prints them; what tells of status is ignored."""


class Restored(Applied):
    """The backends after a restore."""

    backends: list[BackendView]


class Drain(TypedDict):
    """How far a drain has come."""

    id: str
    draining: bool
    active_connections: int
    empty: bool
    revision: int


class Diff(TypedDict):
    """What applying a document would change."""

    revision: int
    changes: list[str]


class RevisionView(TypedDict):
    """One revision of the configuration."""

    revision: int
    timestamp: str
    source: str
    changes: list[str]


class History(TypedDict):
    """The revisions that are kept, newest first."""

    revision: int
    """The one in force."""
    history: list[RevisionView]


class Rollback(TypedDict):
    """Which revision to go back to."""

    revision: int


class BackendStats(TypedDict):
    """One backend's numbers."""

    total_requests: int
    total_errors: int
    active_connections: int
    average_response_time: str


class Stats(TypedDict):
    """Numbers since the start."""

    total_requests: int
    total_errors: int
    average_response_time: str
    """Such as `25ms`."""
    requests_per_second: float
    """Of late."""
    backend_stats: dict[str, BackendStats]
    errors: dict[str, int]
    """Answers the balancer made itself, by reason."""
    uptime_seconds: float
    process: dict[str, float | None]
    timestamp: str


class DecisionView(TypedDict):
    """Something the balancer decided, and why. Further fields depend on the kind."""

    id: int
    time: str
    kind: str
    event: str
    reason: str


class DecisionList(TypedDict):
    """Decisions, oldest first."""

    decisions: list[DecisionView]


class ExplainBody(TypedDict):
    """A request to explain."""

    method: NotRequired[str]
    """`GET` when absent."""
    target: NotRequired[str]
    """Path and query; `/` when absent."""
    url: NotRequired[str]
    """Instead of `target`: an address whose host becomes the Host field."""
    headers: NotRequired[dict[str, str] | list[list[str]]]
    client: NotRequired[str]
    """The client's address; `127.0.0.1` when absent."""
    listener: NotRequired[str | None]
    """The first HTTP listener when absent."""


class FilterVerdict(TypedDict):
    """What one list of filters would say."""

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
    """`answered`: the filter sends the response itself (a CORS preflight). `undecided`: the result
    depends on a slow password hash or on another service."""
    status: int
    reason: str
    user: str | None
    """Who asks, where authentication found it out."""


class Candidate(TypedDict):
    """One backend of the pool and why it cannot be used, if it cannot."""

    id: str
    usable: bool
    reason: str


class PassedOver(TypedDict):
    """A more specific route of this host and path, and why it does not take the request."""

    route: str
    reason: str


class ExplanationView(TypedDict):
    """Where the request would go, and why."""

    listener: str | None
    route: str | None
    passed_over: list[PassedOver]
    split: str | None
    """Why the split chose the pool."""
    target: str | None
    """What the backend would be asked for, where the route rewrites it."""
    filters: list[FilterVerdict]
    pool: str | None
    picker: str | None
    backend: str | None
    discovered: str | None
    """The source that found the backend; null where it is configured."""
    reason: str
    candidates: list[Candidate]


class LogLevel(TypedDict):
    """The lowest level that is logged."""

    level: Literal["debug", "info", "warn", "error"]


class ProblemEntry(TypedDict):
    """One mistake and where it stands, such as `backends[2].url`."""

    path: str
    message: str


class ProblemDocument(TypedDict):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: NotRequired[list[ProblemEntry]]


class AuditEntry(TypedDict):
    """One change, or one that was refused to somebody known."""

    seq: int
    time: str
    who: str
    """A token's name, `loopback`, or what made the change without the HTTP interface."""
    role: str | None
    client: str | None
    action: str
    path: str | None
    status: int | None
    revision_before: int | None
    revision_after: int
    changes: list[str]
    detail: NotRequired[str]
    prev: str
    """The `hash` of the entry before."""
    hash: str
    """SHA-256 of this entry without it."""


class AuditPage(TypedDict):
    """Entries of the audit log."""

    entries: list[AuditEntry]
    next: int | None
    """`before` of the following page."""


class NodeView(TypedDict):
    """One balancer of the cluster, as it told of itself."""

    name: str
    host: str
    version: str
    revision: int
    listeners: dict[str, list[str]]
    """The addresses really bound, by listener."""
    started_at: str
    requests_per_second: float
    age_s: float
    """Since its last sign of life, in seconds."""


class NodeList(TypedDict):
    """The cluster as one node sees it."""

    enabled: bool
    """Whether the configuration has a `cluster` section."""
    up: bool
    """Whether the server between the nodes is reached."""
    since: str | None
    """Since when it is, or is not."""
    error: str | None
    node: str | None
    """The name of the node that answers."""
    nodes: list[NodeView]
