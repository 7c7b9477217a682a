"""Errors as RFC 9457 problem documents."""

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from evenflow.config import Problem

MEDIA_TYPE = "application/problem+json"


class Refusal(Exception):
    """A request that is answered with an error status instead of what it asked for."""

    def __init__(
        self,
        status: int,
        detail: str,
        errors: Iterable[Problem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = list(errors)
        self.headers = headers

    def response(self) -> Response:
        """The answer to send."""
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            document["errors"] = [{"path": p.path, "message": p.message} for p in self.errors]
        return Response(
            json.dumps(document, ensure_ascii=False) + "\n",
            self.status,
            self.headers,
            MEDIA_TYPE,
        )


def not_found(detail: str) -> Refusal:
    """404."""
    return Refusal(404, detail)


def malformed(message: str, path: str = "") -> Refusal:
    """400 for a body or parameter that is wrong in one place."""
    return Refusal(400, message, [Problem(path, message)])
