"""A small client of the admin API for the commands that ask a running balancer.

It makes one request per call on the standard library alone; it knows nothing of what the answers
mean.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

TIMEOUT_S = 10.0


class Unreachable(Exception):
    """No balancer answered at the address."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with what was sent: where, and what."""

    path: str
    message: str


class Refused(Exception):
    """The balancer answered with an error."""

    def __init__(self, status: int, detail: str, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.problems = problems

    @property
    def is_configuration(self) -> bool:
        """Whether what was sent is wrong, rather than that something failed."""
        return self.status in (400, 409, 422)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix stream socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass(frozen=True)
class Client:
    """The admin API at `url`: `http://host:port`, `https://…` or `unix:/path`."""

    url: str
    token: str | None = None
    timeout_s: float = TIMEOUT_S
    ca_file: str | None = None
    """Roots that lead to the balancer's certificate, beside `https://`; else those of the system."""

    def get(self, path: str) -> Any:
        """`GET`, the decoded document."""
        return self.request("GET", path)

    def request(
        self, method: str, path: str, body: object = None, *, timeout_s: float | None = None
    ) -> Any:
        """Send one request; the decoded document, or `None` for an empty answer.

        Raises `Unreachable` where nothing answers and `Refused` for a status of 400 and above.
        """
        status, document = self._exchange(method, path, body, timeout_s or self.timeout_s)
        if status >= 400:
            raise _refusal(status, document)
        return document

    def health(self) -> Any:
        """`GET /api/v1/health`, whose document says as much with 503 as with 200."""
        status, document = self._exchange("GET", "/api/v1/health", None, self.timeout_s)
        if status >= 400 and not (isinstance(document, dict) and "total_backends" in document):
            raise _refusal(status, document)
        return document

    def events(self, path: str) -> Iterator[tuple[str, str]]:
        """Follow a stream of server-sent events: the name and data of each, until it ends."""
        connection = self._connection(self.timeout_s)
        try:
            response = self._send(connection, "GET", path, None, {"accept": "text/event-stream"})
            if response.status >= 400:
                raise _refusal(response.status, _decode(response.read()))
            # Nothing may happen for hours; only the answer's start was bound to come soon.
            if connection.sock is not None:
                connection.sock.settimeout(None)
            yield from _server_sent(response)
        finally:
            connection.close()

    def _exchange(self, method: str, path: str, body: object, timeout_s: float) -> tuple[int, Any]:
        connection = self._connection(timeout_s)
        try:
            headers = {"accept": "application/json"}
            data = None
            if body is not None:
                data = json.dumps(body).encode()
                headers["content-type"] = "application/json"
            response = self._send(connection, method, path, data, headers)
            return response.status, _decode(response.read())
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        data: bytes | None,
        headers: Mapping[str, str],
    ) -> http.client.HTTPResponse:
        sent = dict(headers)
        if self.token:
            sent["authorization"] = f"Bearer {self.token}"
        try:
            connection.request(method, path, data, sent)
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        if self.url.startswith("unix:"):
            return _UnixConnection(self.url.removeprefix("unix:"), timeout_s)
        parts = urlsplit(self.url if "://" in self.url else f"http://{self.url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Unreachable(
                f"{self.url!r} is no address: http://host:port, https://… or unix:/path"
            )
        if parts.scheme == "http":
            return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
        return http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=timeout_s, context=self._trust()
        )

    def _trust(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            reason = "no certificates in PEM" if isinstance(error, ssl.SSLError) else error.strerror
            raise Unreachable(f"the roots in {self.ca_file} cannot be read: {reason}") from None

    def _unreachable(self, error: Exception) -> Unreachable:
        if isinstance(error, ssl.SSLCertVerificationError):
            return Unreachable(
                f"{self.url} is not trusted: {error.verify_message}; roots are given by --ca-file"
            )
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Unreachable(f"no balancer answers at {self.url}: {reason}")


def segment(name: str) -> str:
    """A name as one segment of a path."""
    return quote(name, safe="")


def _decode(data: bytes) -> Any:
    if not data:
        return None
    try:
        return json.loads(data)
    except ValueError:
        return data.decode(errors="replace").strip()


def _refusal(status: int, document: Any) -> Refused:
    if not isinstance(document, dict):
        return Refused(status, str(document or http.client.responses.get(status, status)))
    problems = tuple(
        Problem(str(entry.get("path", "")), str(entry.get("message", "")))
        for entry in document.get("errors") or ()
        if isinstance(entry, dict)
    )
    detail = document.get("detail") or document.get("title") or document.get("error")
    return Refused(status, str(detail or http.client.responses.get(status, status)), problems)


def _server_sent(response: http.client.HTTPResponse) -> Iterator[tuple[str, str]]:
    name, data = "message", list[str]()
    for raw in response:
        line = raw.decode(errors="replace").rstrip("\r\n")
        field, _, value = line.partition(":")
        if field == "event":
            name = value.strip()
        elif field == "data":
            data.append(value.removeprefix(" "))
        elif not line and data:
            yield name, "\n".join(data)
            name, data = "message", []
