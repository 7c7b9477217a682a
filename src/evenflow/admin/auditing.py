"""What the audit log says of one request that changes something."""

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request

from evenflow.admin.access import client_of
from evenflow.admin.context import Context
from evenflow.admin.operations import Operation
from evenflow.controller import Revision

_LONGEST = 500


async def audit(
    context: Context,
    request: Request,
    operation: Operation,
    status: int,
    revisions: Sequence[Revision],
    detail: str = "",
) -> None:
    """Record a request whose caller is known, with the revisions that it made."""
    state = request.state
    fields = [(name.lower(), value) for name, value in request.headers.items()]
    now = context.controller.revision
    entry: dict[str, Any] = {
        "who": state.who,
        "role": state.role,
        "client": client_of(fields),
        "action": f"{operation.method} {operation.path}",
        "path": str(request.scope["path"])[:_LONGEST],
        "status": status,
        "revision_before": revisions[0].revision - 1 if revisions else now,
        "revision_after": revisions[-1].revision if revisions else now,
        "changes": [change for revision in revisions for change in revision.changes],
    }
    if detail:
        entry["detail"] = detail[:_LONGEST]
    await context.audit.record(entry)
