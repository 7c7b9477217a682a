"""Real servers as origins: each reports what it understood of the bytes that evenflow sent to it."""

from __future__ import annotations

import base64
import contextlib
import getpass
import grp
import json
import os
import string
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from evenflow.testing import (
    EvenflowProcess,
    Exchange,
    Origin,
    document,
    free_port,
    request,
    wait_for,
)
from tests.conftest import program

HERE = Path(__file__).parent
APACHE_MODULES = Path("/usr/lib/apache2/modules")


@dataclass(frozen=True)
class Record:
    """One request as an origin understood it."""

    connection: str
    method: str
    target: str
    body: bytes
    fields: tuple[tuple[str, str], ...]

    def all(self, name: str) -> list[str]:
        """Return the values of every field called `name`."""
        return [value for field, value in self.fields if field.lower() == name.lower()]

    def __str__(self) -> str:
        return f"{self.method} {self.target} {self.body!r} on connection {self.connection}"


class Recorded(Protocol):
    """An origin that is asked what it got."""

    name: str
    url: str

    def take(self) -> list[Record]:
        """Return the requests understood since the last call."""


class Strict:
    """The test suite's own referee, or what a proxy in front of it handed on."""

    def __init__(self, name: str, recorder: Origin, url: str) -> None:
        self.name = name
        self.url = url
        self._recorder = recorder

    def take(self) -> list[Record]:
        """Return the requests whose body arrived whole, and forget them."""
        taken = [
            Record(
                request.header("x-seen-connection") or str(request.connection),
                request.method,
                request.target,
                bytes(request.body),
                request.head.fields,
            )
            for request in self._recorder.requests
            if request.complete
        ]
        self._recorder.requests.clear()
        return taken


class Script:
    """A server written for this suite, which prints its records."""

    def __init__(self, name: str, url: str, output: Path) -> None:
        self.name = name
        self.url = url
        self._output = output
        self._read = 0

    def take(self) -> list[Record]:
        """Return the records printed since the last call."""
        with self._output.open() as lines:
            lines.seek(self._read)
            text = lines.read()
            self._read = lines.tell()
        return [_record(json.loads(line)) for line in text.splitlines()]


@dataclass
class Path2Origin:
    """A balancer with one real origin behind it."""

    origin: Recorded
    balancer: EvenflowProcess


async def echo(exchange: Exchange) -> None:
    """Answer with method and target, so that a client sees whose answer it got."""
    if exchange.expects_continue:
        await exchange.send_head(100, [], "Continue")
    await exchange.read_body()
    said = f"{exchange.request.method} {exchange.request.target}"
    fields = [("X-Echo", said), ("Content-Length", str(len(said)))]
    body = b"" if exchange.request.method == "HEAD" else said.encode("latin-1")
    await exchange.send_whole(200, fields, "OK", body)


def start_strict(_: Path, stack: contextlib.ExitStack) -> Recorded:
    """Start the referee, which tolerates nothing that RFC 9112 forbids."""
    recorder = stack.enter_context(Origin("strict", default=echo))

    def last_words() -> None:
        assert not recorder.violations, recorder.violations

    stack.callback(last_words)
    return Strict("strict", recorder, recorder.url)


def start_nginx(directory: Path, stack: contextlib.ExitStack) -> Recorded:
    """Start nginx."""
    return _proxy("nginx", directory, stack, lambda file: ["-e", "stderr", "-c", file])


def start_haproxy(directory: Path, stack: contextlib.ExitStack) -> Recorded:
    """Start HAProxy."""
    return _proxy("haproxy", directory, stack, lambda file: ["-q", "-db", "-f", file])


def start_apache2(directory: Path, stack: contextlib.ExitStack) -> Recorded:
    """Start Apache httpd."""
    return _proxy("apache2", directory, stack, lambda file: ["-D", "FOREGROUND", "-f", file])


def start_http_server(directory: Path, stack: contextlib.ExitStack) -> Recorded:
    """Start Python's own server."""
    return _script("http_server", [sys.executable, "http_server.py"], directory, stack)


def start_uvicorn(directory: Path, stack: contextlib.ExitStack) -> Recorded:
    """Start uvicorn on h11."""
    return _script("uvicorn", [sys.executable, "uvicorn_h11.py"], directory, stack)


def start_node(directory: Path, stack: contextlib.ExitStack) -> Recorded:
    """Start Node.js."""
    return _script("node", [program("node", "nodejs"), "node.js"], directory, stack)


START = {
    "strict": start_strict,
    "nginx": start_nginx,
    "apache2": start_apache2,
    "haproxy": start_haproxy,
    "http_server": start_http_server,
    "uvicorn": start_uvicorn,
    "node": start_node,
}


@pytest.fixture(scope="module", params=list(START))
def real(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path2Origin]:
    """A balancer before one of the origins, for all cases of the module."""
    name = str(request.param)
    with contextlib.ExitStack() as stack:
        origin = START[name](tmp_path_factory.mktemp(name), stack)
        configuration = document(
            origin.url, load_balancer={"max_retries": 0, "outlier": {"enabled": False}}
        )
        balancer = stack.enter_context(EvenflowProcess(configuration))
        yield Path2Origin(origin, balancer)
        assert "panicked at" not in balancer.output(), balancer.output()


def _proxy(
    name: str,
    directory: Path,
    stack: contextlib.ExitStack,
    arguments: Callable[[str], list[str]],
) -> Recorded:
    command = program(name, name)
    recorder = stack.enter_context(Origin("recorder", default=echo))
    port = free_port()
    user = getpass.getuser()
    values = {
        "directory": str(directory),
        "port": str(port),
        "recorder": str(recorder.port),
        "modules": str(APACHE_MODULES),
        # Apache refuses to serve as root; others can only stay who they are.
        "user": "www-data" if os.getuid() == 0 else user,
        "group": "www-data" if os.getuid() == 0 else grp.getgrgid(os.getgid()).gr_name,
    }
    suffix = "cfg" if name == "haproxy" else "conf"
    template = string.Template((HERE / "origins" / f"{name}.{suffix}").read_text())
    file = directory / f"{name}.{suffix}"
    file.write_text(template.substitute(values))
    _run([command, *arguments(str(file))], name, port, directory, stack)
    return Strict(name, recorder, f"http://127.0.0.1:{port}")


def _script(
    name: str, command: list[str], directory: Path, stack: contextlib.ExitStack
) -> Recorded:
    port = free_port()
    interpreter, script = command
    full = [interpreter, str(HERE / "origins" / script), str(port)]
    _run(full, name, port, directory, stack)
    origin = Script(name, f"http://127.0.0.1:{port}", directory / "stdout")
    origin.take()
    return origin


def _run(
    command: list[str], name: str, port: int, directory: Path, stack: contextlib.ExitStack
) -> None:
    out = stack.enter_context((directory / "stdout").open("wb"))
    err = stack.enter_context((directory / "stderr").open("wb"))
    process = subprocess.Popen(command, cwd=directory, stdout=out, stderr=err)

    def stop() -> None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)

    stack.callback(stop)

    def said() -> str:
        return f"{name}: {process.poll()} {(directory / 'stderr').read_text(errors='replace')}"

    def ready() -> bool:
        if process.poll() is not None:
            pytest.fail(f"{said()} ended")
        return request(port, "GET", "/ready", timeout_s=2.0).status == 200

    wait_for(ready, f"{name} answering", describe=said)


def _record(line: dict[str, object]) -> Record:
    fields = line["fields"]
    assert isinstance(fields, list)
    return Record(
        str(line["connection"]),
        str(line["method"]),
        str(line["target"]),
        base64.b64decode(str(line["body"])),
        tuple((str(name), str(value)) for name, value in fields),
    )
