"""What is asked of an authority, and its answers, read with suspicion: bounded, typed, told plainly."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from .proofs import Proof

MAX_BYTES: Final = 256 * 1024
"""A longer answer is not read."""
_LONGEST_TEXT: Final = 500
_LONGEST_URL: Final = 2048
_SHOWN_SUBPROBLEMS: Final = 5
_PREFIX: Final = "urn:ietf:params:acme:error:"
_VISIBLE = re.compile(r"[!-~]+")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")

T = TypeVar("T")


class AcmeError(Exception):
    """Why there is no certificate, for people to read."""

    def __init__(self, reason: str, *, kind: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.kind = kind
        """The authority's own word, such as `rateLimited`; empty where it gave none."""
        self.retry_after_s = retry_after_s
        """How long the authority wants to be left alone."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request to be made; what is sent back is its `Reply`."""

    method: str
    url: str
    body: bytes = b""
    accept: str = "application/json"


@dataclass(frozen=True, slots=True)
class Show:
    """Proofs to be in force before going on."""

    proofs: tuple[Proof, ...]


@dataclass(frozen=True, slots=True)
class Pause:
    """Time to let pass."""

    seconds: float


Steps = Generator[Call | Show | Pause, "Reply | None", T]
"""What has to be done for a `T`, one thing at a time."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; names of fields are in lower case."""

    status: int
    fields: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def fine(self) -> bool:
        """Whether it says yes."""
        return 200 <= self.status < 300

    def document(self) -> dict[str, Any]:
        """The JSON object in it; raises `AcmeError`."""
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise AcmeError(f"expected a JSON object from the authority, got status {self.status}")
        return found

    def retry_after_s(self, now: float | None = None) -> float | None:
        """Seconds that `Retry-After` asks for, however it is written; None where it asks for none."""
        text = self.fields.get("retry-after", "").strip()
        if text.isascii() and text.isdigit() and len(text) < 10:
            return float(text)
        try:
            when = parsedate_to_datetime(text).timestamp()
        except (ValueError, OverflowError):
            return None
        return max(0.0, when - (time.time() if now is None else now))

    def error(self) -> AcmeError:
        """The problem (RFC 9457) that it tells of."""
        try:
            found = self.document()
        except AcmeError:
            found = {}
        reason = problem_text(found) or f"the authority answered with status {self.status}"
        return AcmeError(reason, kind=problem_kind(found), retry_after_s=self.retry_after_s())


def problem_kind(problem: object) -> str:
    """The authority's word for a problem, such as `badNonce`."""
    kind = problem.get("type") if isinstance(problem, dict) else None
    return kind.removeprefix(_PREFIX) if isinstance(kind, str) else ""


def problem_text(problem: object) -> str:
    """A problem and those below it in one line; empty where there is nothing to tell."""
    if not isinstance(problem, dict):
        return ""
    kind, detail = problem_kind(problem), problem.get("detail")
    told = ": ".join(part for part in (kind, detail) if isinstance(part, str) and part)
    below = problem.get("subproblems")
    for each in below[:_SHOWN_SUBPROBLEMS] if isinstance(below, list) else ():
        if not isinstance(each, dict):
            continue
        identifier = each.get("identifier")
        name = identifier.get("value") if isinstance(identifier, dict) else None
        if text := problem_text({**each, "subproblems": None}):
            told += f"; {name}: {text}" if isinstance(name, str) else f"; {text}"
    return plain(told)


def plain(text: str) -> str:
    """A text from elsewhere, fit for a log line."""
    clean = _UNPRINTABLE.sub(" ", text).strip()
    return clean if len(clean) <= _LONGEST_TEXT else clean[: _LONGEST_TEXT - 3] + "..."


def url_in(document: Mapping[str, Any], member: str) -> str:
    """An https address that a document names; raises `AcmeError`."""
    return checked_url(document.get(member), member)


def checked_url(text: object, what: str) -> str:
    """`text` when it is an https address; raises `AcmeError`."""
    if isinstance(text, str) and len(text) <= _LONGEST_URL and _VISIBLE.fullmatch(text):
        with contextlib.suppress(ValueError):
            parts = urlsplit(text)
            if parts.scheme == "https" and parts.hostname and parts.port != 0:
                return text
    raise AcmeError(f"the authority gave no https address as {what!r}")
