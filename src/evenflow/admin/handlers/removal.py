"""Takes something that has a name out of the configuration."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from evenflow.admin.context import Context
from evenflow.admin.handlers.backends import applied_document
from evenflow.admin.preconditions import etag, writing
from evenflow.admin.problems import Refusal, not_found
from evenflow.admin.respond import json_response
from evenflow.config import Config
from evenflow.controller import PieceInUse, PieceNotFound


async def removed(
    context: Context, request: Request, without: Callable[[Config, str], Config]
) -> Response:
    """What is named in the request's path is gone; 409 while something else names it."""
    name = request.path_params["name"]
    try:
        async with writing(request) as asked:
            applied = await context.controller.change(lambda config: without(config, name), **asked)
    except PieceNotFound as missing:
        raise not_found(str(missing)) from None
    except PieceInUse as used:
        raise Refusal(409, str(used), used.errors) from None
    return json_response(
        {"name": name, **applied_document(applied)}, headers=etag(applied.revision)
    )
