"""The metrics page: an engine snapshot and the control plane's own counts become families.

Pure: all state comes in a `View`. A series exists from the start, with
zero, for everything that is configured, and is gone once what it speaks of is. The control plane's
own traffic appears nowhere.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from evenflow.controller import AcmeStatus, SourceStatus
from evenflow.engine import EndpointSnapshot, Histogram, PoolSnapshot, Snapshot, Tunnels
from evenflow.observe.exposition import Family, Times, exposition, labels
from evenflow.observe.process import ProcessUsage

RESERVED_PREFIX = "evenflow-"
"""Pools and routes of the control plane itself."""

_NO_TUNNELS: Tunnels = {"active": 0, "opened": 0, "bytes_received": 0, "bytes_sent": 0}

FULL_BUCKETS_UP_TO = 1000
"""With more backends than this, their own histograms keep only the `+Inf` bucket: sum and count
remain, and a page of ten thousand backends stays readable for whoever scrapes it."""

_PHASES = ("connect", "first_byte", "total")


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


def render(view: View, *, openmetrics: bool = False) -> Iterator[str]:
    """The page in pieces, in the Prometheus text form or as OpenMetrics."""
    return exposition(_families(view), openmetrics=openmetrics)


def _families(view: View) -> Iterator[Family]:
    endpoints = [e for e in view.snapshot["endpoints"] if not _reserved(e["pool"])]
    sets = [labels(pool=e["pool"], backend=e["id"]) for e in endpoints]
    yield from _traffic(view, endpoints)
    yield from _backends(view, endpoints, sets)
    yield from _pools(view)
    yield from _edge(view.snapshot)
    yield Family(
        "evenflow_certificate_expiry_timestamp_seconds",
        "gauge",
        "When a certificate expires.",
        [(labels(name=name), expiry) for name, expiry in view.certificates.items()],
    )
    yield from _address_lists(view)
    yield Family(
        "evenflow_certificate_ocsp_expiry_timestamp_seconds",
        "gauge",
        "When a certificate's stapled OCSP response ends.",
        [(labels(name=name), end) for name, end in view.staples.items()],
    )
    yield from _acme(view)
    yield Family(
        "evenflow_crl_next_update_timestamp_seconds",
        "gauge",
        "When a newer revocation list is due.",
        [
            (labels(file=file, issuer=issuer), due)
            for (file, issuer), due in view.revocation_lists.items()
        ],
    )
    yield from _keys(view)
    yield from _discovery(view.discovery)
    if view.cluster is not None:
        yield from _cluster(view.cluster)
    yield from _control(view)
    yield from _process(view.process)


def _acme(view: View) -> Iterator[Family]:
    statuses = [(labels(name=name), status) for name, status in view.acme.items()]
    yield Family(
        "evenflow_acme_issued",
        "gauge",
        "Whether a certificate that is ordered was issued; 0 while a stand-in serves.",
        [(label_set, int(each.state == "issued")) for label_set, each in statuses],
    )
    yield Family(
        "evenflow_acme_next_attempt_timestamp_seconds",
        "gauge",
        "When a certificate is ordered next.",
        [(label_set, each.next_attempt) for label_set, each in statuses],
    )
    yield Family(
        "evenflow_acme_failures",
        "gauge",
        "Orders of a certificate that failed in a row.",
        [(label_set, each.failures) for label_set, each in statuses],
    )
    yield Family(
        "evenflow_acme_orders_total",
        "counter",
        "Orders of a certificate, by result.",
        [
            (labels(name=name, result=result), count)
            for name, status in view.acme.items()
            for result, count in status.orders.items()
        ],
    )


def _address_lists(view: View) -> Iterator[Family]:
    lists = [(labels(file=file), *known) for file, known in view.address_lists.items()]
    yield Family(
        "evenflow_address_list_networks",
        "gauge",
        "Networks in the file of an address list.",
        [(label, count) for label, count, _, _ in lists],
    )
    yield Family(
        "evenflow_address_list_read_timestamp_seconds",
        "gauge",
        "When the file of an address list was read last, with success.",
        [(label, read_at) for label, _, read_at, _ in lists],
    )
    yield Family(
        "evenflow_address_list_failures_total",
        "counter",
        "How often the file of an address list was refused.",
        [(label, failures) for label, _, _, failures in lists],
    )


def _keys(view: View) -> Iterator[Family]:
    yield Family(
        "evenflow_jwt_keys",
        "gauge",
        "Public keys that a filter checks tokens with; 0 refuses all with 503.",
        [(labels(filter=name), count) for name, count in view.keys.items()],
    )
    yield Family(
        "evenflow_jwt_keys_refresh_timestamp_seconds",
        "gauge",
        "When a filter's public keys were read last, with success.",
        [(labels(filter=name), at) for name, at in view.keys_refreshed.items()],
    )
    yield Family(
        "evenflow_jwt_key_fetches_total",
        "counter",
        "Fetches of a filter's key set.",
        [
            (labels(filter=name, result=result), count)
            for (name, result), count in view.key_fetches.items()
        ],
    )


def _discovery(sources: Sequence[SourceStatus]) -> Iterator[Family]:
    sets = [labels(pool=each.pool, source=each.source) for each in sources]
    yield Family(
        "evenflow_discovery_endpoints",
        "gauge",
        "Endpoints in the last good answer of a source.",
        [(s, each.endpoints) for s, each in zip(sets, sources, strict=True)],
    )
    yield Family(
        "evenflow_discovery_updates_total",
        "counter",
        "Answers of a source: changed, unchanged, empty (and not taken), failed.",
        [
            (f'{s},result="{result}"', count)
            for s, each in zip(sets, sources, strict=True)
            for result, count in each.updates.items()
        ],
    )
    yield Family(
        "evenflow_discovery_last_success_timestamp_seconds",
        "gauge",
        "When a source answered last.",
        [
            (s, each.last_success)
            for s, each in zip(sets, sources, strict=True)
            if each.last_success is not None
        ],
    )


def _cluster(cluster: ClusterView) -> Iterator[Family]:
    yield Family(
        "evenflow_cluster_up",
        "gauge",
        "Whether the server between the nodes is reached.",
        [("", int(cluster.up))],
    )
    yield Family(
        "evenflow_cluster_nodes",
        "gauge",
        "Nodes that gave a sign of life of late, this one included.",
        [("", cluster.nodes)],
    )
    yield Family(
        "evenflow_cluster_messages_total",
        "counter",
        "Messages about limits of scope fleet: sent, received, lost on the way, or refused.",
        [(labels(result=result), count) for result, count in cluster.messages.items()],
    )
    yield Family(
        "evenflow_cluster_untold_requests_total",
        "counter",
        "Requests that passed limits of scope fleet and that other nodes were not told of, as too "
        "many keys came at once.",
        [("", cluster.untold)],
    )


def _reserved(name: str) -> bool:
    return name.startswith(RESERVED_PREFIX)


def _traffic(view: View, endpoints: Sequence[EndpointSnapshot]) -> Iterator[Family]:
    snapshot = view.snapshot
    methods = {("GET", 200): 0}
    methods |= {(m["method"], m["status"]): m["count"] for m in snapshot["methods"]}
    yield Family(
        "http_requests_total",
        "counter",
        "Requests answered, by status and method.",
        [
            (labels(status=str(status), method=method), count)
            for (method, status), count in methods.items()
        ],
    )
    yield Family(
        "evenflow_requests_total",
        "counter",
        "Requests by route, pool, backend and status; pool and backend are empty where the "
        "balancer answered by itself.",
        _requests(view, endpoints),
    )
    durations: dict[str, Times] = {
        route: Times([0] * (len(snapshot["bounds_s"]) + 1), 0.0) for route in view.route_pools
    }
    durations |= {
        r["route"]: _times(r["duration"]) for r in snapshot["routes"] if r["route"] in durations
    }
    yield Family(
        "evenflow_request_duration_seconds",
        "histogram",
        "From a request's first byte to the last byte of its response.",
        [(labels(route=route), times) for route, times in durations.items()],
        snapshot["bounds_s"],
    )
    tunnels = dict.fromkeys(view.route_pools, _NO_TUNNELS)
    tunnels |= {r["route"]: r["tunnels"] for r in snapshot["routes"] if r["route"] in tunnels}
    yield Family(
        "evenflow_tunnels",
        "gauge",
        "Connections that switched to another protocol (WebSocket) and are open.",
        [(labels(route=route), entry["active"]) for route, entry in tunnels.items()],
    )
    yield Family(
        "evenflow_tunnels_opened_total",
        "counter",
        "Connections that switched to another protocol.",
        [(labels(route=route), entry["opened"]) for route, entry in tunnels.items()],
    )
    yield Family(
        "evenflow_tunnel_received_bytes_total",
        "counter",
        "Bytes received from clients after a switch of protocols.",
        [(labels(route=route), entry["bytes_received"]) for route, entry in tunnels.items()],
    )
    yield Family(
        "evenflow_tunnel_sent_bytes_total",
        "counter",
        "Bytes sent to clients after a switch of protocols.",
        [(labels(route=route), entry["bytes_sent"]) for route, entry in tunnels.items()],
    )
    yield from _route_events(snapshot)
    if view.hedge_delays:
        yield Family(
            "evenflow_hedge_delay_seconds",
            "gauge",
            "How long a response head is waited for before a second try.",
            [(labels(route=route), delay) for route, delay in view.hedge_delays.items()],
        )


_ROUTE_EVENTS = {
    "mirror_answered": ("evenflow_mirrored_total", "result", "answered"),
    "mirror_failed": ("evenflow_mirrored_total", "result", "failed"),
    "mirror_skipped": ("evenflow_mirrored_total", "result", "skipped"),
    "fault_delayed": ("evenflow_faults_injected_total", "kind", "delay"),
    "fault_aborted": ("evenflow_faults_injected_total", "kind", "abort"),
    "hedge_won": ("evenflow_hedges_total", "result", "won"),
    "hedge_lost": ("evenflow_hedges_total", "result", "lost"),
    "hedge_failed": ("evenflow_hedges_total", "result", "failed"),
    "hedge_over_budget": ("evenflow_hedges_total", "result", "over_budget"),
    "hedge_unavailable": ("evenflow_hedges_total", "result", "unavailable"),
    "fallback": ("evenflow_fallbacks_total", "", ""),
    "retry_over_budget": ("evenflow_route_retries_over_budget_total", "", ""),
}
_ROUTE_EVENT_HELP = {
    "evenflow_mirrored_total": "Copies of requests for a mirror, by what became of them.",
    "evenflow_faults_injected_total": "Faults put into requests on purpose.",
    "evenflow_hedges_total": "Second tries of slow requests: won, lost (and were cancelled), failed; "
    "not made because the budget was spent or no other backend had room.",
    "evenflow_fallbacks_total": "Requests that went to a route's fallback pool.",
    "evenflow_route_retries_over_budget_total": "Further attempts not made because the route's own "
    "retry budget was spent.",
}


def _route_events(snapshot: Snapshot) -> Iterator[Family]:
    for name, text in _ROUTE_EVENT_HELP.items():
        samples = list[tuple[str, float]]()
        for entry in snapshot["route_events"]:
            family, label, value = _ROUTE_EVENTS[entry["event"]]
            if family == name:
                more = {label: value} if label else {}
                samples.append((labels(route=entry["route"], **more), entry["count"]))
        if samples:
            yield Family(name, "counter", text, samples)


def _requests(view: View, endpoints: Sequence[EndpointSnapshot]) -> Iterator[tuple[str, float]]:
    """Counts of what exists now, then zeros for what has had no request yet."""
    present = {(e["pool"], e["id"]) for e in endpoints}
    counted: set[tuple[str, str, str]] = set()
    for entry in view.snapshot["requests"]:
        route, pool, backend = entry["route"], entry["pool"], entry["backend"]
        if (route and route not in view.route_pools) or (
            (pool, backend) not in present and (pool or backend)
        ):
            continue
        counted.add((route, pool, backend))
        yield (
            labels(route=route, pool=pool, backend=backend, status=str(entry["status"])),
            entry["count"],
        )
    by_pool: dict[str, list[str]] = {}
    for pool, backend in present:
        by_pool.setdefault(pool, []).append(backend)
    pairs = [(route, pool) for route, pools in view.route_pools.items() for pool in pools]
    for route, pool in pairs:
        for backend in by_pool.get(pool, ()):
            if (route, pool, backend) not in counted:
                yield labels(route=route, pool=pool, backend=backend, status="200"), 0


def _backends(
    view: View, endpoints: Sequence[EndpointSnapshot], sets: Sequence[str]
) -> Iterator[Family]:
    bounds = view.snapshot["bounds_s"]
    coarse = len(endpoints) > FULL_BUCKETS_UP_TO
    pairs = list(zip(sets, endpoints, strict=True))
    yield Family(
        "evenflow_backend_duration_seconds",
        "histogram",
        "Of one attempt at a backend: connecting, until the response head, until its end.",
        (
            (f'{label_set},phase="{phase}"', _times(histogram, coarse=coarse))
            for label_set, e in pairs
            for phase, histogram in zip(
                _PHASES, (e["connect"], e["first_byte"], e["total"]), strict=True
            )
        ),
        () if coarse else bounds,
    )
    yield Family(
        "evenflow_backend_up",
        "gauge",
        "1 while the backend is neither found unhealthy nor ejected.",
        ((s, int(e["up"] and not e["ejected_for_s"])) for s, e in pairs),
    )
    yield Family(
        "evenflow_backend_draining",
        "gauge",
        "1 while the backend takes no new requests because it is drained.",
        ((s, int(e["drain"])) for s, e in pairs),
    )
    yield Family(
        "evenflow_backend_active_connections",
        "gauge",
        "Requests (streams: connections) in flight at the backend.",
        ((s, e["in_flight"]) for s, e in pairs),
    )
    yield Family(
        "evenflow_backend_idle_connections",
        "gauge",
        "Kept-alive connections to the backend that wait for a request.",
        ((s, e["idle_connections"]) for s, e in pairs),
    )
    yield Family(
        "evenflow_backend_connects_total",
        "counter",
        "Connections opened to the backend.",
        ((s, e["connects"]) for s, e in pairs),
    )
    yield Family(
        "evenflow_backend_sent_bytes_total",
        "counter",
        "Bytes sent to the backend.",
        ((s, e["bytes_sent"]) for s, e in pairs),
    )
    yield Family(
        "evenflow_backend_received_bytes_total",
        "counter",
        "Bytes received from the backend.",
        ((s, e["bytes_received"]) for s, e in pairs),
    )
    yield Family(
        "evenflow_backend_errors_total",
        "counter",
        "Failed attempts at the backend by kind.",
        ((f'{s},kind="{kind}"', count) for s, e in pairs for kind, count in _error_counts(e)),
    )
    yield Family(
        "evenflow_health_checks_total",
        "counter",
        "Active health checks by result.",
        (
            (f'{s},result="{result}"', count)
            for s, e in pairs
            for result, count in zip(
                ("passed", "failed"),
                view.health_checks.get((e["pool"], e["id"]), (0, 0)),
                strict=True,
            )
        ),
    )


def _error_counts(endpoint: EndpointSnapshot) -> Iterable[tuple[str, int]]:
    errors = endpoint["errors"]
    return (
        ("connect", errors["connect"]),
        ("reset", errors["reset"]),
        ("timeout", errors["timeout"]),
        ("protocol", errors["protocol"]),
        ("status_5xx", errors["status_5xx"]),
    )


def _pools(view: View) -> Iterator[Family]:
    pools = [p for p in view.snapshot["pools"] if not _reserved(p["name"])]
    sets = [labels(pool=p["name"]) for p in pools]
    yield Family(
        "evenflow_retries_total",
        "counter",
        "Further attempts by what made them needed.",
        [
            (f'{s},reason="{reason}"', count)
            for s, p in zip(sets, pools, strict=True)
            for reason, count in _retry_counts(p)
        ],
    )
    yield Family(
        "evenflow_retries_over_budget_total",
        "counter",
        "Further attempts not made because the pool's retry budget was spent.",
        [(s, p["retries_over_budget"]) for s, p in zip(sets, pools, strict=True)],
    )
    yield Family(
        "evenflow_ejections_total",
        "counter",
        "Backends taken out of use because their requests kept failing.",
        [(s, p["ejections"]) for s, p in zip(sets, pools, strict=True)],
    )
    yield from _breakers(view)
    if view.breakers:
        yield Family(
            "evenflow_breaker_refused_total",
            "counter",
            "Requests that met only open circuit breakers; a fallback pool may have served them.",
            [(s, p["breaker_refused"]) for s, p in zip(sets, pools, strict=True)],
        )
    yield Family(
        "evenflow_pool_panic",
        "gauge",
        "1 while too few backends of the pool are usable and its panic mode applies.",
        [(s, int(p["name"] in view.panicking)) for s, p in zip(sets, pools, strict=True)],
    )
    yield Family(
        "evenflow_queue_length",
        "gauge",
        "Requests that wait because every backend of the pool is full.",
        [(s, p["queue_length"]) for s, p in zip(sets, pools, strict=True)],
    )
    yield Family(
        "evenflow_queue_refusals_total",
        "counter",
        "Requests answered 503 because the queue was full or the wait too long.",
        [
            (f'{s},reason="{reason}"', count)
            for s, p in zip(sets, pools, strict=True)
            for reason, count in (("timeout", p["queue_timeouts"]), ("full", p["queue_rejected"]))
        ],
    )


_BREAKER_STATES = {"closed": 0, "half_open": 1, "open": 2}


def _breakers(view: View) -> Iterator[Family]:
    if not view.breakers:
        return
    yield Family(
        "evenflow_breaker_state",
        "gauge",
        "A circuit breaker: 0 closed, 1 half open, 2 open. Without a backend, that of the pool.",
        [
            (labels(pool=pool, backend=backend), _BREAKER_STATES[state])
            for (pool, backend), state in view.breakers.items()
        ],
    )
    yield Family(
        "evenflow_breaker_transitions_total",
        "counter",
        "How often a circuit breaker became what.",
        [
            (
                labels(pool=pool, backend=backend, to=to),
                view.breaker_transitions.get((pool, backend, to), 0),
            )
            for pool, backend in view.breakers
            for to in _BREAKER_STATES
        ],
    )


def _retry_counts(pool: PoolSnapshot) -> Iterable[tuple[str, int]]:
    retries = pool["retries"]
    return (
        ("connect", retries["connect"]),
        ("reset", retries["reset"]),
        ("timeout", retries["timeout"]),
        ("status", retries["status"]),
    )


def _edge(snapshot: Snapshot) -> Iterator[Family]:
    listeners = [(labels(listener=entry["name"]), entry) for entry in snapshot["listeners"]]
    yield Family(
        "evenflow_connections",
        "gauge",
        "Client connections open.",
        [(s, entry["connections"]) for s, entry in listeners],
    )
    yield Family(
        "evenflow_connections_accepted_total",
        "counter",
        "Client connections accepted.",
        [(s, entry["accepted"]) for s, entry in listeners],
    )
    yield Family(
        "evenflow_connections_rejected_total",
        "counter",
        "Client connections closed at once because of a bound.",
        [(s, entry["rejected"]) for s, entry in listeners],
    )
    yield Family(
        "evenflow_tls_handshakes_total",
        "counter",
        "TLS handshakes by how they ended: full and resumed went well.",
        [
            (labels(listener=entry["name"], result=result), count)
            for entry in snapshot["listeners"]
            for result, count in sorted(entry["handshakes"].items())
        ],
    )
    yield Family(
        "evenflow_limited_total",
        "counter",
        "Requests over a rate limit.",
        [(labels(filter=entry["filter"]), entry["limited"]) for entry in snapshot["filters"]],
    )
    yield Family(
        "evenflow_errors_total",
        "counter",
        "Error answers the balancer made itself, by reason.",
        [(labels(reason=entry["reason"]), entry["count"]) for entry in snapshot["errors"]],
    )
    yield Family(
        "evenflow_access_log_records_total",
        "counter",
        "Access records written, and dropped because the output could not keep up.",
        [
            (labels(result="written"), snapshot["access_log"]["written"]),
            (labels(result="dropped"), snapshot["access_log"]["dropped"]),
        ],
    )
    yield Family(
        "evenflow_worker_busy_seconds_total",
        "counter",
        "Time a worker of the engine spent working.",
        [(labels(worker=str(w["id"])), w["busy_s"]) for w in snapshot["workers"]],
    )


def _control(view: View) -> Iterator[Family]:
    yield Family(
        "evenflow_worker_busy_ratio",
        "gauge",
        "The share of its time a worker of the engine was busy since the page before.",
        [
            (labels(worker=str(worker)), round(ratio, 4))
            for worker, ratio in view.busy_ratios.items()
        ],
    )
    yield Family(
        "evenflow_config_applies_total",
        "counter",
        "Configurations put in force, or refused.",
        [(labels(result=r), view.applies.get(r, 0)) for r in ("ok", "failed")],
    )
    yield Family(
        "evenflow_config_reloads_total",
        "counter",
        "Reloads of file and environment.",
        [(labels(result=r), view.reloads.get(r, 0)) for r in ("ok", "unchanged", "failed")],
    )
    yield Family(
        "evenflow_config_last_reload_successful",
        "gauge",
        "0 after a reload that was refused, until one succeeds.",
        [("", int(not view.last_reload_failed))],
    )
    yield Family(
        "evenflow_config_revision",
        "gauge",
        "The revision of the configuration in force.",
        [("", view.snapshot["revision"])],
    )
    yield Family(
        "evenflow_admin_refused_total",
        "counter",
        "Requests to the balancer's own interface that were refused: a wrong token (credential), "
        "a token with too low a role, a place that needs a token, or a client locked out.",
        [(labels(reason=reason), count) for reason, count in view.admin_refused.items()],
    )
    yield Family(
        "evenflow_audit_entries_total",
        "counter",
        "Entries of the audit log written, or failed to be written.",
        [(labels(result=r), view.audited.get(r, 0)) for r in ("written", "failed")],
    )
    yield Family(
        "evenflow_log_lines_lost_total",
        "counter",
        "Lines of the program log that could not be written.",
        [("", view.lost_log_lines)],
    )
    yield Family(
        "evenflow_build_info",
        "gauge",
        "Always 1; the labels tell what is running.",
        [(labels(version=view.version, python=view.python), 1)],
    )


def _process(usage: ProcessUsage) -> Iterator[Family]:
    gauges = (
        ("process_resident_memory_bytes", "Resident memory.", usage.resident_bytes),
        ("process_open_fds", "Open file descriptors.", usage.open_fds),
        ("process_max_fds", "The bound on open file descriptors.", usage.max_fds),
        ("process_threads", "Threads.", usage.threads),
        ("process_start_time_seconds", "Start as Unix time.", usage.started_at),
    )
    yield Family(
        "process_cpu_seconds_total",
        "counter",
        "CPU time used, in user and system mode.",
        [("", usage.cpu_s)],
    )
    for name, meaning, value in gauges:
        if value is not None:
            yield Family(name, "gauge", meaning, [("", value)])


def _times(histogram: Histogram, *, coarse: bool = False) -> Times:
    counts = histogram["counts"]
    return Times([sum(counts)] if coarse else counts, histogram["sum_s"])


class BusyRatios:
    """Remembers the workers' times from page to page, because a ratio needs two moments."""

    def __init__(self) -> None:
        self._uptime_s = 0.0
        self._busy: dict[int, float] = {}
        self._ratios: dict[int, float] = {}

    def update(self, snapshot: Snapshot) -> Mapping[int, float]:
        """The ratios since the last call that was at least a second ago, or since the start."""
        elapsed = snapshot["uptime_s"] - self._uptime_s
        if elapsed >= 1 or not self._ratios:
            self._ratios = {
                w["id"]: min(1.0, max(0.0, (w["busy_s"] - self._busy.get(w["id"], 0.0)) / elapsed))
                if elapsed > 0
                else 0.0
                for w in snapshot["workers"]
            }
            self._busy = {w["id"]: w["busy_s"] for w in snapshot["workers"]}
            self._uptime_s = snapshot["uptime_s"]
        return self._ratios
