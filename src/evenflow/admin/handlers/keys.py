"""The public keys that filters check tokens with."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from evenflow.admin.context import Context
from evenflow.admin.problems import not_found
from evenflow.admin.respond import json_response
from evenflow.controller import KeysStatus
from evenflow.observe.logs import timestamp


async def get_filter_keys(context: Context, request: Request) -> Response:
    """The keys of one filter."""
    name = request.path_params["name"]
    for status in context.controller.signing_keys():
        if status.filter == name:
            return json_response(_shown(status))
    raise not_found(f"no filter named {name!r} that checks tokens")


def _shown(status: KeysStatus) -> dict[str, Any]:
    return {
        "filter": status.filter,
        "source": status.source,
        "place": status.place,
        "keys": [{"kid": key.kid, "algorithms": list(key.algorithms)} for key in status.keys],
        "ignored": list(status.ignored),
        "last_refresh": None if status.refreshed_at is None else timestamp(status.refreshed_at),
        "last_error": status.error,
    }
