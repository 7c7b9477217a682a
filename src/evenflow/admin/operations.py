"""One operation of the HTTP interface, as data: the route table is a list of these.

The app routes by it and the OpenAPI document is generated from it, so the two cannot differ.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from evenflow.admin.access import Role
from evenflow.admin.context import Context

Handler = Callable[[Context, Request], Awaitable[Response]]
Group = Literal["health", "metrics", "docs", "api", "debug"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter or header of an operation."""

    name: str
    description: str
    schema: Mapping[str, object]
    place: Literal["query", "header"] = "query"


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: its JSON shape, or the media type of what is not JSON."""

    description: str
    shape: Any = None
    """A type whose schema pydantic can tell; `None` where the body is not JSON."""
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Operation:
    """A method on a path."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    handler: Handler
    summary: str
    group: Group
    role: Role | None
    """What the caller needs; `None` is open to all."""
    answers: Mapping[int, Answer]
    description: str = ""
    body: Any = None
    """The type of the JSON body; `None` where there is none."""
    parameters: Sequence[Parameter] = ()
    errors: Sequence[int] = ()
    """Error statuses of its own; those that any operation may give are added."""
    dry: bool = False
    """Whether it changes nothing although its method may."""

    @property
    def changes(self) -> bool:
        """Whether it changes something, and so belongs in the audit log."""
        return self.method != "GET" and self.role not in (None, Role.READ) and not self.dry
