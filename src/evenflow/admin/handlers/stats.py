"""Numbers, decisions with their reasons, and the stream of decisions."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from evenflow.admin.context import Context
from evenflow.admin.problems import malformed
from evenflow.admin.respond import json_response, whole_parameter
from evenflow.controller import Decision, Subscription
from evenflow.observe.logs import timestamp
from evenflow.observe.process import process_usage

KEEP_ALIVE_S = 15.0
"""The longest silence of an event stream; a comment ends it, so that dead clients are noticed."""


async def get_stats(context: Context, _request: Request) -> Response:
    """Numbers since the start, and what the process uses."""
    usage = process_usage()
    document = {
        **context.controller.stats(),
        "process": {
            "resident_memory_bytes": usage.resident_bytes,
            "cpu_seconds": round(usage.cpu_s, 3),
            "open_fds": usage.open_fds,
            "threads": usage.threads,
        },
        "timestamp": timestamp(),
    }
    return json_response(document)


async def get_decisions(context: Context, request: Request) -> Response:
    """The last decisions, oldest first."""
    decisions: Iterable[Decision] = context.controller.decisions
    limit = whole_parameter(request, "limit", 100)
    since = whole_parameter(request, "since", 0)
    kind = request.query_params.get("kind")
    found = [d for d in decisions if d.id > since and (kind is None or d.kind == kind)]
    return json_response(
        {"decisions": [_document(decision) for decision in found[-limit:] if limit]}
    )


async def stream_events(context: Context, request: Request) -> Response:
    """Decisions as they are made, as server-sent events.

    A client that comes back with `Last-Event-ID` first gets what it missed, as far as it is kept.
    """
    text = request.headers.get("last-event-id") or request.query_params.get("since")
    if text is not None and not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise malformed(f"expected the id of an event, got {text!r}", "since")
    return StreamingResponse(
        _events(context, None if text is None else int(text)),
        headers={"x-accel-buffering": "no"},
        media_type="text/event-stream",
    )


async def _events(context: Context, since: int | None) -> AsyncIterator[bytes]:
    decisions = context.controller.decisions
    with decisions.subscribe() as subscription:
        missed = [] if since is None else decisions.since(since)
        yield b"retry: 2000\n: evenflow\n\n"
        for decision in missed:
            yield _event(decision)
        stopping = asyncio.ensure_future(context.closing.wait())
        try:
            async for made in _until(stopping, subscription):
                yield b": still here\n\n" if made is None else _event(made)
        finally:
            stopping.cancel()


async def _until(
    stopping: "asyncio.Future[Any]", subscription: Subscription
) -> AsyncIterator[Decision | None]:
    """Decisions until `stopping` is done; `None` after each silence."""
    following: asyncio.Task[Decision] | None = None
    try:
        while not stopping.done():
            if following is None:
                following = asyncio.ensure_future(subscription.next())
            await asyncio.wait(
                (stopping, following), timeout=KEEP_ALIVE_S, return_when=asyncio.FIRST_COMPLETED
            )
            if following.done():
                decision, following = following.result(), None
                yield decision
            elif not stopping.done():
                yield None
    finally:
        if following is not None:
            following.cancel()


def _event(decision: Decision) -> bytes:
    data = json.dumps(_document(decision), ensure_ascii=False, separators=(",", ":"))
    return f"id: {decision.id}\nevent: {decision.kind}\ndata: {data}\n\n".encode()


def _document(decision: Decision) -> dict[str, Any]:
    return {**decision.document(), "time": timestamp(decision.time)}
