"""Backends: list, add, change, drain, remove, restore."""

import asyncio
import time
from collections.abc import Mapping
from itertools import count
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from evenflow.admin.bodies import LARGE, read_json, read_object
from evenflow.admin.context import Context
from evenflow.admin.preconditions import etag, writing
from evenflow.admin.problems import Refusal, malformed, not_found
from evenflow.admin.respond import duration_parameter, json_response
from evenflow.admin.views import backend_views, configured_part
from evenflow.config import Backend, Config, ConfigError, Problem, read_document
from evenflow.config.expand import path_name
from evenflow.controller import (
    Applied,
    BackendDiscovered,
    BackendNotFound,
    BackendStatus,
    rebuilt,
    with_backend,
)

MAX_WAIT_S = 240.0
"""Below the time the engine waits for an answer to start."""
_POLL_S = 0.02


async def list_backends(context: Context, _request: Request) -> Response:
    """Every backend with how it is."""
    controller = context.controller
    views = backend_views(controller.members, controller.backends())
    return json_response({"backends": views}, headers=etag(controller.revision))


async def get_backend(context: Context, request: Request) -> Response:
    """One backend."""
    return _shown(context, request.path_params["id"])


async def add_backend(context: Context, request: Request) -> Response:
    """Add one backend; it gets requests when the answer comes."""
    document = configured_part(await read_object(request))
    pool = document.pop("pool", None)
    if not (pool is None or isinstance(pool, str)):
        raise malformed("expected a pool's name", "pool")
    controller = context.controller
    backend = _read_backend({"id": _free_id(context), **document})

    def added(config: Config) -> Config:
        # Only here, while no other change can happen, is a free id sure to stay free.
        nonlocal backend
        if "id" not in document:
            backend = backend.model_copy(update={"id": _free_id(context)})
        known = controller.members
        taken = {id for _, id in known} if pool is None else {id for of, id in known if of == pool}
        if backend.id in taken:
            text = f"a backend has the id {backend.id!r} already"
            raise Refusal(409, text, [Problem("id", text)])
        return with_backend(config, backend, pool)

    async with writing(request) as asked:
        applied = await controller.change(added, **asked)
    response = _shown(context, backend.id, applied, status=201)
    response.headers["location"] = f"/api/v1/admin/backends/{backend.id}"
    return response


def _free_id(context: Context) -> str:
    """The first of backend-1, backend-2, … that no backend has."""
    ids = {id for _, id in context.controller.members}
    return next(free for n in count(1) if (free := f"backend-{n}") not in ids)


async def update_backend(context: Context, request: Request) -> Response:
    """Change some fields of one backend (RFC 7396: `null` takes a field back to its default)."""
    name = request.path_params["id"]
    change = configured_part(await read_object(request))
    _find(context, name)
    if (pool := change.pop("pool", None)) is not None and pool != _find(context, name).pool:
        raise malformed("a backend cannot move to another pool; remove it and add it there", "pool")
    async with writing(request) as asked:
        applied = await _of_one(context.controller.update_backend(name, change, **asked))
    return _shown(context, name, applied)


async def remove_backend(context: Context, request: Request) -> Response:
    """Remove one backend; what it has in flight is finished."""
    name = request.path_params["id"]
    async with writing(request) as asked:
        applied = await _of_one(context.controller.remove_backend(name, **asked))
    return json_response({"id": name, **applied_document(applied)}, headers=etag(applied.revision))


async def drain_backend(context: Context, request: Request) -> Response:
    """Give one backend no new requests and tell whether it is empty, waiting if asked to."""
    name = request.path_params["id"]
    wait_s = duration_parameter(request, "wait", 0.0, at_most=MAX_WAIT_S) or 0.0
    async with writing(request) as asked:
        await _of_one(context.controller.update_backend(name, {"drain": True}, **asked))
    deadline = time.monotonic() + wait_s
    pause = _POLL_S
    while (active := _find(context, name).active_connections) and time.monotonic() < deadline:
        if context.closing.is_set():
            break
        await asyncio.sleep(min(pause, max(0.0, deadline - time.monotonic())))
        pause = min(pause * 1.5, 0.5)
    document = {
        "id": name,
        "draining": True,
        "active_connections": active,
        "empty": active == 0,
        "revision": context.controller.revision,
    }
    return json_response(document)


async def restore_backends(context: Context, request: Request) -> Response:
    """Replace all backends by a list as `GET` prints it."""
    document = await read_json(request, LARGE)
    views = document.get("backends") if isinstance(document, dict) else document
    if not isinstance(views, list) or not all(isinstance(view, dict) for view in views):
        raise malformed('expected {"backends": [{...}, ...]}', "backends")
    # They are not configured, so there is nothing of them to restore.
    views = [view for view in views if not view.get("discovered")]
    controller = context.controller

    def restored(config: Config) -> Config:
        return rebuilt(config, **_sorted_by_pool(config, views))

    async with writing(request) as asked:
        applied = await controller.change(restored, **asked)
    shown = backend_views(controller.members, controller.backends())
    return json_response(
        {**applied_document(applied), "backends": shown}, headers=etag(applied.revision)
    )


def applied_document(applied: Applied) -> dict[str, Any]:
    """What every change answers."""
    return {
        "revision": applied.revision,
        "changes": list(applied.changes),
        "warnings": list(applied.warnings),
    }


def _sorted_by_pool(config: Config, views: list[dict[str, Any]]) -> dict[str, Any]:
    """The backends outside pools and, where pools are configured, the pools with theirs."""
    members: dict[str, list[dict[str, Any]]] = {pool.name: [] for pool in config.pools}
    flat: list[dict[str, Any]] = []
    for position, view in enumerate(views):
        document = configured_part(view)
        pool = document.pop("pool", None)
        if isinstance(pool, str) and pool in members:
            members[pool].append(document)
            continue
        flat.append(document)
        if pool is not None and pool != _own_pool(document):
            raise ConfigError([Problem(f"backends[{position}].pool", f"no pool {pool!r}")])
    pools = [
        {
            **{name: getattr(pool, name) for name in pool.model_fields_set},
            "backends": members[pool.name],
        }
        for pool in config.pools
    ]
    return {"backends": flat, "pools": pools}


def _own_pool(document: Mapping[str, Any]) -> str | None:
    """The pool that a backend outside configured pools makes by its URL's path."""
    try:
        return path_name(_read_backend(document).target.path)
    except ConfigError:
        return None


def _read_backend(document: Mapping[str, Any]) -> Backend:
    try:
        return read_document({"backends": [document]}).backends[0]
    except ConfigError as error:
        # The caller wrote one backend, not a list of them.
        raise ConfigError(
            Problem(p.path.removeprefix("backends[0]").removeprefix("."), p.message)
            for p in error.errors
        ) from None


async def _of_one(change: Any) -> Applied:
    try:
        applied: Applied = await change
    except BackendNotFound as error:
        raise not_found(str(error)) from None
    except BackendDiscovered as error:
        raise Refusal(409, str(error)) from None
    return applied


def _find(context: Context, id: str) -> BackendStatus:
    if (found := context.controller.backend(id)) is not None:
        return found
    raise not_found(str(BackendNotFound(id)))


def _shown(
    context: Context, id: str, applied: Applied | None = None, status: int = 200
) -> Response:
    found = _find(context, id)
    (view,) = backend_views(context.controller.members, [found])
    if applied is not None:
        view |= applied_document(applied)
    return json_response(view, status, etag(context.controller.revision))
