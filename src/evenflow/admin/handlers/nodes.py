"""The nodes of the cluster."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from evenflow.admin.context import Context
from evenflow.admin.respond import json_response
from evenflow.cluster import Node
from evenflow.observe.logs import timestamp


async def get_nodes(context: Context, _request: Request) -> Response:
    """How the cluster is, as this node sees it."""
    status = context.cluster.status() if context.cluster is not None else None
    if status is None:
        return json_response(
            {"enabled": False, "up": False, "since": None, "error": None, "node": None, "nodes": []}
        )
    return json_response(
        {
            "enabled": True,
            "up": status.up,
            "since": timestamp(status.since),
            "error": status.error,
            "node": status.name,
            "nodes": [_shown(node) for node in status.nodes],
        }
    )


def _shown(node: Node) -> dict[str, Any]:
    return {
        "name": node.name,
        "host": node.host,
        "version": node.version,
        "revision": node.revision,
        "listeners": {name: list(bound) for name, bound in node.listeners.items()},
        "started_at": timestamp(node.started_at),
        "requests_per_second": node.requests_per_second,
        "age_s": round(node.age_s, 3),
    }
