"""A stream of JSON documents, one after the other, cut into pieces anywhere. Pure.

Kubernetes ends each with a line feed, Docker does not always; both shapes are read.
"""

from __future__ import annotations

import json
from typing import Any, Final

from .endpoint import DiscoveryError

MAX_BYTES: Final = 8 * 1024 * 1024
"""Of one document; the largest that Kubernetes keeps is a fifth of it."""


class Documents:
    """Takes pieces and gives the documents that are whole by then."""

    def __init__(self) -> None:
        self._text = ""
        self._tail = b""
        self._decoder = json.JSONDecoder()
        self._tried = 0

    def take(self, piece: bytes) -> list[dict[str, Any]]:
        """The documents that end in this piece; raises `DiscoveryError` for what is none."""
        self._append(piece)
        found: list[dict[str, Any]] = []
        at = 0
        while True:
            at = _after_space(self._text, at)
            if at == len(self._text) or not self._may_end(at):
                break
            try:
                document, end = self._decoder.raw_decode(self._text, at)
            except (ValueError, RecursionError):
                break
            if not isinstance(document, dict):
                raise DiscoveryError(f"expected a JSON object in the stream, got {document!r:.80}")
            found.append(document)
            at, self._tried = end, 0
        self._text = self._text[at:]
        if self._text and not self._text.startswith("{"):
            raise DiscoveryError(f"expected a JSON object in the stream, got {self._text[:80]!r}")
        if len(self._text) > MAX_BYTES:
            raise DiscoveryError(f"one document is longer than {MAX_BYTES // 1024} KiB")
        self._tried = len(self._text)
        return found

    def _append(self, piece: bytes) -> None:
        data = self._tail + piece
        # A character may be cut in two as well.
        try:
            text, self._tail = data.decode(), b""
        except UnicodeDecodeError as error:
            if error.end < len(data) or len(data) - error.start > 3:
                raise DiscoveryError("the stream is not UTF-8") from None
            text, self._tail = data[: error.start].decode(), data[error.start :]
        self._text += text

    def _may_end(self, at: int) -> bool:
        """Whether it is worth trying: a document cannot end where nothing new closes it."""
        return self._text.find("}", max(at, self._tried)) >= 0


def _after_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at
