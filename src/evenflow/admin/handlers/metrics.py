"""The metrics page."""

import platform
from collections.abc import AsyncIterator, Iterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from evenflow.admin.context import Context
from evenflow.config import expand
from evenflow.installed import version
from evenflow.observe.exposition import OPENMETRICS, PROMETHEUS
from evenflow.observe.logs import program_log
from evenflow.observe.metrics import ClusterView, View, render
from evenflow.observe.process import process_usage

_PIECE_BYTES = 1 << 16


async def metrics(context: Context, request: Request) -> Response:
    """The page in the Prometheus text form or, where `Accept` prefers it, as OpenMetrics."""
    openmetrics = _prefers_openmetrics(request.headers.get("accept", ""))
    pieces = render(view(context), openmetrics=openmetrics)
    media_type = OPENMETRICS if openmetrics else PROMETHEUS
    return StreamingResponse(_encoded(pieces), headers={"content-type": media_type})


def view(context: Context) -> View:
    """All that the page tells, as of now."""
    controller = context.controller
    snapshot = controller.snapshot()
    keys = controller.signing_keys()
    certificates = controller.certificates()
    cluster = context.cluster.status() if context.cluster is not None else None
    return View(
        snapshot=snapshot,
        process=process_usage(),
        version=version(),
        python=platform.python_version(),
        route_pools={route.name: route.pools for route in expand(controller.config).routes},
        health_checks={
            key: (verdict.checks_passed, verdict.checks_failed)
            for key, verdict in controller.runtime.verdicts.items()
        },
        applies=controller.applies_total,
        reloads=controller.reloads_total,
        last_reload_failed=controller.last_reload_error is not None,
        busy_ratios=context.busy.update(snapshot),
        breakers={
            (pool, backend or ""): status.state
            for (pool, backend), status in controller.breakers.statuses().items()
        },
        breaker_transitions={
            (pool, backend or "", to): count
            for ((pool, backend), to), count in controller.breakers.transitions.items()
        },
        hedge_delays=controller.hedge_delays,
        panicking=controller.panics.keys(),
        lost_log_lines=program_log().sink.lost,
        admin_refused=context.refused,
        audited={"written": context.audit.written, "failed": context.audit.failed},
        keys={each.filter: len(each.keys) for each in keys},
        keys_refreshed={
            each.filter: each.refreshed_at for each in keys if each.refreshed_at is not None
        },
        key_fetches={
            (each.filter, result): count for each in keys for result, count in each.fetches.items()
        },
        discovery=controller.discovery(),
        address_lists={
            each.file: (each.networks, each.read_at, each.failures)
            for each in controller.address_lists()
        },
        revocation_lists=controller.revocation_lists_due(),
        cluster=None
        if cluster is None
        else ClusterView(cluster.up, len(cluster.nodes), cluster.messages, cluster.untold),
        certificates={each.name: each.not_after for each in certificates},
        acme={each.name: each.acme for each in certificates if each.acme is not None},
        staples={
            each.name: each.ocsp_until for each in certificates if each.ocsp_until is not None
        },
    )


async def _encoded(pieces: Iterator[str]) -> AsyncIterator[bytes]:
    """Pieces large enough to be worth a write; between two of them other requests get a turn."""
    buffer = bytearray()
    for piece in pieces:
        buffer += piece.encode()
        if len(buffer) >= _PIECE_BYTES:
            yield bytes(buffer)
            buffer.clear()
    yield bytes(buffer)


def _prefers_openmetrics(accept: str) -> bool:
    """Whether OpenMetrics is accepted with at least the quality of anything else."""
    best: dict[str, float] = {}
    for entry in accept.lower().split(","):
        media_type, *parameters = (part.strip() for part in entry.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        kind = "openmetrics" if media_type == "application/openmetrics-text" else "other"
        best[kind] = max(best.get(kind, 0.0), quality)
    wanted = best.get("openmetrics", 0.0)
    return wanted > 0 and wanted >= best.get("other", 0.0)
