"""Families of pools and their backends, the control plane's own left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from evenflow.engine import EndpointSnapshot, PoolSnapshot, Snapshot
from evenflow.observe.exposition import Family, labels

from .durations import times
from .view import View

RESERVED_PREFIX = "evenflow-"
"""Pools and routes of the control plane itself."""

FULL_BUCKETS_UP_TO = 1000
"""With more backends than this, their own histograms keep only the `+Inf` bucket: sum and count
remain, and a page of ten thousand backends stays readable for whoever scrapes it."""

_PHASES = ("connect", "first_byte", "total")


def endpoints_of(snapshot: Snapshot) -> list[EndpointSnapshot]:
    """All backends but the control plane itself."""
    return [each for each in snapshot["endpoints"] if not _reserved(each["pool"])]


def families(view: View, endpoints: Sequence[EndpointSnapshot]) -> Iterator[Family]:
    """Backends, then pools."""
    yield from _backends(view, endpoints)
    yield from _pools(view)


def _reserved(name: str) -> bool:
    return name.startswith(RESERVED_PREFIX)


def _backends(view: View, endpoints: Sequence[EndpointSnapshot]) -> Iterator[Family]:
    sets = [labels(pool=e["pool"], backend=e["id"]) for e in endpoints]
    bounds = view.snapshot["bounds_s"]
    coarse = len(endpoints) > FULL_BUCKETS_UP_TO
    pairs = list(zip(sets, endpoints, strict=True))
    yield Family(
        "evenflow_backend_duration_seconds",
        "histogram",
        "Of one attempt at a backend: connecting, until the response head, until its end.",
        (
            (f'{label_set},phase="{phase}"', times(histogram, coarse=coarse))
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
        "evenflow_backend_tls_failures_total",
        "counter",
        "TLS handshakes that the backend failed, by reason.",
        (
            (f'{s},reason="{reason}"', count)
            for s, e in pairs
            for reason, count in sorted(e["tls_failures"].items())
        ),
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
