"""Conditional requests (RFC 9110 section 13) on the configuration's revision.

The entity tag of everything that shows configuration is the revision in force, so a client can
change what it has read only as long as nobody else changed it meanwhile.
"""

import re
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import TypedDict

from starlette.requests import Request

from evenflow.admin.problems import Refusal, malformed
from evenflow.controller import RevisionConflict

_OURS = re.compile(r'"([0-9]{1,18})"\Z')


def etag(revision: int) -> dict[str, str]:
    """The header field that names a revision."""
    return {"etag": f'"{revision}"'}


def unchanged(request: Request, revision: int) -> bool:
    """Whether the client has this revision already (`If-None-Match`)."""
    tags = [tag.removeprefix("W/") for tag in _tags(request.headers.get("if-none-match", ""))]
    return "*" in tags or f'"{revision}"' in tags


class Asked(TypedDict):
    """Who asks for a change, and on which revisions alone; a change takes both as they are."""

    source: str
    only_at: Collection[int] | None


@asynccontextmanager
async def writing(request: Request) -> AsyncIterator[Asked]:
    """Make a change, only on the revision that `If-Match` names, if it names one.

    Yields what the controller needs to know; 412 where the revision in force is another one.
    """
    wanted = request.headers.get("if-match")
    if wanted is not None and not wanted.strip():
        raise malformed("expected an entity tag, got an empty If-Match")
    who = getattr(request.state, "who", "")
    try:
        yield {"source": f"api ({who})" if who else "api", "only_at": _revisions(wanted)}
    except RevisionConflict as conflict:
        raise Refusal(
            412,
            f"the configuration is at revision {conflict.revision}, not at {wanted}",
            headers=etag(conflict.revision),
        ) from None


def _revisions(field: str | None) -> Collection[int] | None:
    """The revisions a strong comparison may match; a tag of ours is a number."""
    if field is None:
        return None
    tags = _tags(field)
    return None if "*" in tags else {int(found[1]) for tag in tags if (found := _OURS.match(tag))}


def _tags(field: str) -> list[str]:
    return [tag.strip() for tag in field.split(",")]
