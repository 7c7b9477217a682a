"""Endpoints that come from elsewhere, with traffic that follows: DNS, files, registries, daemons."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest

from evenflow.testing import (
    EvenflowProcess,
    Load,
    Origin,
    free_port,
    run_evenflow,
    running_balancer,
    wait_for,
)
from tests.conftest import StartEvenflow, StartOrigins, program

OFF = {"health_check": {"enabled": False}}


def sources(balancer: EvenflowProcess) -> list[dict[str, Any]]:
    """How the sources are."""
    found: list[dict[str, Any]] = balancer.api("GET", "/admin/discovery")["sources"]
    return found


def members(balancer: EvenflowProcess) -> dict[str, str | None]:
    """All backends, and the source of each."""
    listed = balancer.api("GET", "/admin/backends")["backends"]
    return {each["id"]: each["discovered"] for each in listed}


def serving(balancer: EvenflowProcess, *names: str) -> None:
    """Wait until exactly these origins answer."""
    wanted = set(names)

    def answering() -> bool:
        return set(balancer.tally(4 * len(names))) == wanted

    wait_for(answering, f"only {sorted(wanted)} answer", describe=lambda: str(sources(balancer)))


@dataclass
class NameServer:
    """A dnsmasq whose records a test changes: it reads them again on SIGHUP."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    options: list[str] = field(default_factory=list)

    def hosts(self, name: str, *addresses: str) -> None:
        """Change the addresses of a name."""
        text = "".join(f"{address} {name}\n" for address in addresses)
        (self.folder / "hosts").write_text(text)
        if self.process is not None:
            self.process.send_signal(signal.SIGHUP)

    def start(self, *options: str) -> None:
        """Start it with further options; a second start replaces the first."""
        self.stop()
        command = [
            *(program("dnsmasq", "dnsmasq-base"), "--no-daemon", "--no-resolv", "--no-hosts"),
            *("--conf-file=/dev/null", f"--port={self.port}", "--listen-address=127.0.0.1"),
            *("--bind-interfaces", f"--addn-hosts={self.folder}/hosts", "--user=root"),
            *(f"--pid-file={self.folder}/pid", "--local=/internal/", *options),
        ]
        (self.folder / "hosts").touch()
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture
def names(tmp_path: Path) -> Iterator[NameServer]:
    server = NameServer(tmp_path)
    try:
        yield server
    finally:
        server.stop()


def beside(port: int, name: str, host: str) -> Origin:
    """An origin on the same port of another address of loopback."""
    return Origin(name, host=host, port=port)


def test_traffic_follows_the_addresses_of_a_name(
    evenflow: StartEvenflow, names: NameServer
) -> None:
    port = free_port()
    with (
        beside(port, "a", "127.0.0.2"),
        beside(port, "b", "127.0.0.3"),
        beside(port, "c", "127.0.0.4"),
    ):
        names.hosts("users.internal", "127.0.0.2", "127.0.0.3")
        names.start()
        balancer = evenflow(
            {
                "discover": {
                    "dns": f"users.internal:{port}",
                    "every": "200ms",
                    "timeout": "500ms",
                    "resolver": f"127.0.0.1:{names.port}",
                },
                **OFF,
            }
        )
        serving(balancer, "a", "b")
        assert members(balancer) == {f"127.0.0.2:{port}": "dns", f"127.0.0.3:{port}": "dns"}
        # Another order of the same set is no change.
        changed = sources(balancer)[0]["updates"]["changed"]
        names.hosts("users.internal", "127.0.0.3", "127.0.0.2")
        asked = sources(balancer)[0]["updates"]["unchanged"]
        wait_for(
            lambda: sources(balancer)[0]["updates"]["unchanged"] > asked + 2, "further answers"
        )
        assert sources(balancer)[0]["updates"]["changed"] == changed
        names.hosts("users.internal", "127.0.0.3", "127.0.0.4")
        serving(balancer, "b", "c")
        # A name that is gone empties nothing, and neither does a server that is gone.
        names.hosts("other.internal", "127.0.0.3")
        wait_for(lambda: sources(balancer)[0]["updates"]["empty"], "an empty answer")
        serving(balancer, "b", "c")
        names.stop()
        wait_for(lambda: sources(balancer)[0]["failures"], "a failure")
        serving(balancer, "b", "c")
        assert sources(balancer)[0]["endpoints"] == 2
        assert sources(balancer)[0]["next_attempt"] is not None
        names.hosts("users.internal", "127.0.0.2")
        names.start()
        serving(balancer, "a")
        assert sources(balancer)[0]["last_error"] is None


def test_services_are_followed_by_priority_and_weight(
    evenflow: StartEvenflow, names: NameServer
) -> None:
    port = free_port()

    def records(*lines: str) -> list[str]:
        return [f"--srv-host=_http._tcp.users.internal,{line}" for line in lines]

    with (
        beside(port, "a", "127.0.0.2"),
        beside(port, "b", "127.0.0.3"),
        beside(port, "c", "127.0.0.4"),
    ):
        text = "127.0.0.2 a.internal\n127.0.0.3 b.internal\n127.0.0.4 c.internal\n"
        (names.folder / "hosts").write_text(text)
        first = records(f"a.internal,{port},10,30", f"b.internal,{port},10,10")
        names.start(*first, *records(f"c.internal,{port},20,50"))
        balancer = evenflow(
            {
                "load_balancer": {"strategy": "weighted"},
                "discover": {
                    "srv": "_http._tcp.users.internal",
                    "every": "200ms",
                    "resolver": f"127.0.0.1:{names.port}",
                },
                **OFF,
            }
        )
        serving(balancer, "a", "b")
        assert balancer.tally(40) == {"a": 30, "b": 10}
        names.start(*records(f"c.internal,{port},20,50"))
        serving(balancer, "c")
        listed = balancer.api("GET", "/admin/backends")["backends"]
        assert [(each["weight"], each["labels"]) for each in listed] == [
            (50, {"host": "c.internal"})
        ]


def test_an_endpoint_leaves_under_load_without_a_failed_request(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    a, b, c = origins("a", "b", "c")
    path = tmp_path / "backends.yaml"

    def write(*urls: str) -> None:
        new = tmp_path / "new"
        new.write_text("".join(f"- {url}\n" for url in urls))
        new.rename(path)

    write(a.url, b.url)
    balancer = evenflow({"discover": {"file": str(path), "every": "100ms"}, **OFF})
    with Load(balancer.port, connections=8) as load:
        load.wait_for_more(100)
        for leaving in (1, 2):
            kept = (b if leaving == 1 else a).url
            write(kept, c.url)
            wait_for(lambda: c.url.removeprefix("http://") in members(balancer), "c serves")
            wait_for(lambda: len(members(balancer)) == 2, "one left")
            load.wait_for_more(200)
            write(a.url, b.url)
            wait_for(lambda: c.url.removeprefix("http://") not in members(balancer), "c left")
            load.wait_for_more(100)
        path.write_text("- {url: 'http://x', wieght: 1}\n")
        wait_for(lambda: sources(balancer)[0]["last_error"], "an error")
        load.wait_for_more(100)
    load.expect_no_failure()
    assert {b"a", b"b", b"c"} <= {body.strip() for body in load.bodies}
    error = sources(balancer)[0]["last_error"]
    assert f"{path}:1: backends[0].wieght: unknown key; did you mean `weight`" in error
    assert len(members(balancer)) == 2


class Registry:
    """A registry over HTTP on `http.server`: a list with its tag, and a count of what it answered."""

    def __init__(self) -> None:
        self.body: Any = []
        self.statuses: list[int] = []
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = json.dumps(registry.body).encode()
                tag = f'"{hash(content)}"'
                same = self.headers.get("If-None-Match") == tag
                allowed = self.headers.get("X-Token") == "s3cret-registry"
                status = 401 if not allowed else 304 if same else 200
                registry.statuses.append(status)
                self.send_response(status)
                self.send_header("ETag", tag)
                self.end_headers()
                if status == 200:
                    self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/users.json"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_a_registry_is_followed_and_shown_everywhere(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    a, b, own = origins("a", "b", "own")
    with Registry() as registry:
        registry.body = [{"id": "one", "url": a.url, "labels": {"zone": "a"}}]
        pools = [
            {
                "name": "users",
                "backends": [{"id": "own", "url": own.url}],
                "discover": {
                    "name": "registry",
                    "http": {"url": registry.url, "headers": {"X-Token": "${REGISTRY_TOKEN}"}},
                    "every": "100ms",
                },
            }
        ]
        routes = [{"name": "all", "pool": "users"}]
        balancer = evenflow(
            {"pools": pools, "routes": routes, **OFF},
            env={"REGISTRY_TOKEN": "s3cret-registry"},
        )
        serving(balancer, "a", "own")
        assert members(balancer) == {"own": None, "one": "registry"}
        wait_for(lambda: 304 in registry.statuses, "an unchanged answer")
        registry.body = [{"targets": [b.url.removeprefix("http://")], "labels": {"zone": "b"}}]
        serving(balancer, "b", "own")

        # In the configuration stands the source and no endpoint of it; it can be put back.
        config = balancer.api("GET", "/admin/config")
        assert [each["id"] for each in config["pools"][0]["backends"]] == ["own"]
        assert balancer.api("PUT", "/admin/config", config)["changes"] == []
        assert "s3cret-registry" not in json.dumps(config) + balancer.output()
        backends = balancer.api("GET", "/admin/backends")
        balancer.api("POST", "/admin/backends/restore", backends)
        assert set(members(balancer).values()) == {None, "registry"}
        piece = balancer.api("GET", "/admin/pools/users")
        piece["slow_start"] = "1s"
        balancer.api("PUT", "/admin/pools/users", piece)
        serving(balancer, "b", "own")

        # What a source found is changed at the source.
        (id,) = [id for id, source in members(balancer).items() if source]
        for method, path in (
            ("DELETE", f"/admin/backends/{id}"),
            ("PATCH", f"/admin/backends/{id}"),
            ("POST", f"/admin/backends/{id}/drain"),
        ):
            problem = balancer.api(
                method, path, {"weight": 1} if method == "PATCH" else None, expect=409
            )
            assert "discovered by the source 'registry' of pool 'users'" in problem["detail"]

        (status,) = sources(balancer)
        assert (status["kind"], status["place"]) == ("http", registry.url)
        labels = '{pool="users",source="registry"}'
        metrics = balancer.metrics()
        assert metrics[f"evenflow_discovery_endpoints{labels}"] == 1
        assert (
            metrics[
                'evenflow_discovery_updates_total{pool="users",source="registry",result="changed"}'
            ]
            == 2
        )
        last = metrics[f"evenflow_discovery_last_success_timestamp_seconds{labels}"]
        assert abs(last - time.time()) < 60
        explained = [balancer.api("POST", "/admin/explain", {"target": "/"}) for _ in range(2)]
        assert {each["backend"]: each["discovered"] for each in explained} == {
            "own": None,
            id: "registry",
        } or (explained[0]["backend"] == explained[1]["backend"])
        decisions = balancer.api("GET", "/admin/decisions?kind=discovery")["decisions"]
        assert decisions[-1]["came"] == [id]
        assert decisions[-1]["went"] == ["one"]
        printed = run_evenflow("discovery", "--url", balancer.url)
        assert printed.returncode == 0, printed.stderr
        assert "registry" in printed.stdout
        assert registry.url in printed.stdout


def test_without_an_answer_it_starts_all_the_same(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    registry = Registry()
    port = free_port()
    began = time.monotonic()
    balancer = evenflow(
        {
            "discover": {
                "http": {
                    "url": f"http://127.0.0.1:{port}/",
                    "headers": {"X-Token": "s3cret-registry"},
                },
                "every": "100ms",
                "timeout": "300ms",
            },
            **OFF,
        }
    )
    assert time.monotonic() - began < 15
    assert balancer.request().status == 503
    assert "cannot be reached" in sources(balancer)[0]["last_error"]
    registry.body = [a.url]
    moved = balancer.api("GET", "/admin/config")
    moved["discover"]["http"]["url"] = registry.url
    with registry:
        # A changed source is waited for, so that the first request after it finds endpoints.
        balancer.api("PUT", "/admin/config", moved)
        assert balancer.request().body.strip() == b"a"


def test_a_source_that_cannot_be_used_refuses_the_change(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    name = "nowhere.at_all:find"
    balancer = evenflow({"backends": [{"id": "a", "url": a.url}], "extensions": [name], **OFF})
    problem = balancer.api("PATCH", "/admin/config", {"discover": {"use": name}}, expect=400)
    assert problem["errors"][0]["path"] == "discover.use"
    assert "cannot import nowhere.at_all:find" in problem["errors"][0]["message"]
    assert balancer.request().body.strip() == b"a"


async def test_a_change_among_thousands_is_one_small_change(tmp_path: Path) -> None:
    """2,000 endpoints, of which one goes: told to the engine as that one."""
    path = tmp_path / "many.json"
    every = [f"http://10.0.{n // 250}.{n % 250 + 1}:80" for n in range(2000)]
    path.write_text(json.dumps(every))
    config = {"discover": {"file": str(path), "every": "100ms"}, **OFF}
    async with running_balancer(config) as balancer:
        controller = balancer.controller
        assert len(controller.members) == 2000
        kept = controller.members["default", "10.0.1.1:80"]
        new = tmp_path / "new"
        new.write_text(json.dumps([*every[:1000], *every[1001:]]))
        new.rename(path)
        async with asyncio.timeout(20):
            while len(controller.members) != 1999:
                await asyncio.sleep(0.01)
        assert controller.members["default", "10.0.1.1:80"] is kept
        event = [each for each in controller.decisions if each.kind == "discovery"][-1]
        assert event.details["went"] == ["10.0.4.1:80"]
        assert event.reason == "1 went; now 1999 endpoints"
        assert controller.revision == 1


@contextlib.contextmanager
def answering(handler: Callable[[str], tuple[dict[str, str], Any]]) -> Iterator[int]:
    """An HTTP server whose answers a function makes from the target, each in a thread of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            headers, body = handler(self.path)
            self.send_response(200)
            if callable(body):
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                with contextlib.suppress(OSError):
                    for piece in body():
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                        self.wfile.flush()
                return
            content = json.dumps(body).encode()
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def test_kubernetes_drains_what_terminates(
    evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path
) -> None:
    a, b = origins("a", "b")
    terminating, ended = threading.Event(), threading.Event()

    def slices(version: int, **conditions: bool) -> dict[str, Any]:
        return {
            "metadata": {"name": "users-1", "resourceVersion": str(version)},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": a.port}],
            "endpoints": [
                {
                    "addresses": ["127.0.0.1"],
                    "targetRef": {"name": "pod-a"},
                    "conditions": conditions,
                }
            ],
        }

    def events() -> Iterator[bytes]:
        terminating.wait(20)
        found = slices(2, ready=False, serving=True, terminating=True)
        yield json.dumps({"type": "MODIFIED", "object": found}).encode() + b"\n"
        ended.wait(20)

    def api(target: str) -> tuple[dict[str, str], Any]:
        if "watch=1" in target:
            return {}, events
        return {}, {"metadata": {"resourceVersion": "1"}, "items": [slices(1, ready=True)]}

    with answering(api) as port:
        cluster = {
            "service": "users",
            "namespace": "shop",
            "token": "t",
            "url": f"http://127.0.0.1:{port}",
        }
        balancer = evenflow(
            {
                "backends": [{"id": "own", "url": b.url}],
                "discover": {"kubernetes": cluster},
                **OFF,
            }
        )
        serving(balancer, "a", "b")
        terminating.set()
        serving(balancer, "b")
        listed = {e["id"]: e for e in balancer.api("GET", "/admin/backends")["backends"]}
        assert listed[f"pod-a:{a.port}"]["status"] == "draining"
        ended.set()
