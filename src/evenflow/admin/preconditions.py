"""Conditional requests (RFC 9110 section 13) on the configuration's revision.

The entity tag of everything that shows configuration is the revision in force, so a client can
change what it has read only as long as nobody else changed it meanwhile.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from evenflow.admin.context import Context
from evenflow.admin.problems import Refusal, malformed


def etag(revision: int) -> dict[str, str]:
    """The header field that names a revision."""
    return {"etag": f'"{revision}"'}


def unchanged(request: Request, revision: int) -> bool:
    """Whether the client has this revision already (`If-None-Match`)."""
    return _names(request.headers.get("if-none-match"), revision, weak=True)


@asynccontextmanager
async def writing(context: Context, request: Request) -> AsyncIterator[str]:
    """Make a change: one at a time, and only on the revision that `If-Match` names, if it does.

    Yields who asks, as the history will show it; 412 where the revision is another one.
    """
    wanted = request.headers.get("if-match")
    if wanted is not None and not wanted.strip():
        raise malformed("expected an entity tag, got an empty If-Match")
    async with context.writing:
        revision = context.controller.revision
        if wanted is not None and not _names(wanted, revision, weak=False):
            raise Refusal(
                412,
                f"the configuration is at revision {revision}, not at {wanted}",
                headers=etag(revision),
            )
        who = getattr(request.state, "who", "")
        yield f"api ({who})" if who else "api"


def _names(field: str | None, revision: int, *, weak: bool) -> bool:
    if field is None:
        return False
    tags = [tag.strip() for tag in field.split(",")]
    if weak:
        tags = [tag.removeprefix("W/") for tag in tags]
    return "*" in tags or f'"{revision}"' in tags
