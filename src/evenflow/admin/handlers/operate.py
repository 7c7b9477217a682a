"""Operations: explain a request, reload, change the log level."""

from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from evenflow.admin.bodies import read_object
from evenflow.admin.context import Context
from evenflow.admin.handlers.backends import applied_document
from evenflow.admin.preconditions import etag, writing
from evenflow.admin.problems import malformed
from evenflow.admin.respond import json_response
from evenflow.engine import EngineError, ExplainRequest

_EXPLAIN_KEYS = ("method", "target", "url", "headers", "client", "listener")


async def explain(context: Context, request: Request) -> Response:
    """Which route, filters and backend a request would meet, and why; nothing is sent."""
    wanted = _explain_request(await read_object(request))
    try:
        return json_response(context.controller.explain(wanted))
    except EngineError as error:
        if error.code == "plan":
            raise malformed(error.message, error.path) from None
        raise


def _explain_request(document: dict[str, Any]) -> ExplainRequest:
    for key in document:
        if key not in _EXPLAIN_KEYS:
            raise malformed(f"expected one of {', '.join(_EXPLAIN_KEYS)}", key)
    target, headers = document.get("target", "/"), _fields(document.get("headers", []))
    if "url" in document:
        if "target" in document:
            raise malformed("give either `url` or `target`", "url")
        target, host = _parted(_text(document, "url", ""))
        if host and all(name != "host" for name, _ in headers):
            headers.insert(0, ("host", host))
    listener = document.get("listener")
    if not isinstance(target, str) or not target.startswith("/"):
        raise malformed(f"expected a path such as /users/7?x=1, got {target!r}", "target")
    if not (listener is None or isinstance(listener, str)):
        raise malformed("expected a listener's name", "listener")
    return {
        "listener": listener,
        "method": _text(document, "method", "GET"),
        "target": target,
        "headers": headers,
        "client": _text(document, "client", "127.0.0.1"),
    }


def _parted(url: str) -> tuple[str, str]:
    """Target and host of an address; 400 when it is none."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise malformed(str(error), "url") from None
    path = parts.path or "/"
    return f"{path}?{parts.query}" if parts.query else path, parts.netloc


def _text(document: dict[str, Any], key: str, default: str) -> str:
    value = document.get(key, default)
    if not isinstance(value, str):
        raise malformed(f"expected text, got {value!r}", key)
    return value


def _fields(headers: object) -> list[tuple[str, str]]:
    """Header fields from an object or from pairs, names in lower case."""
    pairs = list(headers.items()) if isinstance(headers, dict) else headers
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(t, str) for t in pair)
        for pair in pairs
    ):
        raise malformed('expected {"name": "value"} or [["name", "value"]]', "headers")
    return [(name.lower(), value) for name, value in pairs]


async def reload(context: Context, request: Request) -> Response:
    """Read file and environment again and apply what changed in them."""
    async with writing(request) as asked:
        applied = await context.controller.reload(**asked)
    return json_response(applied_document(applied), headers=etag(applied.revision))


async def get_log_level(context: Context, _request: Request) -> Response:
    """The lowest level that is logged."""
    return json_response({"level": context.controller.config.logging.level})


async def put_log_level(context: Context, request: Request) -> Response:
    """Change the lowest level that is logged, at once; the configuration keeps it."""
    document = await read_object(request)
    if document.keys() != {"level"}:
        raise malformed('expected {"level": "debug"}, or info, warn, error', "level")
    async with writing(request) as asked:
        await context.controller.patch({"logging": document}, **asked)
        level = context.controller.config.logging.level
        if context.set_log_level is not None:
            context.set_log_level(level)
    return json_response({"level": level}, headers=etag(context.controller.revision))
