"""Profiles of the control plane, for `go tool pprof` or, with `?debug=1`, as text."""

import asyncio

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from evenflow.admin.context import Context
from evenflow.admin.problems import Refusal
from evenflow.admin.respond import duration_parameter
from evenflow.observe import profiles
from evenflow.observe.pprof import Profile, encode

MAX_SECONDS = 120.0
_running = asyncio.Lock()

_INDEX = """profile?seconds=30    CPU time by stack
heap                  memory in use by type; heap?seconds=10: what is allocated meanwhile, by stack
goroutine             asyncio tasks and threads with their stacks
tasks                 the same

Each for `go tool pprof`; with ?debug=1 as text.
"""


async def index(_context: Context, _request: Request) -> Response:
    """What there is."""
    return PlainTextResponse(_INDEX)


async def cpu(_context: Context, request: Request) -> Response:
    """CPU time by stack over `?seconds=` (30); one at a time."""
    seconds = duration_parameter(request, "seconds", 30.0, at_most=MAX_SECONDS) or 0.0
    if _running.locked():
        raise Refusal(409, "a CPU profile is being taken already")
    async with _running:
        profile = await profiles.cpu(seconds)
    return _answer(request, profile, "profile")


async def heap(_context: Context, request: Request) -> Response:
    """Memory in use."""
    seconds = duration_parameter(request, "seconds", None, at_most=MAX_SECONDS)
    return _answer(request, await profiles.heap(seconds), "heap")


async def tasks(_context: Context, request: Request) -> Response:
    """Tasks and threads with their stacks."""
    return _answer(request, profiles.tasks(), "tasks")


def _answer(request: Request, profile: Profile, name: str) -> Response:
    if request.query_params.get("debug", "0") not in ("", "0"):
        return PlainTextResponse(profiles.as_text(profile))
    return Response(
        encode(profile),
        media_type="application/octet-stream",
        headers={"content-disposition": f'attachment; filename="{name}.pb.gz"'},
    )
