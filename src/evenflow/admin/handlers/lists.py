"""The files of address lists that filters name."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from evenflow.admin.context import Context
from evenflow.admin.problems import not_found
from evenflow.admin.respond import json_response
from evenflow.config import FilterChain
from evenflow.config.types import list_file
from evenflow.controller import AddressListStatus, PieceNotFound, pieces
from evenflow.observe.logs import timestamp


async def get_filter_lists(context: Context, request: Request) -> Response:
    """The files of one filter's lists, and how it went when they were read."""
    name = request.path_params["name"]
    chain = pieces(context.controller.config, "filters").get(name)
    if not isinstance(chain, FilterChain):
        raise not_found(str(PieceNotFound("filters", name)))
    known = {each.file: each for each in context.controller.address_lists()}
    lists = [
        _shown(key, status)
        for key, entries in (
            ("ip_whitelist", chain.ip_whitelist),
            ("ip_blacklist", chain.ip_blacklist),
        )
        for entry in entries
        if (file := list_file(entry)) is not None and (status := known.get(file)) is not None
    ]
    return json_response({"filter": name, "lists": lists})


def _shown(key: str, status: AddressListStatus) -> dict[str, Any]:
    return {
        "list": key,
        "file": status.file,
        "networks": status.networks,
        "last_read": timestamp(status.read_at),
        "last_error": status.error,
        "failures": status.failures,
    }
