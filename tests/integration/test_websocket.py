"""WebSocket through the balancer: frames both ways, reloads, bounds, counters and records."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from evenflow.testing import (
    Client,
    Gate,
    TranscriptError,
    WebSocket,
    document,
    echo_websocket,
    wait_for,
)
from evenflow.testing.behaviours import respond

if TYPE_CHECKING:
    from evenflow.testing import EvenflowProcess, Origin
    from tests.conftest import StartEvenflow, StartOrigins

LOGGED = {"access": {"enabled": True, "output": "access.log"}}


@pytest.fixture
def echo(origins: StartOrigins) -> Origin:
    """Return an origin that speaks WebSocket."""
    (origin,) = origins("echo")
    origin.default = echo_websocket()
    return origin


def behind(origin: Origin, upgrade: dict[str, object], **more: object) -> dict[str, object]:
    """Return a document with this one backend."""
    return document(
        {"id": "echo", "url": origin.url},
        load_balancer={"upgrade": upgrade},
        logging=LOGGED,
        **more,
    )


def record_of(balancer: EvenflowProcess) -> dict[str, Any]:
    """Wait for the tunnel's access record."""

    def switched() -> list[dict[str, Any]]:
        return [entry for entry in balancer.events("access.log") if entry["status"] == 101]

    wait_for(switched, "a record with status 101")
    (record,) = switched()
    return record


def test_a_conversation_is_relayed_counted_and_recorded(
    evenflow: StartEvenflow, echo: Origin
) -> None:
    balancer = evenflow(behind(echo, {}))
    with WebSocket(balancer.client(), "/chat?room=1") as socket:
        for size in (1, 1000, 100_000, 3_000_000):
            socket.say("x" * size)
        balancer.wait_for_metric('evenflow_tunnels{route="default"}', 1)
        active = 'evenflow_backend_active_connections{pool="default",backend="echo"}'
        assert balancer.metrics()[active] == 1
        socket.close()
    record = record_of(balancer)
    assert (record["path"], record["backend_id"]) == ("/chat?room=1", "echo")
    assert record["bytes"] > 3_101_001
    assert "reason" not in record or not record["reason"]
    seen = balancer.metrics()
    assert seen['evenflow_tunnels{route="default"}'] == 0
    assert seen['evenflow_tunnels_opened_total{route="default"}'] == 1
    assert seen['evenflow_tunnel_sent_bytes_total{route="default"}'] == record["bytes"]
    assert seen['http_requests_total{status="101",method="GET"}'] == 1


def test_conversations_outlive_reloads_of_everything_but_their_route(
    evenflow: StartEvenflow, origins: StartOrigins, echo: Origin
) -> None:
    (other,) = origins("other")
    wanted = behind(echo, {}, server={"shutdown_timeout": "500ms"})
    wanted["routes"] = [{"name": "chat", "match": {"path": "/chat/*"}, "pool": "default"}]
    wanted["pools"] = [{"name": "rest", "backends": [{"id": "other", "url": other.url}]}]
    balancer = evenflow(wanted)
    sockets = [WebSocket(balancer.client(), "/chat/1") for _ in range(20)]
    for turn in range(5):
        wanted["routes"] = [
            {"name": f"rest-{turn}", "match": {"path": f"/{turn}/*"}, "pool": "rest"},
            {"name": "chat", "match": {"path": "/chat/*"}, "pool": "default"},
        ]
        wanted["pools"] = [
            {"name": "rest", "backends": [{"id": f"other-{turn}", "url": other.url}]}
        ]
        balancer.write_config(wanted)
        balancer.reload()
        balancer.wait_for_metric('evenflow_config_reloads_total{result="ok"}', turn + 1)
        for socket in sockets:
            socket.say(f"after reload {turn}")

    # Without its route a conversation may go on for `shutdown_timeout`.
    wanted["routes"] = [{"name": "other", "match": {"path": "/other/*"}, "pool": "rest"}]
    balancer.write_config(wanted)
    balancer.reload()
    for socket in sockets:
        with socket, pytest.raises(TranscriptError, match="ended"):
            socket.receive()
    balancer.wait_for_metric('evenflow_errors_total{reason="tunnel_drained"}', len(sockets))


def test_conversations_may_end_before_what_else_is_in_flight(
    evenflow: StartEvenflow, echo: Origin
) -> None:
    gate = Gate()
    echo.on("/slow", respond(body=b"late", before=gate))
    bounds = {"shutdown_timeout": "10m", "stream_drain_timeout": "200ms"}
    balancer = evenflow(behind(echo, {}, server=bounds))
    with WebSocket(balancer.client()) as socket, balancer.client() as client:
        socket.say("hello")
        client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: gate.arrivals, "the request at the origin")
        balancer.signal(signal.SIGTERM)
        with pytest.raises(TranscriptError, match="ended"):
            socket.receive()
        gate.open()
        client.expect(200, body=b"late")
    assert balancer.wait(timeout_s=10) == 0
    assert record_of(balancer)["reason"] == "tunnel_drained"


def test_a_silent_conversation_ends_and_a_lively_one_goes_on(
    evenflow: StartEvenflow, echo: Origin
) -> None:
    balancer = evenflow(behind(echo, {"idle_timeout": "600ms"}))
    lively, silent = (WebSocket(balancer.client()) for _ in range(2))
    began = time.monotonic()
    while time.monotonic() < began + 1.2:
        lively.say("still here")
        time.sleep(0.05)
    with silent, pytest.raises(TranscriptError, match="ended"):
        silent.receive()
    lively.close()
    records = [e for e in balancer.events("access.log") if e["status"] == 101]
    assert "tunnel_idle" in json.dumps(records)


def say_for_ever(socket: WebSocket) -> None:
    """Go on until the other side has had enough."""
    while True:
        socket.say("x")


def test_a_conversation_ends_at_its_greatest_age(evenflow: StartEvenflow, echo: Origin) -> None:
    balancer = evenflow(behind(echo, {"max_lifetime": "500ms"}))
    with WebSocket(balancer.client()) as socket:
        began = time.monotonic()
        with pytest.raises(TranscriptError):
            say_for_ever(socket)
        assert 0.4 < time.monotonic() - began < 5
    assert "tunnel_expired" in json.dumps(record_of(balancer))


def test_switched_off_no_wish_reaches_the_backend(evenflow: StartEvenflow, echo: Origin) -> None:
    balancer = evenflow(behind(echo, {"enabled": False}))
    with pytest.raises(TranscriptError, match="426"):
        WebSocket(balancer.client())
    assert echo.requests[0].header("upgrade") is None


def test_a_slow_reader_holds_the_backend_back(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (flood,) = origins("flood")
    written = 0

    async def behave(exchange: Any) -> None:
        nonlocal written
        fields = [("Connection", "Upgrade"), ("Upgrade", "flood")]
        await exchange.send_head(101, fields, "Switching Protocols")
        exchange.close()
        while written < 64 << 20:
            await exchange.send(bytes(1 << 16))
            written += 1 << 16

    flood.default = behave
    balancer = evenflow(behind(flood, {}))
    with Client(balancer.port, receive_buffer=4096) as client:
        client.send(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: flood\r\n\r\n"
        ).read_head()
        steady = [-1, -2]

        def stopped() -> bool:
            steady.append(written)
            return steady[-1] == steady[-2] == steady[-3] > 0

        wait_for(stopped, "the backend being held back", describe=lambda: str(steady[-3:]))
        assert written < 32 << 20
        held = written
        while written == held:
            assert client.read_some(), "the connection ended"


def test_a_backend_that_refuses_answers_as_usual(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (plain,) = origins("plain")
    plain.default = respond(403, b"not for you")
    balancer = evenflow(behind(plain, {}))
    with balancer.client() as client:
        for _ in range(2):
            client.send(
                b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
            )
            client.expect(403, body=b"not for you", headers={"upgrade": None})
