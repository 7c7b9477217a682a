"""The audit log, a page at a time."""

from starlette.requests import Request
from starlette.responses import Response

from evenflow.admin.context import Context
from evenflow.admin.problems import malformed
from evenflow.admin.respond import json_response, whole_parameter

MOST = 1000


async def get_audit(context: Context, request: Request) -> Response:
    """Entries newest first; `next` is the `before` of the following page."""
    limit = whole_parameter(request, "limit", 100)
    if not 1 <= limit <= MOST:
        raise malformed(f"expected 1 to {MOST}, got {limit}", "limit")
    before = whole_parameter(request, "before", 0)
    entries = await context.audit.page(limit, before or None)
    more = len(entries) == limit and entries[-1]["seq"] > 1
    return json_response({"entries": entries, "next": entries[-1]["seq"] if more else None})
