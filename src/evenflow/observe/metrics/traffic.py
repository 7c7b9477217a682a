"""Families of requests, by method, route and backend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evenflow.engine import EndpointSnapshot, Snapshot, Tunnels
from evenflow.observe.exposition import Family, Times, labels

from .durations import times
from .view import View

_NO_TUNNELS: Tunnels = {"active": 0, "opened": 0, "bytes_received": 0, "bytes_sent": 0}


def families(view: View, endpoints: Sequence[EndpointSnapshot]) -> Iterator[Family]:
    """Requests, their durations, tunnels, and what routes did besides forwarding."""
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
        r["route"]: times(r["duration"]) for r in snapshot["routes"] if r["route"] in durations
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
