"""Request bodies: read within a bound, decoded strictly as JSON whatever their declared type.

`curl -d` says that it sends a form, so the declared type decides nothing.
"""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from evenflow.admin.problems import Refusal, malformed

SMALL = 1 << 20
"""The bound for what describes one thing: 1 MiB."""
LARGE = 64 << 20
"""The bound for whole configurations and backend lists: 64 MiB."""


async def read_json(request: Request, limit: int = SMALL) -> Any:
    """The decoded body; 400 when it is not JSON, 413 beyond `limit` bytes."""
    body = await _read(request, limit)
    if not body.strip():
        raise malformed("expected a JSON document, got an empty body")
    try:
        return json.loads(body, object_pairs_hook=_unique, parse_constant=_not_json)
    except (ValueError, RecursionError) as error:
        raise malformed(f"not a JSON document: {error}") from None


async def read_object(request: Request, limit: int = SMALL) -> dict[str, Any]:
    """The decoded body, which must be an object."""
    document = await read_json(request, limit)
    if not isinstance(document, dict):
        raise malformed(f"expected an object, got {_kind(document)}")
    return document


async def read_optional_object(request: Request) -> dict[str, Any]:
    """The decoded body or, when there is none, an empty object."""
    body = await _read(request, SMALL)
    return await read_object(request) if body.strip() else {}


async def _read(request: Request, limit: int) -> bytes:
    if hasattr(request.state, "body"):
        known: bytes = request.state.body
        return known
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > limit:
                raise _too_large(limit)
    except ClientDisconnect:
        raise malformed("the body ended early") from None
    request.state.body = bytes(body)
    return bytes(body)


def _too_large(limit: int) -> Refusal:
    # The rest of the body is not read, so the connection cannot be used again.
    return Refusal(413, f"a body may have {limit} bytes here", headers={"connection": "close"})


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice!r} appears twice in one object")
    return document


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON value")


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case int() | float():
            return "a number"
        case Mapping():
            return "an object"
        case _:
            return "an array"
