"""The Docker Engine API, played over real sockets: a list, events, and what comes of them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from evenflow.discovery.docker import docker, read
from evenflow.discovery.endpoint import DiscoveryError
from tests.unit.discovery.conftest import (
    CUT,
    END,
    STREAM,
    Piece,
    answer,
    asking,
    chunk,
    entry,
    playing,
    urls,
)


def container(name: str, number: int, **fields: Any) -> dict[str, Any]:
    """A container as `GET /containers/json` lists it."""
    return {
        "Id": "0123456789abcdef" + name,
        "Names": [f"/{name}"],
        "Labels": {"app": "web", "evenflow.zone": "a"},
        "State": "running",
        "Status": "Up 3 minutes (healthy)",
        "Ports": [{"PrivatePort": 8080, "Type": "tcp"}],
        "NetworkSettings": {"Networks": {"bridge": {"IPAddress": f"172.17.0.{number}"}}},
        **fields,
    }


def found(*containers: Any, **settings: Any) -> Any:
    """What is read of a list."""
    fields = {name: settings.pop(name) for name in ("scheme", "port") if name in settings}
    of = entry(docker=settings, **fields)
    assert of.docker is not None
    return read(of, of.docker, json.dumps(containers).encode())


async def test_the_list_is_read_again_after_an_event(tmp_path: Path) -> None:
    socket = tmp_path / "docker.sock"
    started = asyncio.Event()
    told = chunk({"Type": "container", "Action": "start", "id": "2"})
    script: list[list[Piece]] = [
        # Split anywhere, in the middle of a document as well.
        [STREAM, started, told[:9], told[9:31], told[31:], asyncio.Event()],
        [answer([container("web-1", 2)])],
        [answer([container("web-1", 2), container("web-2", 3)])],
    ]
    async with playing(*script, socket=socket) as server:
        settings = {"host": f"unix://{socket}", "labels": {"app": "web", "public": ""}}
        async with asking(docker, docker=settings, every="60s") as following:
            assert urls((await following()).endpoints) == ["http://172.17.0.2:8080"]
            started.set()
            assert [each.id for each in (await following()).endpoints] == ["web-1", "web-2"]
        filters = json.loads(parse_qs(urlsplit(server.targets[1]).query)["filters"][0])
        assert filters == {"status": ["running"], "label": ["app=web", "public"]}
        assert server.targets[0].startswith("/events?")


@pytest.mark.parametrize("action", ["stop", "die", "remove", "destroy", "health_status: healthy"])
async def test_whatever_may_change_a_container_is_a_reason_to_look(action: str) -> None:
    """Daemons differ in how they name what happens, and in which names their filters know."""
    noise = [{"Type": "container", "Action": each} for each in ("exec_create: sh", "top", "attach")]
    happened = asyncio.Event()
    script: list[list[Piece]] = [
        [STREAM, chunk(*noise), happened, chunk({"Type": "container", "Action": action})],
        [answer([container("a", 2)])],
        [answer([container("b", 3)])],
    ]
    async with playing(*script) as server:
        fields = {"docker": {"host": f"tcp://127.0.0.1:{server.port}"}, "every": "60s"}
        async with asking(docker, **fields) as following:
            await following()
            following_change = asyncio.ensure_future(following())
            await asyncio.sleep(0.05)
            assert len(server.heads) == 2, "noise is no reason"
            happened.set()
            assert [each.id for each in (await following_change).endpoints] == ["b"]
        filters = json.loads(parse_qs(urlsplit(server.targets[0]).query)["filters"][0])
        assert filters == {"type": ["container", "network"]}


async def test_the_list_is_read_every_so_often_without_any_event(tmp_path: Path) -> None:
    script: list[list[Piece]] = [
        [STREAM, asyncio.Event()],
        [answer([container("a", 2)])],
        [answer([])],
    ]
    async with playing(*script) as server:
        fields = {"docker": {"host": f"tcp://127.0.0.1:{server.port}"}, "every": "100ms"}
        async with asking(docker, **fields) as following:
            assert len((await following()).endpoints) == 1
            assert (await following()).endpoints == []


async def test_events_that_end_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evenflow.discovery.docker.PAUSE_S", 0.0)
    script: list[list[Piece]] = [
        [STREAM, END],
        [answer([container("a", 2)])],
        [STREAM, asyncio.Event()],
        [answer([container("b", 3)])],
    ]
    async with playing(*script) as server:
        fields = {"docker": {"host": f"tcp://127.0.0.1:{server.port}"}, "every": "60s"}
        async with asking(docker, **fields) as following:
            await following()
            assert [each.id for each in (await following()).endpoints] == ["b"]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ([[answer({"message": "denied"}, "403 Forbidden")]], "got 403: denied"),
        ([[STREAM, asyncio.Event()], [answer(b"x", "500 Oops")]], "got 500: x"),
        ([[STREAM, asyncio.Event()], [answer({})]], "expected a list of containers"),
        ([[STREAM, asyncio.Event()], [CUT]], "connection closed"),
    ],
)
async def test_a_refusal_is_told_in_words(script: Any, said: str) -> None:
    async with playing(*script) as server:
        with pytest.raises(Exception, match=said):
            async with asking(
                docker, docker={"host": f"tcp://127.0.0.1:{server.port}"}
            ) as following:
                await following()


async def test_a_socket_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="cannot be reached: No such file"):
        async with asking(docker, docker={"host": f"unix://{tmp_path}/no.sock"}) as following:
            await following()


def test_a_container_tells_its_port_weight_and_labels() -> None:
    labels = {"evenflow.port": "9000", "evenflow.weight": "7", "evenflow.zone": "b", "other": "x"}
    (one,) = found(container("web-1", 2, Labels=labels)).endpoints
    assert (one.id, one.url, one.weight) == ("web-1", "http://172.17.0.2:9000", 7)
    assert dict(one.labels) == {"zone": "b", "container": "web-1"}


def test_the_entrys_port_is_that_of_containers_without_one() -> None:
    bare = container("a", 2, Ports=[])
    assert urls(found(bare, port=81).endpoints) == ["http://172.17.0.2:81"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"Ports": []}, "tells no port: give it the label evenflow.port"),
        ({"Labels": {"evenflow.port": "x"}}, "has the port 'x'"),
        ({"Labels": {"evenflow.weight": "0"}}, "has the weight '0'"),
        ({"NetworkSettings": {}}, "has no address of its own"),
        (
            {
                "NetworkSettings": {
                    "Networks": {"a": {"IPAddress": "10.0.0.1"}, "b": {"IPAddress": "10.1.0.1"}}
                }
            },
            "is in the networks a, b: name one with `network`",
        ),
    ],
)
def test_a_container_that_cannot_be_used_is_noted_and_the_others_serve(
    fields: Any, said: str
) -> None:
    answer = found(container("bad", 9, **fields), container("good", 2))
    assert [each.id for each in answer.endpoints] == ["good"]
    assert said in answer.notes[0]
    with pytest.raises(DiscoveryError, match="container bad"):
        found(container("bad", 9, **fields))


@pytest.mark.parametrize(
    "status", ["Up (unhealthy)", "Up 1s (health: starting)", "Up 2 h (Paused)"]
)
def test_containers_that_are_not_healthy_are_left_out(status: str) -> None:
    assert found(container("a", 2, Status=status)).endpoints == []


def test_the_network_is_chosen_by_name() -> None:
    networks = {
        "front": {"IPAddress": "10.0.0.1"},
        "back": {"IPAddress": "", "GlobalIPv6Address": "fd00::7"},
    }
    both = container("a", 2, NetworkSettings={"Networks": networks})
    assert urls(found(both, network="back").endpoints) == ["http://[fd00::7]:8080"]
