"""Families of listeners, filters, the access log and the engine's workers."""

from __future__ import annotations

from collections.abc import Iterator

from evenflow.engine import Snapshot
from evenflow.observe.exposition import Family, labels


def families(snapshot: Snapshot) -> Iterator[Family]:
    """What the engine counts besides routes and pools."""
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
        "evenflow_buffer_bytes",
        "gauge",
        "Bytes that buffers of heads and bodies hold.",
        [("", snapshot["memory"]["held_bytes"])],
    )
    yield Family(
        "evenflow_buffer_limit_bytes",
        "gauge",
        "Bytes that they may hold (server.memory).",
        [("", snapshot["memory"]["limit_bytes"])],
    )
    yield Family(
        "evenflow_worker_busy_seconds_total",
        "counter",
        "Time a worker of the engine spent working.",
        [(labels(worker=str(w["id"])), w["busy_s"]) for w in snapshot["workers"]],
    )
    yield Family(
        "evenflow_worker_restarts_total",
        "counter",
        "How often a worker of the engine panicked and began anew, its connections lost.",
        [(labels(worker=str(w["id"])), w["restarts"]) for w in snapshot["workers"]],
    )
    yield Family(
        "evenflow_worker_panics_total",
        "counter",
        "Panics in a worker of the engine that cost one connection or request each.",
        [(labels(worker=str(w["id"])), w["panics"]) for w in snapshot["workers"]],
    )
