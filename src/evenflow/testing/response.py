"""`Response`: what a server answered, as a test looks at it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evenflow.testing.wire import Field, Head, StatusLine


@dataclass(frozen=True)
class Response:
    """A final response, as it came."""

    line: StatusLine
    head: Head
    body: bytes
    framing: str
    """`length`, `chunked`, `close` or `none`."""
    trailers: tuple[Field, ...]
    interim: tuple[tuple[StatusLine, Head], ...]
    """The 1xx responses before it."""

    @property
    def status(self) -> int:
        """The status code."""
        return self.line.status

    @property
    def text(self) -> str:
        """The body as UTF-8 text."""
        return self.body.decode()

    def header(self, name: str) -> str | None:
        """Return the field's values joined by a comma, or `None` without such a field."""
        return self.head.get(name)

    def json(self) -> Any:
        """Return the body's JSON value; raises `ValueError` when it is none."""
        return json.loads(self.body)
