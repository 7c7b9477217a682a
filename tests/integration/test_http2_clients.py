"""HTTP/2 towards clients: over TLS and by prior knowledge, and served as any other request is."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from evenflow.testing import Gate, document, free_port, wait_for
from evenflow.testing.authority import Authority
from evenflow.testing.behaviours import (
    check_pattern,
    echo,
    pattern,
    respond,
    silent,
    stream,
)
from tests.conftest import program
from tests.http2_peers import H2Client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartEvenflow, StartOrigins

NO_ERROR = 0


def curl(*arguments: str) -> str:
    done = subprocess.run(
        [program("curl", "curl"), "-sS", "--max-time", "20", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def encrypted(folder: Path, url: str, **listener: Any) -> tuple[dict[str, Any], Authority, int]:
    """A configuration with an encrypted listener, whom to trust, and the port."""
    authority = Authority(folder)
    issued = authority.issue("site.test", file="site")
    port = free_port()
    tls = {"certificates": ["site"], **listener.pop("tls", {})}
    address = f"127.0.0.1:{port}"
    given = document(
        url,
        listeners=[{"name": "tls", "address": address, "tls": tls, **listener}],
        certificates={"site": {"cert_file": str(issued.cert), "key_file": str(issued.key)}},
    )
    return given, authority, port


def test_curl_speaks_http2_over_tls_and_the_origin_sees_an_ordinary_request(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    (origin,) = origins("a")
    given, authority, port = encrypted(tmp_path, origin.url)
    given["logging"] = {"access": {"enabled": True, "format": "combined", "output": "stdout"}}
    balancer = evenflow(given, port=port, hand_over_port=False, ready=lambda: listening(port))
    said = curl(
        *("--http2", "--cacert", str(authority.ca), "--resolve", f"site.test:{port}:127.0.0.1"),
        *("-D", "-", "-d", "abc", f"https://site.test:{port}/there?x=1"),
    )
    assert said.startswith("HTTP/2 200"), said
    (request,) = origin.requests
    assert (request.method, request.target, bytes(request.body)) == ("POST", "/there?x=1", b"abc")
    assert request.header("host") == f"site.test:{port}"
    assert request.header("via") == "2.0 evenflow"
    assert request.header("x-forwarded-proto") == "https"
    assert request.header("x-forwarded-for") == "127.0.0.1"
    assert request.header("transfer-encoding") is None
    wait_for(lambda: '"POST /there?x=1 HTTP/2.0" 200' in balancer.output(), "the record")


def sample(size: int) -> bytes:
    """What origins send and expect."""
    step = 10_000
    return b"".join(pattern(at, min(step, size - at)) for at in range(0, size, step))


def listening(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def test_tls_agrees_on_http2_where_both_want_it(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    (origin,) = origins("a")
    given, authority, port = encrypted(tmp_path, origin.url)
    without, old = free_port(), free_port()
    given["listeners"] += [
        {
            "name": "without",
            "address": f"127.0.0.1:{without}",
            "http2": False,
            "tls": {"certificates": ["site"]},
        },
        {
            "name": "old",
            "address": f"127.0.0.1:{old}",
            "tls": {"certificates": ["site"], "alpn": ["http/1.1"]},
        },
    ]
    evenflow(given, port=port, hand_over_port=False, ready=lambda: listening(old))
    both, one, none = ("h2", "http/1.1"), ("http/1.1",), ()
    for where, offered, agreed in (
        (port, both, "h2"),
        (port, one, "http/1.1"),
        (port, none, None),
        (without, both, "http/1.1"),
        (old, both, "http/1.1"),
    ):
        context = authority.client_context()
        if offered:
            context.set_alpn_protocols(list(offered))
        with (
            socket.create_connection(("127.0.0.1", where), 10) as raw,
            context.wrap_socket(raw, server_hostname="site.test") as connection,
        ):
            assert connection.selected_alpn_protocol() == agreed, (where, offered)
        if agreed == "h2":
            with H2Client(where, tls=context) as client:
                assert client.ask().status == 200


def test_http2_in_the_clear_is_served_by_prior_knowledge(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (origin,) = origins("a")
    balancer = evenflow(document(origin.url))
    with H2Client(balancer.port) as client:
        # Many at once, and in any order.
        streams = [client.send(client.head("GET", f"/{at}")) for at in range(50)]
        assert {client.answer(stream).status for stream in streams} == {200}
        assert balancer.request().status == 200
        assert balancer.metrics()['evenflow_connections{listener="main"}'] >= 1
    assert {request.target for request in origin.requests} >= {f"/{at}" for at in range(50)}


def test_without_http2_its_preface_is_a_request_of_another_version(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (origin,) = origins("a")
    balancer = evenflow(document(origin.url, server={"http2": False}))
    with socket.create_connection(("127.0.0.1", balancer.port), 10) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 505"


def test_large_bodies_pass_both_ways_whole(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    size = 3_000_000
    (origin,) = origins("a")
    origin.on("/up", check_pattern())
    balancer = evenflow(document(origin.url))
    framings: tuple[Any, ...] = ("length", "chunked", "close")
    with H2Client(balancer.port) as client:
        for framing in framings:
            origin.on(f"/{framing}", stream(size, framing=framing))
            assert client.ask("GET", f"/{framing}").body == sample(size), framing
        up = client.send(client.head("POST", "/up"), sample(size))
        got = client.answer(up)
        assert got.status == 200, got.body


def test_an_early_answer_ends_the_upload_without_an_error(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (origin,) = origins("a")
    balancer = evenflow(document(origin.url, server={"limits": {"max_body_size": "10KB"}}))
    with H2Client(balancer.port) as client:
        known = client.send(client.head("POST", "/", ("content-length", "20000")), None, end=False)
        assert client.answer(known).status == 413
        chunked = client.send(client.head("POST", "/"), None, end=False)
        client.data(chunked, bytes(20_000))
        got = client.answer(chunked)
        client.until(lambda: got.reset is not None)
        assert (got.status, got.reset) == (413, NO_ERROR)
        # The connection is none the worse for it.
        assert client.ask().status == 200


def test_a_request_given_up_is_given_up_at_the_backend(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    gate = Gate()
    (origin,) = origins("a")
    origin.on("/silent", silent(gate))
    origin.on("/midway", respond(200, b"1234567890", framing="chunked", midway=gate))
    balancer = evenflow(document({"id": "a", "url": origin.url}))
    gone = 'evenflow_errors_total{reason="client_gone"}'
    with H2Client(balancer.port) as client:
        before = client.send(client.head("GET", "/silent"))
        midway = client.send(client.head("GET", "/midway"))
        client.until(lambda: bool(client.answers[midway].body))
        origin.wait_for_requests(2)
        client.reset(before)
        balancer.wait_for_metric(gone, 1)
        client.reset(midway)
        balancer.wait_for_metric(gone, 2)
        assert (
            balancer.metrics()['evenflow_backend_active_connections{pool="default",backend="a"}']
            == 0
        )
        assert client.ask().status == 200
    gate.open()


def test_a_receiver_that_takes_nothing_holds_its_own_stream_back_alone(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    size = 50_000_000
    (origin,) = origins("a")
    origin.on("/large", stream(size))
    balancer = evenflow(document(origin.url, server={"write_timeout": "1s"}))
    before = balancer.rss_bytes()
    with H2Client(balancer.port) as client:
        client.consume = False
        large = [client.send(client.head("GET", "/large")) for _ in range(10)]
        client.until(lambda: all(client.answers[each].headers for each in large))
        assert balancer.rss_bytes() - before < 40_000_000
        # Nobody waits for ever for it.
        client.until(lambda: all(client.answers[each].reset is not None for each in large))
        assert sum(len(client.answers[each].body) for each in large) <= 65_535
        assert client.ask("HEAD", "/").status == 200


def test_an_upload_is_read_no_faster_than_the_backend_takes_it(
    evenflow: StartEvenflow,
) -> None:
    sent = 0
    # Connections to it wait in the kernel, and nobody reads from them.
    with socket.create_server(("127.0.0.1", 0)) as deaf, contextlib.ExitStack() as stack:
        balancer = evenflow(document(f"http://127.0.0.1:{deaf.getsockname()[1]}"))
        client = stack.enter_context(H2Client(balancer.port))
        stream = client.send(client.head("POST", "/"), None, end=False)
        client.socket.settimeout(2)
        with contextlib.suppress(TimeoutError):
            while sent < 100_000_000:
                client.data(stream, bytes(16_384))
                sent += 16_384
    assert sent < 30_000_000, "the window was never closed"


def test_connections_are_told_goodbye_when_idle(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (origin,) = origins("a")
    balancer = evenflow(document(origin.url, server={"idle_timeout": "500ms"}))
    with H2Client(balancer.port) as client:
        assert client.ask().status == 200
        assert client.until_closed() == NO_ERROR
    wait_for(
        lambda: balancer.metrics()['evenflow_connections{listener="main"}'] <= 1,
        "the connection's end",
    )


@pytest.mark.parametrize("how", ["stop", "reload"])
def test_what_is_in_flight_ends_well_when_a_listener_goes(
    evenflow: StartEvenflow, origins: StartOrigins, how: str
) -> None:
    gate = Gate()
    size = 2_000_000
    (origin,) = origins("a")
    origin.on("/slow", respond(200, sample(size), before=gate))
    ports = free_port(), free_port()

    def given(*names: str) -> dict[str, object]:
        listeners = [
            {"name": name, "address": f"127.0.0.1:{port}"}
            for name, port in zip(("kept", "gone"), ports, strict=True)
            if name in names
        ]
        return document(origin.url, listeners=listeners)

    balancer = evenflow(given("kept", "gone"), port=ports[0], hand_over_port=False)
    with H2Client(ports[1]) as client:
        slow = client.send(client.head("GET", "/slow"))
        origin.wait_for_requests()
        if how == "stop":
            balancer.signal(signal.SIGTERM)
        else:
            balancer.write_config(given("kept"))
            balancer.reload()
        client.until(lambda: client.goaway is not None)
        assert client.goaway == NO_ERROR
        gate.open()
        got = client.answer(slow)
        assert (got.status, got.body) == (200, sample(size))
        client.until_closed()


def h2load(port: int, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [program("h2load", "nghttp2-client"), *arguments, f"http://127.0.0.1:{port}/"],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_no_request_fails_over_reloads_under_load(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    one, two = origins("a", "b")
    balancer = evenflow(document(one.url, two.url))
    running = h2load(balancer.port, "-n", "12000", "-c", "5", "-m", "8")
    for round_ in range(6):
        backends: list[dict[str, object]] = [
            {"url": one.url, "weight": 100 + round_},
            {"url": two.url},
        ]
        balancer.write_config(document(*backends, server={"name": f"n{round_}"}))
        balancer.reload()
        via = f"n{round_}"
        wait_for(
            lambda via=via: any(via in (r.header("via") or "") for r in one.requests[-50:]),  # type: ignore[misc]
            "a request by the new configuration",
        )
    said, _ = running.communicate(timeout=60)
    found = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", said)
    assert found, said
    assert found.groups() == ("12000", "0", "0"), said


def test_a_slow_upload_is_timed_out(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (origin,) = origins("a")
    origin.default = echo()
    balancer = evenflow(document(origin.url, server={"read_timeout": "500ms"}))
    with H2Client(balancer.port) as client:
        stream = client.send(client.head("POST", "/"), b"x", end=False)
        assert client.answer(stream).status == 408


def test_routes_and_filters_see_requests_as_ever(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (origin,) = origins("a")
    given = document(
        origin.url,
        security={"ip_whitelist": ["127.0.0.1"]},
        routes=[
            {
                "name": "old",
                "match": {"host": "site.test", "path": "/old"},
                "redirect": {"to": "/new"},
            },
            {"name": "rest", "match": {"host": "site.test"}, "pool": "default"},
        ],
    )
    balancer = evenflow(given)
    with H2Client(balancer.port) as client:
        assert client.ask("GET", "/old").headers["location"].endswith("/new")
        assert client.ask("GET", "/live").status == 200
        client.name = "other.test"
        got = client.ask("GET", "/", ("accept", "application/json"))
        assert (got.status, json.loads(got.body)["error"]) == (404, "no_route")
        # The balancer's own pages as well.
        client.name = f"127.0.0.1:{balancer.port}"
        assert client.ask("GET", "/metrics").status == 200
