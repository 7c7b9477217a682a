"""One balancer and one origin for the whole suite: what is sent to it must never damage it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from evenflow.testing import Client, EvenflowProcess, Origin, Response, document
from evenflow.testing.exchange import ReceivedRequest

TRUSTED = "127.0.0.2"
MAX_BODY = 1 << 20


class Proxy:
    """A balancer with one origin behind it, in the terms of this suite."""

    trusted = TRUSTED
    """The address whose forwarding headers are believed."""
    max_body = MAX_BODY
    """The largest request body in bytes."""

    def __init__(self, process: EvenflowProcess, origin: Origin) -> None:
        self.process = process
        self.origin = origin

    def client(self, **options: Any) -> Client:
        """Open a raw connection; options as of `Client`."""
        return self.process.client(**options)

    def request(self, method: str = "GET", target: str = "/", **options: Any) -> Response:
        """Make one request; options as of `evenflow.testing.request`."""
        return self.process.request(method, target, **options)

    def expect_refused(self, data: bytes, *statuses: int) -> Response:
        """Send bytes; they must be answered by one error and a close, and go nowhere."""
        with self.client() as client:
            client.send(data)
            answer = client.expect(*(statuses or (400,)))
            client.expect_closed()
        self.expect_untouched()
        return answer

    def expect_untouched(self) -> None:
        """Check that the origin got no request; a marker sent now must be the first."""
        self._expect_marker_alone(lambda request: True)

    def expect_nothing_complete(self) -> None:
        """Check that the origin got no whole request, at most the beginning of one."""
        self._expect_marker_alone(lambda request: request.complete)

    def _expect_marker_alone(self, counts: Callable[[ReceivedRequest], bool]) -> None:
        assert self.request("GET", "/marker").status == 200
        got = [request.head.start for request in self.origin.requests if counts(request)]
        assert got == [b"GET /marker HTTP/1.1"], got

    def forwarded(self, data: bytes, **options: Any) -> ReceivedRequest:
        """Send one request that must succeed, and return what the origin got."""
        with self.client(**options) as client:
            client.send(data)
            client.expect(200, method=data.split(b" ", 1)[0].decode())
        (got,) = self.origin.requests
        return got


@pytest.fixture(scope="session")
def _running() -> Iterator[Proxy]:
    configuration = {
        "load_balancer": {"max_retries": 0, "outlier": {"enabled": False}},
        "server": {"trusted_proxies": [TRUSTED], "limits": {"max_body_size": MAX_BODY}},
    }
    with Origin() as origin, EvenflowProcess(document(origin.url, **configuration)) as process:
        yield Proxy(process, origin)
        output = process.output()
        assert "panicked at" not in output, output


@pytest.fixture
def proxy(_running: Proxy) -> Iterator[Proxy]:
    """The balancer, with an origin that remembers nothing of earlier tests."""
    _running.origin.forget()
    yield _running
    assert not _running.origin.violations, _running.origin.violations
