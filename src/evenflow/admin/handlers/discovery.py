"""Where pools' further endpoints come from, and how these sources are."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from evenflow.admin.context import Context
from evenflow.admin.respond import json_response
from evenflow.controller import SourceStatus
from evenflow.observe.logs import timestamp


async def list_sources(context: Context, _request: Request) -> Response:
    """All sources, in the configuration's order."""
    sources = [_shown(status) for status in context.controller.discovery()]
    return json_response({"sources": sources})


def _shown(status: SourceStatus) -> dict[str, Any]:
    return {
        "pool": status.pool,
        "source": status.source,
        "kind": status.kind,
        "place": status.place,
        "endpoints": status.endpoints,
        "last_success": _time(status.last_success),
        "last_change": _time(status.last_change),
        "next_attempt": _time(status.next_attempt),
        "last_error": status.error,
        "failures": status.failures,
        "updates": dict(status.updates),
        "notes": list(status.notes),
    }


def _time(at: float | None) -> str | None:
    return None if at is None else timestamp(at)
