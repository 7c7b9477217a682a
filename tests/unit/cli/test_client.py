"""The client of the admin API, against a real server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from evenflow.cli.client import Client, Refused, Unreachable, segment
from evenflow.cli.common import default_url
from evenflow.testing import free_port

PROBLEM = {
    "type": "about:blank",
    "title": "Bad Request",
    "status": 400,
    "detail": "2 problems",
    "errors": [{"path": "backends[0].url", "message": "expected a URL"}],
}
EVENTS = b'event: health\nid: 1\ndata: {"backend": "a"}\n\n: keep\n\ndata: one\ndata: two\n\n'


class Api(BaseHTTPRequestHandler):
    """Answers by path, and shows what it was asked."""

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        document = {
            "method": self.command,
            "path": self.path,
            "authorization": self.headers.get("authorization"),
            "body": json.loads(self.rfile.read(length) or "null"),
        }
        match self.path:
            case "/problem":
                self._send(400, json.dumps(PROBLEM).encode())
            case "/page":
                self._send(502, b"<html>")
            case "/empty":
                self._send(204, b"")
            case "/api/v1/health":
                self._send(503, b'{"total_backends": 1, "healthy_backends": 0}')
            case "/events":
                self._send(200, EVENTS)
            case _:
                self._send(200, json.dumps(document).encode())

    do_GET = do_DELETE = do_PATCH = do_POST  # noqa: N815 - the base class names them

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(10)


def test_a_request_carries_body_and_token(url: str) -> None:
    answer = Client(url, "secret").request("PATCH", "/x", {"weight": 5})
    assert answer == {
        "method": "PATCH",
        "path": "/x",
        "authorization": "Bearer secret",
        "body": {"weight": 5},
    }


def test_without_a_token_none_is_sent(url: str) -> None:
    assert Client(url).get("/x")["authorization"] is None


def test_an_empty_answer_is_nothing(url: str) -> None:
    assert Client(url).request("DELETE", "/empty") is None


def test_a_problem_document_is_told_with_its_paths(url: str) -> None:
    with pytest.raises(Refused) as caught:
        Client(url).request("POST", "/problem", {})
    assert caught.value.is_configuration
    assert str(caught.value) == "2 problems"
    assert caught.value.problems[0].path == "backends[0].url"


def test_an_error_page_of_something_else_is_told_as_it_is(url: str) -> None:
    with pytest.raises(Refused, match="<html>") as caught:
        Client(url).get("/page")
    assert not caught.value.is_configuration


def test_an_unhealthy_balancer_still_tells_its_health(url: str) -> None:
    assert Client(url).health() == {"total_backends": 1, "healthy_backends": 0}


def test_events_are_read_one_by_one(url: str) -> None:
    events = list(Client(url).events("/events"))
    assert events == [("health", '{"backend": "a"}'), ("message", "one\ntwo")]


def test_nobody_there_is_said_with_the_address() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unreachable, match=url):
        Client(url).get("/")


@pytest.mark.parametrize("url", ["ftp://x", "http://", "unix:/nowhere/at/all"])
def test_an_address_that_cannot_be_asked_is_said(url: str) -> None:
    with pytest.raises(Unreachable, match=url):
        Client(url).get("/")


def test_names_are_escaped_in_paths() -> None:
    assert segment("a/b c") == "a%2Fb%20c"


def test_the_balancer_of_this_machine_is_asked_by_default() -> None:
    assert default_url({}) == "http://127.0.0.1:8080"
    assert default_url({"LB_PORT": "9090"}) == "http://127.0.0.1:9090"
