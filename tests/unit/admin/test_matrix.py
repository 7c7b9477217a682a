"""Every operation of the admin API, for every kind of caller, from every kind of page.

The operations come from the route table; what each needs is written down here once more, so a new
operation fails this test until somebody has said who may use it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from evenflow.admin.app import Resource
from evenflow.admin.context import Context
from evenflow.admin.table import OPERATIONS
from evenflow.config.hashes import hash_token

if TYPE_CHECKING:
    from evenflow.admin.operations import Operation
    from tests.unit.admin.conftest import StartAdmin

API = "/api/v1/admin"
NEEDED = {
    "GET /health": None,
    "GET /api/v1/admin/certificates": "read",
    "GET /api/v1/admin/filters/{name}/keys": "read",
    "GET /api/v1/admin/filters/{name}/lists": "read",
    "GET /api/v1/admin/certificates/{name}": "read",
    "PUT /api/v1/admin/certificates/{name}": "admin",
    "POST /api/v1/admin/certificates/{name}/renew": "operate",
    "POST /api/v1/admin/certificates": "admin",
    "DELETE /api/v1/admin/certificates/{name}": "admin",
    "GET /health/live": None,
    "GET /health/ready": None,
    "GET /api/v1/health": "read",
    "GET /metrics": "read",
    f"GET {API}/backends": "read",
    f"POST {API}/backends": "operate",
    f"POST {API}/backends/restore": "operate",
    f"GET {API}/backends/{{id}}": "read",
    f"PATCH {API}/backends/{{id}}": "operate",
    f"DELETE {API}/backends/{{id}}": "operate",
    f"POST {API}/backends/{{id}}/drain": "operate",
    f"PUT {API}/backends/{{id}}/breaker": "operate",
    f"GET {API}/pools/{{name}}/breaker": "read",
    f"PUT {API}/pools/{{name}}/breaker": "operate",
    f"GET {API}/config": "read",
    f"PUT {API}/config": "admin",
    f"PATCH {API}/config": "admin",
    f"POST {API}/config/diff": "operate",
    f"GET {API}/config/history": "read",
    f"POST {API}/config/rollback": "admin",
    f"GET {API}/stats": "read",
    f"GET {API}/decisions": "read",
    f"GET {API}/discovery": "read",
    f"GET {API}/audit": "read",
    f"GET {API}/nodes": "read",
    f"GET {API}/events": "read",
    f"POST {API}/explain": "read",
    f"POST {API}/reload": "operate",
    f"GET {API}/log-level": "read",
    f"PUT {API}/log-level": "operate",
    "GET /openapi.json": "read",
    "GET /docs/": "read",
    "GET /docs/{name}": "read",
    "GET /docs": "read",
    "GET /debug/pprof/": "operate",
    "GET /debug/pprof/profile": "operate",
    "GET /debug/pprof/heap": "operate",
    "GET /debug/pprof/goroutine": "operate",
    "GET /debug/pprof/tasks": "operate",
}
for _kind in ("listeners", "routes", "pools", "filters"):
    NEEDED |= {
        f"GET {API}/{_kind}": "read",
        f"POST {API}/{_kind}": "admin",
        f"GET {API}/{_kind}/{{name}}": "read",
        f"PUT {API}/{_kind}/{{name}}": "admin",
        f"DELETE {API}/{_kind}/{{name}}": "admin",
    }
RANKS = [None, "read", "operate", "admin"]

CALLERS: Mapping[str, tuple[dict[str, str], str | None]] = {
    "loopback": ({"evenflow-client": "127.0.0.1"}, "admin"),
    "unix socket": ({"evenflow-client": "unix"}, "admin"),
    "private network": ({"evenflow-client": "10.1.2.3"}, "read"),
    "stranger": ({"evenflow-client": "203.0.113.9"}, None),
    "nobody named": ({}, None),
    "read token": ({"evenflow-client": "203.0.113.9", "authorization": "Bearer see"}, "read"),
    "operate token": (
        {"evenflow-client": "203.0.113.9", "authorization": "Bearer turn"},
        "operate",
    ),
    "admin token": ({"evenflow-client": "203.0.113.9", "authorization": "Bearer rule"}, "admin"),
    "read token, locally": (
        {"evenflow-client": "127.0.0.1", "authorization": "Bearer see"},
        "read",
    ),
    "wrong token": ({"evenflow-client": "127.0.0.1", "authorization": "Bearer wrong"}, None),
    "wrong scheme": ({"evenflow-client": "127.0.0.1", "authorization": "Basic cnVsZQ=="}, None),
}

LOCAL_HOST = {"host": "localhost:8080"}
ORIGINS: Mapping[str, tuple[dict[str, str], bool]] = {
    "no page": (LOCAL_HOST, True),
    "its own page": (
        LOCAL_HOST | {"origin": "http://localhost:8080", "sec-fetch-site": "same-origin"},
        True,
    ),
    "another origin": (LOCAL_HOST | {"origin": "https://evil.example"}, False),
    "another port": (LOCAL_HOST | {"origin": "http://localhost:3000"}, False),
    "a sandboxed page": (LOCAL_HOST | {"origin": "null"}, False),
    "a form on another site": (LOCAL_HOST | {"sec-fetch-site": "cross-site"}, False),
    "a rebound name": ({"host": "evil.example:8080"}, False),
    "another proxy": (LOCAL_HOST | {"x-forwarded-for": "127.0.0.1"}, False),
}


def test_everybody_has_said_what_each_operation_needs() -> None:
    table = {
        f"{each.method} {each.path}": None if each.role is None else each.role.label
        for each in OPERATIONS
    }
    assert table == NEEDED


def test_what_changes_something_needs_more_than_reading() -> None:
    reading = {each.path for each in OPERATIONS if each.method != "GET" and not each.changes}
    assert reading == {f"{API}/config/diff", f"{API}/explain"}


async def asked(resource: Resource, operation: Operation, fields: Mapping[str, str]) -> int:
    """The status of one request, straight to the app."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    waiting = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    scope: dict[str, Any] = {
        "type": "http",
        "method": operation.method,
        "path": operation.path,
        "query_string": b"",
        "headers": [(n.encode(), v.encode()) for n, v in fields.items()],
        "path_params": {},
        "server": ("localhost", 8080),
        "scheme": "http",
    }
    await resource(scope, receive, send)
    status: int = sent[0]["status"]
    return status


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: f"{each.method} {each.path}")
async def test_the_matrix(operation: Operation, start_admin: StartAdmin) -> None:
    tokens = [("viewer", "read", "see"), ("operator", "operate", "turn"), ("boss", "admin", "rule")]
    admin = await start_admin(
        {
            "backends": [{"url": "http://127.0.0.1:8081"}],
            "admin": {
                "tokens": [
                    {"name": name, "role": role, "token": hash_token(secret)}
                    for name, role, secret in tokens
                ]
            },
        }
    )
    reached = 0

    async def handler(_context: Context, _request: Request) -> Response:
        nonlocal reached
        reached += 1
        return Response(status_code=200)

    context = Context(admin.controller, None, ())
    resource = Resource(context, [replace(operation, handler=handler)])
    needed = RANKS.index(NEEDED[f"{operation.method} {operation.path}"])
    for caller, (identity, role) in CALLERS.items():
        for page, (fields, local) in ORIGINS.items():
            # Lockout has tests of its own.
            context.lockout.succeeded(identity.get("evenflow-client", ""))
            with_token = "authorization" in identity
            has = RANKS.index(role if with_token or local else None)
            if needed == 0 or has >= needed:
                expected = 200
            else:
                expected = 403 if with_token and has > 0 else 401
            before = reached
            status = await asked(resource, operation, identity | fields)
            assert status == expected, f"{caller}, {page}: {status} instead of {expected}"
            # The metrics page is found by the configured path, not by the table.
            if operation.group != "metrics":
                assert reached - before == (expected == 200), f"{caller}, {page}"
