"""Answers and parameters in the form all handlers share."""

import json
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from evenflow.admin.problems import malformed
from evenflow.config import parse_duration


def json_response(
    document: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON answer: indented while it is small enough to be read by a person."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    if len(text) < 20_000:
        text = json.dumps(document, ensure_ascii=False, indent=2)
    return Response(text + "\n", status, headers, "application/json")


def duration_parameter(
    request: Request, name: str, default: float | None, *, at_most: float
) -> float | None:
    """Seconds from a query parameter such as `30s` or `30`; 400 for anything else."""
    text = request.query_params.get(name)
    if text is None:
        return default
    try:
        value = parse_duration(float(text) if text.replace(".", "", 1).isdigit() else text)
    except ValueError as error:
        raise malformed(str(error), name) from None
    if value > at_most:
        raise malformed(f"expected at most {at_most:g}s, got {text!r}", name)
    return value


def whole_parameter(request: Request, name: str, default: int) -> int:
    """A whole number from a query parameter; 400 for anything else."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise malformed(f"expected a whole number, got {text!r}", name)
    return int(text)
