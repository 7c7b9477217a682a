"""The admin app: checks access, finds the operation, answers errors as problem documents."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from math import ceil

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from evenflow.admin import access
from evenflow.admin.auditing import audit
from evenflow.admin.context import Context
from evenflow.admin.operations import Operation
from evenflow.admin.problems import Refusal, not_found
from evenflow.admin.table import METRICS, OPERATIONS
from evenflow.cluster import Cluster
from evenflow.config import ConfigError
from evenflow.controller import Controller, StateError, collecting_revisions
from evenflow.engine import EngineError
from evenflow.state.audit import AuditLog

_log = structlog.get_logger("evenflow.admin")

_COMMON_HEADERS = (
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
)


def create_app(
    controller: Controller,
    *,
    set_log_level: Callable[[str], None] | None = None,
    hosts: Collection[str] = (),
    audit_log: AuditLog | None = None,
    cluster: Cluster | None = None,
) -> Starlette:
    """The app over one controller.

    `set_log_level` changes the program log's level at once. `hosts` are DNS names under which
    callers without a token may address the balancer. `audit_log` gets every change; it is kept in
    memory only when absent. `cluster` is whose nodes are shown.
    """
    context = Context(controller, set_log_level, hosts, cluster=cluster)
    if audit_log is not None:
        context.audit = audit_log
    by_path: dict[str, list[Operation]] = {}
    for operation in OPERATIONS:
        by_path.setdefault(operation.path, []).append(operation)
    # Literal paths before those with a parameter, which would take them too.
    paths = sorted(by_path, key=lambda path: ("{" in path, path))
    routes = [Route(path, Resource(context, by_path[path])) for path in paths]
    routes.append(Route("/{path:path}", Resource(context, ())))
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    app.state.context = context
    return app


class Resource:
    """All operations on one path."""

    def __init__(self, context: Context, operations: Sequence[Operation]) -> None:
        self._context = context
        self._operations: Mapping[str, Operation] = {o.method: o for o in operations}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        detail = ""
        with collecting_revisions() as revisions:
            try:
                response = await self._answer(request)
            except Exception as error:  # noqa: BLE001 - the client gets an answer whatever went wrong
                refusal = _refusal(request, error)
                response, detail = refusal.response(), refusal.detail
        operation = self._operations.get(request.method)
        if operation is not None and operation.changes and hasattr(request.state, "who"):
            status = response.status_code
            await audit(self._context, request, operation, status, revisions, detail)
        for name, value in _COMMON_HEADERS:
            response.headers.setdefault(name, value)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        operations = self._served(request)
        method = "GET" if request.method == "HEAD" else request.method
        operation = operations.get(method)
        # What does not exist is told only to those who may look around.
        needed = operation.role if operation is not None else access.Role.READ
        if needed is not None:
            await self._check_access(request, needed)
        if not operations:
            raise not_found(f"nothing is at {request.url.path}")
        if operation is not None:
            return await operation.handler(self._context, request)
        allow = {"allow": ", ".join(_methods(operations))}
        if method == "OPTIONS":
            return Response(status_code=204, headers=allow)
        raise Refusal(405, f"{request.url.path} allows {allow['allow']}", headers=allow)

    def _served(self, request: Request) -> Mapping[str, Operation]:
        """The operations at this path as the configuration in force has them."""
        config = self._context.controller.config
        operations = self._operations
        path = str(request.scope["path"]).rstrip("/")
        if config.metrics.enabled and path == config.metrics.path.rstrip("/"):
            return {METRICS.method: METRICS}
        return {
            method: operation
            for method, operation in operations.items()
            if operation.group == "health"
            or (operation.group != "metrics" and config.admin.enabled)
        }

    async def _check_access(self, request: Request, needed: access.Role) -> None:
        fields = [(name.lower(), value) for name, value in request.headers.items()]
        client = access.client_of(fields)
        presented = next((value for name, value in fields if name == "authorization"), None)
        if presented is None:
            await self._decide_access(request, needed, fields, client, presented)
            return
        async with self._context.lockout.one_at_a_time(client):
            await self._decide_access(request, needed, fields, client, presented)

    async def _decide_access(
        self,
        request: Request,
        needed: access.Role,
        fields: list[tuple[str, str]],
        client: str,
        presented: str | None,
    ) -> None:
        context = self._context
        if presented is not None and (wait := context.lockout.locked_for(client)):
            context.refused["locked"] += 1
            raise Refusal(
                429,
                "too many wrong tokens from this address",
                headers={"retry-after": str(ceil(wait))},
            )
        tokens = await context.credentials.known(context.tokens, presented)
        verdict = access.decide(needed, fields, tokens=tokens, hosts=context.hosts)
        if isinstance(verdict, access.Allowed):
            if presented is not None:
                context.lockout.succeeded(client)
            request.state.who, request.state.role = verdict.who, verdict.role.label
            return
        kind = "credential" if verdict.guessed else "role" if verdict.status == 403 else "place"
        context.refused[kind] += 1
        if verdict.guessed and (delay := context.lockout.failed(client)):
            _log.warning("wrong tokens", client=client, locked_s=delay)
        if verdict.who is not None:
            request.state.who, request.state.role = verdict.who.who, verdict.who.role.label
        challenge = {"www-authenticate": 'Bearer realm="evenflow"'}
        raise Refusal(
            verdict.status, verdict.reason, headers=challenge if verdict.status == 401 else None
        )


def _refusal(request: Request, error: Exception) -> Refusal:
    match error:
        case Refusal():
            return error
        case ConfigError():
            return _invalid(error)
        case EngineError() | StateError():
            _log.error("admin request failed", method=request.method, reason=str(error))
            return Refusal(503, f"not done: {error}")
        case _:
            _log.error(
                "admin request failed",
                method=request.method,
                path=request.url.path,
                exc_info=error,
            )
            return Refusal(500, "the request failed; the log says why")


def _methods(operations: Iterable[str]) -> list[str]:
    methods = {*operations, "OPTIONS"}
    if "GET" in methods:
        methods.add("HEAD")
    return sorted(methods)


def _invalid(error: ConfigError) -> Refusal:
    problems = error.errors
    detail = str(problems[0]) if len(problems) == 1 else f"{len(problems)} problems"
    return Refusal(400, detail, problems)
