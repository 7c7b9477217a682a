"""Authentication at the edge, and how many requests one client may have in flight."""

from __future__ import annotations

import base64
import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from evenflow.config.hashes import hash_token
from evenflow.engine import hash_password
from evenflow.testing import Gate, WebSocket, behaviours, document, echo_websocket, wait_for

if TYPE_CHECKING:
    from tests.conftest import StartEvenflow, StartOrigins

CANARY = "c4nary-token-5d1e"


def basic(name: str, password: str) -> tuple[str, str]:
    """The field with a name and a password."""
    return "Authorization", "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def protected(url: str, auth: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A balancer in front of one backend that lets in whom `auth` knows."""
    return document(url, security={"auth": auth}, **more)


def sent(origin: Any, name: str) -> list[str]:
    """The values of a field in the last request an origin got."""
    values: list[str] = origin.requests[-1].head.all(name)
    return values


def test_a_password_lets_in_and_nothing_else_does(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    users = {
        "alice": hash_password(b"wonder land"),
        "bob": "$2b$04$wKzcOgyXy2wU1mDcepRBxuuVmYZmrUAvNmQ.TyutYdSjce4YtLEMK",
        "robot": hash_token(CANARY),
    }
    auth = {"basic": {"users": users, "user_header": "X-User", "forward": False}}
    balancer = evenflow(protected(a.url, auth))
    for name, password in (("alice", "wonder land"), ("bob", "secret"), ("robot", CANARY)):
        for _ in range(2):  # The second one finds the first one's verdict.
            answer = balancer.request(headers=[basic(name, password), ("X-User", "root")])
            assert answer.status == 200, (name, answer.text)
            assert sent(a, "x-user") == [name]
            assert sent(a, "authorization") == []
    passed = len(a.requests)
    for field in (
        None,
        basic("alice", "wonder lanD"),
        basic("alice", ""),
        basic("nobody", "wonder land"),
        basic("bob", "wonder land"),
        ("Authorization", "Basic !!!"),
        ("Authorization", "Basic"),
        ("Authorization", f"Bearer {CANARY}"),
    ):
        answer = balancer.request(headers=[field] if field else [])
        assert answer.status == 401, field
        assert answer.header("www-authenticate") == 'Basic realm="evenflow", charset="UTF-8"'
    two = [basic("bob", "secret"), basic("bob", "secret")]
    assert balancer.request(headers=two).status == 401
    assert len(a.requests) == passed
    wait_for(
        lambda: (
            [e.get("user") for e in balancer.events() if e.get("status") == 200].count("bob") == 2
        ),
        "the access log naming the user",
        describe=balancer.output,
    )
    assert balancer.request(target="/health").status == 200
    shown = balancer.output() + str(balancer.api("GET", "/admin/config"))
    for secret in (CANARY, "wonder land", users["alice"], users["robot"]):
        assert secret not in shown


def test_a_token_lets_in_and_names_its_owner(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    tokens = [{"name": "ci", "token": "${CI_TOKEN}"}, {"name": "app", "token": "app-token"}]
    auth = {"bearer": {"tokens": tokens, "user_header": "X-User"}}
    balancer = evenflow(protected(a.url, auth), env={"CI_TOKEN": CANARY})
    for token, name in ((CANARY, "ci"), ("app-token", "app")):
        answer = balancer.request(headers=[("Authorization", f"bearer {token}")])
        assert answer.status == 200
        assert sent(a, "x-user") == [name]
        assert sent(a, "authorization") == [f"bearer {token}"]
    for value in ("Bearer wrong", "Bearer", basic("ci", CANARY)[1]):
        answer = balancer.request(headers=[("Authorization", value)])
        assert answer.status == 401
        assert answer.header("www-authenticate") == 'Bearer realm="evenflow"'
    shown = balancer.output() + str(balancer.api("GET", "/admin/config"))
    assert CANARY not in shown
    assert "${CI_TOKEN}" in shown


def test_credentials_are_not_asked_of_a_preflight(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    security = {
        "auth": {"bearer": {"tokens": [{"name": "app", "token": "app-token"}]}},
        "cors": {"allow_origins": ["https://app.example.org"]},
    }
    balancer = evenflow(document(a.url, security=security))
    origin = ("Origin", "https://app.example.org")
    preflight = balancer.request(
        "OPTIONS", headers=[origin, ("Access-Control-Request-Method", "PUT")]
    )
    assert preflight.status == 204
    refused = balancer.request(headers=[origin])
    assert refused.status == 401
    assert refused.header("access-control-allow-origin") == "https://app.example.org"


@contextlib.contextmanager
def authorizer(seen: list[dict[str, str]]) -> Iterator[str]:
    """A service that knows one cookie; notes what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            fields = {name.lower(): value for name, value in self.headers.items()}
            seen.append({**fields, ":path": self.path})
            cookie = fields.get("cookie", "")
            status = {"": 401, "session=bad": 403, "session=broken": 500}.get(cookie, 200)
            self.send_response(status)
            if status == 200:
                self.send_header("X-User", "carol")
                self.send_header("X-Other", "hidden")
            if status == 401:
                self.send_header("WWW-Authenticate", 'Session realm="x"')
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def external(a: str, service: str, **more: Any) -> dict[str, Any]:
    """A balancer that asks `service` about each request for `a`."""
    auth = {"pool": "sso", "path": "/check", "response_headers": ["X-User"], **more}
    return {
        **document(a),
        "health_check": {"enabled": False},
        "pools": [{"name": "sso", "backends": [{"id": "sso", "url": service}]}],
        "security": {"auth": {"external": {**auth, "user_header": "X-User"}}},
    }


def test_another_service_decides(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (a,) = origins("a")
    seen: list[dict[str, str]] = []
    with authorizer(seen) as service:
        balancer = evenflow(external(a.url, service))
        for _ in range(3):
            fine = balancer.request(
                "POST",
                "/things?x=1",
                headers=[("Cookie", "session=good"), ("X-User", "root"), ("X-Secret", "no")],
                body="hello",
            )
            assert fine.status == 200
            assert sent(a, "x-user") == ["carol"]
            assert sent(a, "x-other") == []
            assert a.requests[-1].body == b"hello"
        assert seen[0][":path"] == "/check"
        assert seen[0]["x-original-uri"] == "/things?x=1"
        assert seen[0]["x-original-method"] == "POST"
        assert seen[0]["x-forwarded-for"] == "127.0.0.1"
        assert "x-secret" not in seen[0]
        reached = len(a.requests)
        nobody = balancer.request()
        assert nobody.status == 401
        assert nobody.header("www-authenticate") == 'Session realm="x"'
        assert balancer.request(headers=[("Cookie", "session=bad")]).status == 403
        assert balancer.request(headers=[("Cookie", "session=broken")]).status == 503
        assert len(a.requests) == reached


def test_without_an_answer_requests_are_refused_or_pass_as_configured(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    nowhere = "http://127.0.0.1:9"
    closed = evenflow(external(a.url, nowhere))
    assert closed.request().status == 503
    assert not a.requests
    opened = evenflow(external(a.url, nowhere, on_failure="allow"))
    assert opened.request(headers=[("X-User", "root")]).status == 200
    assert sent(a, "x-user") == []


def test_clients_are_told_where_they_stand(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (a,) = origins("a")
    limit = {"requests_per_second": 0.01, "burst_size": 2}
    balancer = evenflow(document(a.url, security={"rate_limit": limit}))
    told = [balancer.request() for _ in range(3)]
    assert [answer.status for answer in told] == [200, 200, 429]
    assert {answer.header("ratelimit-policy") for answer in told} == {'"security";q=2;w=200'}
    left = [(answer.header("ratelimit") or "").split(";")[1] for answer in told]
    assert left == ["r=1", "r=0", "r=0"]
    assert told[2].header("retry-after")


def test_a_client_has_only_so_many_requests_in_flight(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    gate = Gate()
    a.on("/slow", behaviours.respond(body=b"a", before=gate))
    balancer = evenflow(
        document(
            a.url,
            security={"concurrency": {"max_requests": 2}},
            server={"workers": 2},
        )
    )
    statuses: list[int] = []
    waiting = [
        threading.Thread(target=lambda: statuses.append(balancer.request(target="/slow").status))
        for _ in range(2)
    ]
    for thread in waiting:
        thread.start()
    wait_for(lambda: len(a.requests) == 2, "two requests in flight", describe=balancer.output)
    refused = balancer.request()
    assert refused.status == 429
    assert int(refused.header("retry-after") or 0) >= 1
    gate.open()
    for thread in waiting:
        thread.join()
    assert statuses == [200, 200]
    assert balancer.request().status == 200


def test_a_conversation_leaves_nothing_of_its_user_to_others(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    a.default = echo_websocket()
    tokens = [{"name": "alice", "token": CANARY}]
    balancer = evenflow(
        document(
            pools=[{"name": "p", "backends": [{"id": "a", "url": a.url}]}],
            routes=[
                {"name": "chat", "match": {"path": "/chat"}, "filters": ["auth"], "pool": "p"},
                {"name": "open", "pool": "p"},
            ],
            filters={
                "auth": {
                    "auth": {"bearer": {"tokens": tokens, "user_header": "X-User"}},
                    "concurrency": {"max_requests": 1},
                }
            },
            server={"workers": 1},
            logging={"access": {"enabled": True, "output": "access.log"}},
        )
    )
    credentials = ("Authorization", f"Bearer {CANARY}")
    with WebSocket(balancer.client(), "/chat", headers=[credentials]) as socket:
        socket.say("hello")
        assert sent(a, "x-user") == ["alice"]
        a.default = behaviours.respond(200)
        for _ in range(3):
            assert balancer.request(target="/").status == 200
            assert sent(a, "x-user") == []
        # Its place is taken until the conversation is over.
        assert balancer.request(target="/chat", headers=[credentials]).status in (429, 503)
        socket.close()
    wait_for(
        lambda: balancer.request(target="/chat", headers=[credentials]).status == 200,
        "the place given back",
    )
    wait_for(
        lambda: any(e["status"] == 101 for e in balancer.events("access.log")),
        "the conversation's record",
    )
    by_status = {entry["status"]: entry for entry in balancer.events("access.log")}
    assert by_status[101]["user"] == "alice"
