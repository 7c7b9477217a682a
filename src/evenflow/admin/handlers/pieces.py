"""Pools, routes, listeners and filters one by one: list, show, add, put in place, remove."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from evenflow.admin.bodies import LARGE, read_object
from evenflow.admin.context import Context
from evenflow.admin.handlers.backends import applied_document
from evenflow.admin.handlers.removal import removed
from evenflow.admin.operations import Handler
from evenflow.admin.preconditions import etag, writing
from evenflow.admin.problems import Refusal, not_found
from evenflow.admin.respond import json_response
from evenflow.config import Config, Problem
from evenflow.controller import (
    Applied,
    Kind,
    PieceNotFound,
    PieceTaken,
    piece_document,
    pieces,
    with_new_piece,
    with_piece,
    without_piece,
)


@dataclass(frozen=True, slots=True)
class Handlers:
    """What answers the requests about one kind of pieces."""

    list: Handler
    show: Handler
    add: Handler
    put: Handler
    remove: Handler


def handlers_of(kind: Kind) -> Handlers:
    """The handlers of a kind, named after it as the OpenAPI document names operations."""
    single = kind.removesuffix("s")

    async def list_pieces(context: Context, _request: Request) -> Response:
        controller = context.controller
        shown = [piece_document(*each) for each in pieces(controller.config, kind).items()]
        return json_response({kind: shown}, headers=etag(controller.revision))

    async def show(context: Context, request: Request) -> Response:
        name = request.path_params["name"]
        controller = context.controller
        found = pieces(controller.config, kind).get(name)
        if found is None:
            raise not_found(str(PieceNotFound(kind, name)))
        return json_response(piece_document(name, found), headers=etag(controller.revision))

    async def add(context: Context, request: Request) -> Response:
        document = await read_object(request, LARGE)
        try:
            async with writing(request) as asked:
                applied = await context.controller.change(
                    lambda config: with_new_piece(config, kind, document), **asked
                )
        except PieceTaken as taken:
            raise Refusal(409, str(taken), [Problem("name", str(taken))]) from None
        name = document["name"]
        response = _changed(context, name, applied, 201)
        response.headers["location"] = f"/api/v1/admin/{kind}/{name}"
        return response

    async def put(context: Context, request: Request) -> Response:
        name = request.path_params["name"]
        document = await read_object(request, LARGE)
        status = 200

        def edited(config: Config) -> Config:
            nonlocal status
            status = 200 if name in pieces(config, kind) else 201
            return with_piece(config, kind, name, document)

        async with writing(request) as asked:
            applied = await context.controller.change(edited, **asked)
        return _changed(context, name, applied, status)

    async def remove(context: Context, request: Request) -> Response:
        return await removed(
            context, request, lambda config, name: without_piece(config, kind, name)
        )

    def _changed(context: Context, name: str, applied: Applied, status: int) -> Response:
        controller = context.controller
        piece = pieces(controller.config, kind).get(name)
        # Somebody may have removed it again by now.
        shown = None if piece is None else piece_document(name, piece)
        return json_response(
            {**applied_document(applied), single: shown}, status, etag(applied.revision)
        )

    named = {
        f"list_{kind}": list_pieces,
        f"get_{single}": show,
        f"add_{single}": add,
        f"put_{single}": put,
        f"remove_{single}": remove,
    }
    for name, handler in named.items():
        handler.__name__ = name
    return Handlers(list_pieces, show, add, put, remove)
