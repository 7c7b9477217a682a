"""Whether the balancer can serve: for people, load balancers in front, and orchestrators."""

import time

from starlette.requests import Request
from starlette.responses import Response

from evenflow.admin import shapes
from evenflow.admin.context import Context
from evenflow.admin.respond import json_response
from evenflow.admin.views import backend_views
from evenflow.controller import Controller
from evenflow.observe.logs import timestamp


async def health(context: Context, _request: Request) -> Response:
    """The short form; 503 when no backend is usable."""
    total, healthy = context.controller.health_counts()
    document = {
        "status": "healthy" if healthy else "unhealthy",
        "total_backends": total,
        "healthy_backends": healthy,
        "timestamp": timestamp(),
    }
    if restarts := context.controller.worker_restarts.count:
        document["worker_restarts"] = restarts
    return json_response(document, 200 if healthy else 503)


async def live(_context: Context, _request: Request) -> Response:
    """The event loop answers; that is all a restart could mend."""
    return json_response({"status": "alive", "timestamp": timestamp()})


async def ready(context: Context, _request: Request) -> Response:
    """Not ready without a usable backend, and from the moment of stopping on."""
    if context.closing.is_set():
        reason = "stopping"
    elif not context.controller.health_counts()[1]:
        reason = "no backend is usable"
    else:
        reason = ""
    document = {
        "status": "not ready" if reason else "ready",
        "reason": reason,
        "timestamp": timestamp(),
    }
    return json_response(document, 503 if reason else 200)


async def detailed(context: Context, _request: Request) -> Response:
    """The long form, with traffic and every backend."""
    controller = context.controller
    statuses = controller.backends()
    healthy = sum(status.healthy for status in statuses)
    stats = controller.stats()
    total, errors = stats["total_requests"], stats["total_errors"]
    document = {
        "status": "healthy" if healthy else "unhealthy",
        "total_backends": len(statuses),
        "healthy_backends": healthy,
        "success_rate": round(100 * (total - errors) / total, 2) if total else 100.0,
        "total_requests": total,
        "total_errors": errors,
        "revision": controller.revision,
        "uptime_seconds": round(time.time() - controller.started_at, 3),
        "last_reload_error": controller.last_reload_error,
        "workers": _workers(controller),
        "timestamp": timestamp(),
        "backends": backend_views(controller.members, statuses),
    }
    return json_response(document, 200 if healthy else 503)


def _workers(controller: Controller) -> shapes.WorkersHealth:
    restarts, totals = controller.worker_restarts, controller.engine.totals()
    return {
        "restarts": totals["worker_restarts"],
        "panics": totals["worker_panics"],
        "last_restart_at": None if restarts.at is None else timestamp(restarts.at),
        "last_restart_reason": restarts.reason or None,
    }
