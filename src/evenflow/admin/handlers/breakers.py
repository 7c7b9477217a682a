"""Circuit breakers: show those of a pool or a backend, hold one open or closed by hand."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from evenflow.admin.bodies import read_object
from evenflow.admin.context import Context
from evenflow.admin.problems import Refusal, malformed, not_found
from evenflow.admin.respond import json_response
from evenflow.admin.views import breaker_view
from evenflow.controller import BackendNotFound, NoBreaker, Override, PieceNotFound

_STATES: dict[object, Override | None] = {"open": "open", "closed": "closed", "automatic": None}


async def get_pool_breaker(context: Context, request: Request) -> Response:
    """The breakers of a pool: of the pool as a whole, and of its backends."""
    return json_response(_of_pool(context, request.path_params["name"]))


async def put_pool_breaker(context: Context, request: Request) -> Response:
    """Hold the breaker of a pool as a whole open or closed, or let it go."""
    name = request.path_params["name"]
    _known(context, name)
    await _force(context, request, name, None)
    return json_response(_of_pool(context, name))


async def put_backend_breaker(context: Context, request: Request) -> Response:
    """Hold the breaker of a backend open or closed, or let it go."""
    id = request.path_params["id"]
    found = context.controller.backend(id)
    if found is None:
        raise not_found(str(BackendNotFound(id)))
    shown = await _force(context, request, found.pool, id)
    return json_response({"pool": found.pool, "backend": id, "breaker": shown})


def _of_pool(context: Context, name: str) -> dict[str, Any]:
    _known(context, name)
    breakers = context.controller.breakers.statuses()
    return {
        "pool": name,
        "breaker": breaker_view(breakers.get((name, None))),
        "backends": {
            id: breaker_view(status)
            for (pool, id), status in breakers.items()
            if pool == name and id is not None
        },
    }


def _known(context: Context, pool: str) -> None:
    if not context.controller.has_pool(pool):
        raise not_found(str(PieceNotFound("pools", pool)))


async def _force(
    context: Context, request: Request, pool: str, backend: str | None
) -> dict[str, Any] | None:
    document = await read_object(request)
    wanted = document.get("state")
    if document.keys() != {"state"} or not isinstance(wanted, str) or wanted not in _STATES:
        raise malformed('expected {"state": "open"}, or closed, automatic', "state")
    who = getattr(request.state, "who", "") or "the API"
    try:
        status = await context.controller.hold_breaker((pool, backend), _STATES[wanted], who)
    except NoBreaker:
        what = f"pool {pool!r}" if backend is None else f"backend {backend!r}"
        text = f"{what} has no breaker of its own: see `scope` of the pool's `breaker`"
        raise Refusal(409, text) from None
    return breaker_view(status)
