"""The configuration: show, replace or merge, compare, history, rollback."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from evenflow.admin.bodies import LARGE, read_object, read_optional_object
from evenflow.admin.context import Context
from evenflow.admin.handlers.backends import applied_document
from evenflow.admin.preconditions import etag, unchanged, writing
from evenflow.admin.problems import malformed, not_found
from evenflow.admin.respond import json_response
from evenflow.config import Config, expand, read_document
from evenflow.controller import RevisionNotFound, merge_patch
from evenflow.observe.logs import timestamp

SECTIONS = frozenset(Config().model_dump(mode="json", exclude_none=True))
"""The sections that `GET` always prints. A document with all of them is a whole configuration."""


async def get_config(context: Context, request: Request) -> Response:
    """The configuration in force; with `?expanded=true` in its full form."""
    controller = context.controller
    headers = {**etag(controller.revision), "cache-control": "no-cache"}
    if unchanged(request, controller.revision):
        return Response(status_code=304, headers=headers)
    if request.query_params.get("expanded") in ("", "1", "true"):
        document = expand(controller.config).model_dump(mode="json", exclude_none=True)
    else:
        document = controller.document()
    return json_response(document, headers=headers)


async def put_config(context: Context, request: Request) -> Response:
    """Replace the configuration by a whole document, or merge a partial one into it."""
    document = await read_object(request, LARGE)
    async with writing(request) as asked:
        if document.keys() >= SECTIONS:
            wanted = read_document(document)
            applied = await context.controller.apply(wanted, **asked)
        else:
            applied = await context.controller.patch(document, **asked)
    return json_response(applied_document(applied), headers=etag(applied.revision))


async def patch_config(context: Context, request: Request) -> Response:
    """Merge a partial document (RFC 7396) into the configuration."""
    document = await read_object(request, LARGE)
    async with writing(request) as asked:
        applied = await context.controller.patch(document, **asked)
    return json_response(applied_document(applied), headers=etag(applied.revision))


async def diff_config(context: Context, request: Request) -> Response:
    """What `PUT` of the same document would change."""
    document = await read_object(request, LARGE)
    controller = context.controller
    wanted = _wanted(controller.document(), document)
    return json_response({"revision": controller.revision, "changes": controller.diff(wanted)})


def _wanted(current: Mapping[str, Any], document: Mapping[str, Any]) -> Config:
    whole = document if document.keys() >= SECTIONS else merge_patch(current, document)
    return read_document(whole)


async def get_history(context: Context, _request: Request) -> Response:
    """The revisions that are kept, newest first."""
    controller = context.controller
    entries = [
        {
            "revision": entry.revision,
            "timestamp": timestamp(entry.created_at),
            "source": entry.source,
            "changes": list(entry.changes),
        }
        for entry in controller.history()
    ]
    return json_response({"revision": controller.revision, "history": entries})


async def rollback_config(context: Context, request: Request) -> Response:
    """Put an earlier revision in force again; the one before when none is named."""
    document = await read_optional_object(request)
    controller = context.controller
    if unknown := document.keys() - {"revision"}:
        raise malformed("expected only `revision`", min(unknown))
    if "revision" in document:
        revision = document["revision"]
        if not isinstance(revision, int) or isinstance(revision, bool):
            raise malformed(f"expected a revision's number, got {revision!r}", "revision")
    else:
        earlier = [e.revision for e in controller.history() if e.revision < controller.revision]
        if not earlier:
            raise not_found("there is no earlier revision")
        revision = max(earlier)
    async with writing(request) as asked:
        try:
            applied = await controller.rollback(revision, **asked)
        except RevisionNotFound as error:
            raise not_found(str(error)) from None
    return json_response(applied_document(applied), headers=etag(applied.revision))
