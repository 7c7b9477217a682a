"""HTTP/2 towards backends: by prior knowledge and over TLS, shared connections, retries, gRPC."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from evenflow.testing import Gate, WebSocket, document, echo_websocket, wait_for
from evenflow.testing.authority import Authority
from evenflow.testing.behaviours import respond
from tests.http2_peers import (
    Asked,
    H2Client,
    H2Origin,
    Line,
    answer,
    hang_up,
    ignore,
    leave,
    nghttpd,
    refuse,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from evenflow.testing import EvenflowProcess
    from tests.conftest import StartEvenflow, StartOrigins


@pytest.fixture
def h2_origin() -> Iterator[Callable[..., H2Origin]]:
    """Start origins that speak HTTP/2 alone."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(H2Origin(**options))


def test_a_request_of_http1_reaches_a_backend_of_http2(
    evenflow: StartEvenflow, h2_origin: Callable[..., H2Origin]
) -> None:
    origin = h2_origin(default=answer(201, b"made", ("x-a", "1"), ("set-cookie", "s=1")))
    balancer = evenflow(document(origin.url))
    got = balancer.request(
        "POST",
        "/there?x=1",
        body=b"abc",
        headers=[("Host", "site.test"), ("Connection", "x-hop"), ("X-Hop", "1"), ("Cookie", "a=b")],
    )
    assert (got.status, got.body, got.header("x-a")) == (201, b"made", "1")
    (asked,) = [each for each in origin.requests if each[":path"] != "/health"]
    assert (asked[":method"], asked[":path"]) == ("POST", "/there?x=1")
    assert (asked[":authority"], asked[":scheme"]) == ("site.test", "http")
    assert (asked.body, asked["content-length"], asked["cookie"]) == (b"abc", "3", "a=b")
    assert asked["via"] == "1.1 evenflow"
    assert (
        not {"host", "connection", "x-hop", "te", "transfer-encoding"} & dict(asked.headers).keys()
    )


def test_many_requests_share_one_connection(
    evenflow: StartEvenflow, h2_origin: Callable[..., H2Origin]
) -> None:
    origin = h2_origin()
    balancer = evenflow(document(origin.url))
    with H2Client(balancer.port) as client:
        streams = [client.send(client.head("GET", f"/{at}")) for at in range(60)]
        assert {client.answer(stream).status for stream in streams} == {200}
    assert balancer.request().status == 200
    assert origin.connections == 1


def test_a_backend_that_takes_few_streams_gets_more_connections(
    evenflow: StartEvenflow, h2_origin: Callable[..., H2Origin]
) -> None:
    origin = h2_origin(max_streams=2, default=ignore)
    balancer = evenflow(document(origin.url))
    with H2Client(balancer.port) as client:
        # The first tells the balancer what the backend allows.
        origin.queue.append(answer())
        assert client.ask().status == 200
        for at in range(6):
            client.send(client.head("GET", f"/{at}"))
        origin.wait_for_requests(7)
        assert 3 <= origin.connections <= 4


@pytest.mark.parametrize("size", [None, 300_000])
def test_trailers_and_bodies_pass_through_http2_on_both_sides(
    evenflow: StartEvenflow, h2_origin: Callable[..., H2Origin], size: int | None
) -> None:
    """What gRPC needs: its status in trailers, or in the one head there is."""
    origin = h2_origin()
    status = (("grpc-status", "0"), ("grpc-message", "fine"))
    if size is None:
        origin.default = answer(200, None, ("content-type", "application/grpc"), *status)
    else:
        origin.default = answer(
            200, b"message", ("content-type", "application/grpc"), trailers=status
        )
    balancer = evenflow(document(origin.url))
    body = bytes(size or 10)
    with H2Client(balancer.port) as client:
        fields = client.head("POST", "/s.S/M", ("te", "trailers"), ("grpc-timeout", "9S"))
        got = client.answer(client.send(fields, body))
    (asked,) = origin.requests
    assert (asked["te"], asked["grpc-timeout"], asked.body) == ("trailers", "9S", body)
    told = got.headers if size is None else got.trailers
    assert (told["grpc-status"], told["grpc-message"]) == ("0", "fine")
    assert got.body == (b"" if size is None else b"message")
    assert got.reset is None


def test_both_sides_of_a_stream_talk_at_once(
    evenflow: StartEvenflow, h2_origin: Callable[..., H2Origin]
) -> None:
    origin = h2_origin()

    def begin(line: Line, stream: int, _asked: Asked) -> None:
        line.h2.send_headers(stream, [(":status", "200")])
        line.h2.send_data(stream, b"first")
        line.flush()

    def end(line: Line, stream: int, asked: Asked) -> None:
        line.h2.send_data(stream, asked.body, end_stream=True)
        line.flush()

    origin.begun, origin.default = begin, end
    balancer = evenflow(document(origin.url))
    with H2Client(balancer.port) as client:
        stream = client.send(client.head("POST", "/"), None, end=False)
        client.until(lambda: client.answers[stream].body == b"first")
        client.data(stream, b"one")
        client.data(stream, b"two", end=True)
        assert client.answer(stream).body == b"firstonetwo"


def test_a_cancelled_stream_is_cancelled_at_the_backend(
    evenflow: StartEvenflow, h2_origin: Callable[..., H2Origin]
) -> None:
    origin = h2_origin(default=ignore)
    balancer = evenflow(document(origin.url))
    with H2Client(balancer.port) as client:
        stream = client.send(client.head("GET", "/"))
        (asked,) = origin.wait_for_requests()
        client.reset(stream)
        wait_for(lambda: asked.reset, "the stream's end at the origin")
        origin.queue.append(answer())
        assert client.ask().status == 200
    assert origin.connections == 1


def test_cancelled_requests_do_not_retire_the_connection_to_a_backend(
    evenflow: StartEvenflow, h2_origin: Callable[..., H2Origin]
) -> None:
    origin = h2_origin(default=ignore)
    balancer = evenflow(document(origin.url))
    with H2Client(balancer.port) as client:
        for count in range(1, 13):
            stream = client.send(client.head("GET", "/"))
            origin.wait_for_requests(count)
            client.reset(stream)
            wait_for(lambda: origin.requests[-1].reset, "the stream's end at the origin")
        origin.default = answer()
        assert client.ask().status == 200
    assert origin.connections == 1


@pytest.mark.parametrize("script", [refuse, leave], ids=["refused", "goaway"])
def test_what_the_backend_did_nothing_with_is_sent_again_whatever_it_is(
    evenflow: StartEvenflow, h2_origin: Callable[..., H2Origin], script: Any
) -> None:
    origin = h2_origin()
    origin.queue.extend([answer(), script])
    balancer = evenflow(document(origin.url))
    for at in range(3):
        got = balancer.request("POST", f"/{at}", body=b"paid")
        assert (got.status, got.body) == (200, b"hello")
    paths = [asked[":path"] for asked in origin.requests]
    assert paths == ["/0", "/1", "/1", "/2"], paths


def test_what_the_backend_may_have_done_is_not_repeated(
    evenflow: StartEvenflow, h2_origin: Callable[..., H2Origin]
) -> None:
    origin = h2_origin()

    def go_halfway(line: Line, stream: int, asked: Asked) -> None:
        line.h2.close_connection(last_stream_id=stream)
        line.flush()
        hang_up(line, stream, asked)

    for script in (hang_up, go_halfway):
        origin.queue.extend([answer(), script])
        balancer = evenflow(document(origin.url))
        assert balancer.request("POST", "/0", body=b"paid").status == 200
        assert balancer.request("POST", "/1", body=b"paid").status == 502
        origin.queue.extend([answer(), script])
        assert balancer.request("GET", "/2").status == 200
        assert balancer.request("GET", "/3").status == 200
    paths = [asked[":path"] for asked in origin.requests]
    assert paths == ["/0", "/1", "/2", "/3", "/3"] * 2, paths


def test_an_answer_that_breaks_off_is_not_complete_for_the_client(
    evenflow: StartEvenflow, h2_origin: Callable[..., H2Origin]
) -> None:
    origin = h2_origin()

    def half(line: Line, stream: int, _asked: Asked) -> None:
        line.h2.send_headers(stream, [(":status", "200")])
        line.h2.send_data(stream, b"half")
        line.h2.reset_stream(stream, 2)
        line.flush()

    origin.default = half
    balancer = evenflow(document(origin.url))
    with H2Client(balancer.port) as client:
        got = client.ask()
        assert (got.ended, got.reset) == (False, 2)


def encrypted(
    evenflow: StartEvenflow, url: str, authority: Authority, **pool: Any
) -> EvenflowProcess:
    backends = [{"id": "a", "url": url}]
    given = {"name": "p", "backends": backends, "tls": {"ca_file": str(authority.ca)}, **pool}
    return evenflow(
        document(
            pools=[given],
            routes=[{"name": "r", "pool": "p"}],
            health_check={"enabled": True, "interval": "100ms", "path": "/health"},
        )
    )


def test_tls_agrees_on_what_is_spoken_to_a_backend(
    evenflow: StartEvenflow,
    origins: StartOrigins,
    h2_origin: Callable[..., H2Origin],
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    identity = authority.issue("127.0.0.1", file="origin")
    both = ["h2", "http/1.1"]
    cases = {
        "agreed": ("auto", both, "h2"),
        "h2-alone": ("auto", ["h2"], "h2"),
        "wanted": ("h2", both, "h2"),
        "refused": ("h2", ["http/1.1"], None),
        "h1-alone": ("auto", ["http/1.1"], "http/1.1"),
        "silent": ("auto", [], "http/1.1"),
        "unwanted": ("h1", both, "http/1.1"),
    }
    pools: list[dict[str, object]] = []
    for name, (protocol, offered, spoken) in cases.items():
        context = authority.server_context(identity)
        if offered:
            context.set_alpn_protocols(offered)
        url = h2_origin(tls=context).url if spoken == "h2" else origins(name, tls=context)[0].url
        tls = {"ca_file": str(authority.ca)}
        backends = [{"id": name, "url": url}]
        pools.append({"name": name, "protocol": protocol, "tls": tls, "backends": backends})
    balancer = evenflow(
        document(
            pools=pools,
            routes=[{"name": n, "match": {"path": f"/{n}"}, "pool": n} for n in cases],
            health_check={"enabled": True, "interval": "100ms", "path": "/health"},
        )
    )
    for name, (_, _, spoken) in cases.items():
        # The health check is as strict as the traffic.
        balancer.wait_for_status(name, "healthy" if spoken else "unhealthy")
        assert balancer.request("GET", f"/{name}").status == (200 if spoken else 503), name


def test_a_websocket_gets_a_connection_of_http1(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    context = authority.server_context(authority.issue("127.0.0.1", file="origin"))
    # Asked of both, the origin would take HTTP/2, which it does not speak.
    context.set_alpn_protocols(["h2", "http/1.1"])
    (origin,) = origins("a", tls=context)
    origin.on("/ws", echo_websocket())
    balancer = encrypted(evenflow, origin.url, authority, health_check={"enabled": False})
    with WebSocket(balancer.client(), "/ws") as socket_:
        socket_.say("hello")


def test_health_checks_ask_by_http2_where_nothing_else_is_spoken(
    evenflow: StartEvenflow, h2_origin: Callable[..., H2Origin]
) -> None:
    origin = h2_origin(default=answer(200, b"I am well"))
    check = {
        "enabled": True,
        "interval": "50ms",
        "path": "/health",
        "expect_body": "well",
        "unhealthy_threshold": 1,
        "healthy_threshold": 1,
    }
    balancer = evenflow(document({"id": "a", "url": origin.url}, health_check=check))
    balancer.wait_for_status("a", "healthy")
    asked = origin.requests[0]
    assert (asked[":path"], asked[":authority"]) == ("/health", f"127.0.0.1:{origin.port}")
    origin.default = answer(503, b"not at all")
    balancer.wait_for_status("a", "unhealthy")
    origin.default = answer(200, b"well again")
    balancer.wait_for_status("a", "healthy")


def test_backends_of_both_versions_share_a_pool(
    evenflow: StartEvenflow, origins: StartOrigins, h2_origin: Callable[..., H2Origin]
) -> None:
    (one,) = origins("a")
    one.default = respond(200, b"h1")
    two = h2_origin(default=answer(200, b"h2"))
    balancer = evenflow(document(one.url, two.url))
    bodies = [balancer.request().body for _ in range(6)]
    assert sorted(bodies) == [b"h1"] * 3 + [b"h2"] * 3


def test_nghttpd_is_balanced_and_checked(evenflow: StartEvenflow, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(200_000))
    with nghttpd(tmp_path) as url:
        balancer = evenflow(
            document(
                {"id": "a", "url": url},
                health_check={"enabled": True, "interval": "100ms", "path": "/file"},
            )
        )
        balancer.wait_for_status("a", "healthy")
        got = balancer.request("GET", "/file")
        assert (got.status, got.body) == (200, bytes(200_000))
        with H2Client(balancer.port) as client:
            assert client.ask("GET", "/file").body == bytes(200_000)
            assert client.ask("GET", "/none").status == 404


def test_idle_connections_to_backends_are_closed(
    evenflow: StartEvenflow, h2_origin: Callable[..., H2Origin]
) -> None:
    origin = h2_origin()
    connections = {"idle_timeout": "1s"}
    balancer = evenflow(
        document({"id": "a", "url": origin.url}, load_balancer={"connections": connections})
    )
    idle = 'evenflow_backend_idle_connections{pool="default",backend="a"}'
    assert balancer.request().status == 200
    assert balancer.metrics()[idle] == 1
    wait_for(lambda: balancer.metrics()[idle] == 0, "the idle connection's end")
    assert balancer.request().status == 200
    assert origin.connections == 2


def test_a_backend_that_is_gone_without_a_word_is_left(
    evenflow: StartEvenflow, h2_origin: Callable[..., H2Origin]
) -> None:
    origin = h2_origin()
    balancer = evenflow(
        document(
            {"id": "a", "url": origin.url, "timeout": "200ms"}, load_balancer={"max_retries": 0}
        )
    )
    assert balancer.request().status == 200
    origin.default = ignore
    for _ in range(3):
        assert balancer.request("POST").status == 504
    origin.default = answer()
    assert balancer.request().status == 200
    assert origin.connections == 2, "the silent connection was used again"


def test_mirrors_hedges_and_authorization_ask_by_http2(
    evenflow: StartEvenflow, origins: StartOrigins, h2_origin: Callable[..., H2Origin]
) -> None:
    gate = Gate()
    (main,) = origins("main")
    main.on("/hedged", respond(200, b"late", before=gate))
    shadow, sso, quick = (
        h2_origin(),
        h2_origin(default=answer(200, b"", ("x-user", "ann"))),
        h2_origin(default=answer(200, b"quick")),
    )
    given = document(
        main.url,
        pools=[
            {"name": "shadow", "backends": [{"url": shadow.url}]},
            {"name": "sso", "backends": [{"url": sso.url}]},
            {"name": "two", "backends": [{"url": main.url}, {"url": quick.url}]},
        ],
        filters={"in": {"auth": {"external": {"pool": "sso", "response_headers": ["X-User"]}}}},
        routes=[
            {
                "name": "copied",
                "match": {"path": "/copied"},
                "pool": "default",
                "mirror": {"pool": "shadow"},
                "filters": ["in"],
            },
            {
                "name": "hedged",
                "match": {"path": "/hedged"},
                "pool": "two",
                "hedge": {"after": "20ms", "budget": 1.0},
            },
        ],
    )
    balancer = evenflow(given)
    assert balancer.request("POST", "/copied", body=b"data").status == 200
    (asked,) = sso.requests
    assert (asked[":method"], asked["x-original-uri"]) == ("GET", "/copied")
    assert main.requests[0].header("x-user") == "ann"
    wait_for(lambda: bool(shadow.requests) and shadow.requests[0].whole, "the copy")
    assert (shadow.requests[0][":path"], shadow.requests[0].body) == ("/copied", b"data")
    assert {balancer.request("GET", "/hedged").body for _ in range(4)} == {b"quick"}
    gate.open()
