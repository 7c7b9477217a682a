# ruff: noqa: D101 - the fields are explained once, in plan.rs
"""The plan's types, field for field those of the engine's `plan.rs`, which explains them.

Fields whose name ends in `_ms` are milliseconds, `_bytes` bytes. Every field must be present; the
engine refuses unknown ones.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from evenflow.filters.steps import Filter, RequestKey

VERSION = 1
"""The version of the plan that the engine understands."""


class AccessLog(TypedDict):
    format: Literal["json", "combined"]
    output: str
    sample: float


class Limits(TypedDict):
    head_bytes: int
    headers: int
    streams: int
    target_bytes: int
    body_bytes: int
    connections: int
    client_connections: int


class Timeouts(TypedDict):
    head_ms: int
    body_ms: int
    write_ms: int
    idle_ms: int
    drain_ms: int
    min_body_rate: int


class Certificate(TypedDict):
    name: str
    domains: list[str]
    chain_pem: str
    key_pem: str
    ocsp: list[int] | None


class ClientAuth(TypedDict):
    required: bool
    ca_pem: str
    crl_pem: str


class ListenerTls(TypedDict):
    certificates: list[str]
    min_version: Literal["1.2", "1.3"]
    alpn: list[str]
    client_auth: ClientAuth | None
    proofs: list[TlsProof]


class TlsProof(TypedDict):
    domain: str
    chain_pem: str
    key_pem: str


class Passthrough(TypedDict):
    server_names: list[str]
    alpn: list[str]
    pool: str


class ProxyProtocol(TypedDict):
    trusted: list[str]


class StreamRetries(TypedDict):
    max: int
    delay_ms: int


class Listener(TypedDict):
    name: str
    addresses: list[str]
    protocol: Literal["http", "tcp", "udp"]
    http2: bool
    filters: list[str]
    pool: str | None
    limits: Limits
    timeouts: Timeouts
    trusted_proxies: list[str]
    forwarded: bool
    trace: bool
    escaped_slashes: Literal["auto", "reject", "decode", "keep"]
    tls: ListenerTls | None
    redirect_https: int | None
    passthrough: list[Passthrough]
    answers: int
    retries: StreamRetries
    proxy_protocol: ProxyProtocol | None


class FilterChain(TypedDict):
    name: str
    steps: list[Filter]


class Exact(TypedDict):
    exact: str


class Prefix(TypedDict):
    prefix: str


class Template(TypedDict):
    template: list[str | None]


class TemplatePrefix(TypedDict):
    template_prefix: list[str | None]


class Regex(TypedDict):
    regex: str


class Present(TypedDict):
    present: bool


PathMatch = Exact | Prefix | Template | TemplatePrefix | Regex
ValueMatch = Exact | Present | Regex


class Match(TypedDict):
    host: str | None
    path: PathMatch | None
    priority: int
    methods: list[str]
    headers: list[tuple[str, ValueMatch]]
    query: list[tuple[str, ValueMatch]]
    cookies: list[tuple[str, ValueMatch]]
    client: list[str]


class Retries(TypedDict):
    max: int
    delay_ms: int
    per_try_timeout_ms: int
    statuses: list[int]
    on_timeout: bool
    budget: float | None


class Hedge(TypedDict):
    after_ms: int
    max: int
    budget: float


class Upgrade(TypedDict):
    idle_ms: int
    max_ms: int
    drain_ms: int


Part = str | dict[str, str | int]


class Arm(TypedDict):
    pool: str
    weight: int
    when: Match | None


class Split(TypedDict):
    key: RequestKey
    issue_s: int | None
    arms: list[Arm]


class Redirect(TypedDict):
    status: int
    pattern: str | None
    to: list[Part]
    keep_query: bool


class Respond(TypedDict):
    status: int
    content_type: str
    headers: list[tuple[str, str]]
    body: str


class PoolAction(TypedDict):
    pool: str


class SplitAction(TypedDict):
    split: Split


class RedirectAction(TypedDict):
    redirect: Redirect


class RespondAction(TypedDict):
    respond: Respond


Action = PoolAction | SplitAction | RedirectAction | RespondAction


class Rewrite(TypedDict):
    pattern: str | None
    path: list[Part] | None
    host: str | None


class Mirror(TypedDict):
    pool: str
    share: float
    max_in_flight: int
    timeout_ms: int


class Fault(TypedDict):
    delay_ms: int
    delay_share: float
    abort_status: int
    abort_share: float


class Sticky(TypedDict):
    cookie: str
    max_age_s: int


class Route(TypedDict):
    name: str
    listeners: list[str]
    match: Match
    filters: list[str]
    action: Action
    fallback: str | None
    rewrite: Rewrite | None
    mirror: Mirror | None
    fault: Fault | None
    internal: bool
    timeout_ms: int
    on_client_close: Literal["abort", "finish"]
    retries: Retries
    hedge: Hedge | None
    upgrade: Upgrade | None


class CycleTable(TypedDict):
    table: list[int]


class CyclePicker(TypedDict):
    cycle: CycleTable


class HashTable(TypedDict):
    key: RequestKey
    table: list[int]
    load_bound: float | None


class HashPicker(TypedDict):
    hash: HashTable


class LeastScore(TypedDict):
    score: Literal["in_flight", "latency"]
    choices: int


class LeastPicker(TypedDict):
    least: LeastScore


Picker = CyclePicker | HashPicker | LeastPicker


Http = Literal["h1", "h2", "auto"]


class Endpoint(TypedDict):
    id: str
    target: str
    addresses: list[str]
    token: str
    weight: int
    max_connections: int
    up: bool
    drain: bool
    connect_timeout_ms: int
    first_byte_timeout_ms: int
    idle_timeout_ms: int
    tls_name: str | None
    http: Http


class ClientCert(TypedDict):
    chain_pem: str
    key_pem: str


class UpstreamTls(TypedDict):
    verify: bool
    ca_pem: str | None
    fingerprints: list[str]
    server_name: str | None
    min_version: Literal["1.2", "1.3"]
    alpn: list[str]
    client_cert: ClientCert | None


class Queue(TypedDict):
    max: int
    timeout_ms: int


class Outlier(TypedDict):
    consecutive_errors: int
    base_ejection_ms: int
    max_ejection_ms: int
    max_ejected: float


class Breaker(TypedDict):
    endpoints: bool
    whole: bool
    consecutive_errors: int
    pool_consecutive_errors: int
    slow_ms: int


class Connections(TypedDict):
    max_idle: int | None
    idle_ms: int
    tcp_keepalive_ms: int
    ping_ms: int
    ping_timeout_ms: int


Panic = Literal["fail", "use_all"]


class Pool(TypedDict):
    name: str
    picker: Picker
    endpoints: list[Endpoint]
    use_all: bool
    panic: Panic | None
    queue: Queue
    outlier: Outlier | None
    breaker: Breaker | None
    sticky: Sticky | None
    connections: Connections
    retry_budget: float
    retry_floor: int
    tls: UpstreamTls | None
    send_proxy: Literal["v1", "v2"] | None


class PoolUpdate(TypedDict):
    """What `Engine.update_pool` takes; the picker's indices are those of the current plan."""

    pool: str
    picker: Picker
    use_all: bool
    panic: Panic | None


class MembersChange(TypedDict):
    """What `Engine.change_members` takes; the picker's indices are those after the change."""

    revision: int
    pool: str
    members: int
    at: int
    remove: int
    insert: list[Endpoint]
    picker: Picker
    use_all: bool
    panic: Panic | None


class Plan(TypedDict):
    version: int
    revision: int
    access_log: AccessLog | None
    server_name: str
    buffer_bytes: int
    certificates: list[Certificate]
    listeners: list[Listener]
    filters: list[FilterChain]
    routes: list[Route]
    pools: list[Pool]
