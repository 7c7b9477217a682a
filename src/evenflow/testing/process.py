"""`EvenflowProcess` and `OriginProcess`: real processes that a test starts, signals and kills."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from evenflow.testing.client import Client, request
from evenflow.testing.waiting import DEFAULT_TIMEOUT_S, free_port, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from evenflow.testing.response import Response
    from evenflow.testing.wire import Field

READY_PATH = "/health/live"


class ProcessFailedError(AssertionError):
    """A process ended when it should not have; the message holds what it printed."""


class EvenflowProcess:
    """A balancer as users run it: `evenflow serve`, with a directory of its own.

    `config` is written to a file as JSON and given with `--config`; a `str` is written as it is
    (YAML). `env` and `args` are added to the environment and the command line. The port is free
    unless given, and handed over as `LB_PORT` unless `hand_over_port` is off. State, logs and the file stay in `directory` over
    `restart`, and are deleted at the end when the directory was made here.
    """

    def __init__(
        self,
        config: Mapping[str, object] | str | None = None,
        *,
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
        port: int | None = None,
        admin_port: int | None = None,
        hand_over_port: bool = True,
        ready: Callable[[], object] | None = None,
        directory: Path | None = None,
        config_name: str = "evenflow.yaml",
    ) -> None:
        """Describe a balancer; `ready` replaces the wait for an answer at `/health/live`.

        `admin_port` is where its own pages are, when that is not the main port.
        """
        self.port = free_port() if port is None else port
        self.admin_port = self.port if admin_port is None else admin_port
        self._hand_over_port = hand_over_port
        self.env = dict(env or {})
        self.args = list(args)
        self._made = None if directory else tempfile.TemporaryDirectory(prefix="evenflow-")
        self.directory = directory or Path(self._made.name if self._made else ".")
        self.config_file: Path | None = None
        self._config_name = config_name
        self._ready = ready or self._answers
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[Client] = []
        if config is not None:
            self.write_config(config)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The balancer's URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._running().pid

    def write_config(self, config: Mapping[str, object] | str) -> None:
        """Write the configuration file, replacing it at once as editors do."""
        text = config if isinstance(config, str) else json.dumps(config, indent=1)
        self.config_file = self.directory / self._config_name
        beside = self.config_file.with_suffix(".new")
        beside.write_text(text)
        beside.replace(self.config_file)

    def start(self) -> None:
        """Start and wait until ready; raises `ProcessFailedError` with the output when it ends."""
        self.spawn()
        wait_for(self._ready_or_dead, "the balancer being ready", describe=self.output)

    def spawn(self, *, stdout: int | IO[bytes] | None = None) -> subprocess.Popen[bytes]:
        """Start without waiting; `stdout` goes to a file unless given."""
        command = [sys.executable, "-m", "evenflow", "serve", *self.args]
        if self.config_file is not None:
            command += ["--config", str(self.config_file)]
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("LB_", "EVENFLOW_"))}
        with (
            (self.directory / "stdout").open("ab") as out,
            (self.directory / "stderr").open("ab") as err,
        ):
            self._process = subprocess.Popen(
                command,
                cwd=self.directory,
                env={**inherited, **self._port_variable(), **self.env},
                stdin=subprocess.DEVNULL,
                stdout=out if stdout is None else stdout,
                stderr=err,
            )
        return self._process

    def _port_variable(self) -> dict[str, str]:
        return {"LB_PORT": str(self.port)} if self._hand_over_port else {}

    def restart(self) -> None:
        """Stop in the ordinary way and start again with the same directory."""
        self.stop()
        self.start()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._running().send_signal(number)

    def reload(self) -> None:
        """Send SIGHUP."""
        self.signal(signal.SIGHUP)

    def stop(self, *, timeout_s: float = 2 * DEFAULT_TIMEOUT_S) -> int:
        """Send SIGTERM and return the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s=timeout_s)

    def wait(self, *, timeout_s: float = 2 * DEFAULT_TIMEOUT_S) -> int:
        """Wait for the end and return the exit code."""
        try:
            return self._running().wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ProcessFailedError(
                f"still running after {timeout_s} s\n{self.output()}"
            ) from None

    def close(self) -> None:
        """End the process, by force after a bounded time, and remove what was made."""
        for client in self._clients:
            client.close()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(3)
            self._process.kill()
            self._process.wait(DEFAULT_TIMEOUT_S)
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
        if self._made is not None:
            self._made.cleanup()

    def client(self, **options: Any) -> Client:
        """Open a raw connection to the main port, closed at the end; options as of `Client`."""
        client = Client(self.port, **options)
        self._clients.append(client)
        return client

    def request(self, method: str = "GET", target: str = "/", **options: Any) -> Response:
        """Make one request to the main port; options as of `evenflow.testing.request`."""
        return request(self.port, method, target, **options)

    def tally(self, count: int, target: str = "/", **options: Any) -> Counter[str]:
        """Make requests one after the other and count the answers' bodies, without blanks.

        Every answer must be 200. Origins answer with their name, so this says who served how many.
        """
        served: Counter[str] = Counter()
        for _ in range(count):
            answer = self.request("GET", target, **options)
            assert answer.status == 200, f"{answer.status} {answer.body[:500]!r}"
            served[answer.text.strip()] += 1
        return served

    def api(
        self,
        method: str,
        path: str,
        document: object = None,
        *,
        headers: Sequence[Field] = (),
        expect: int | None = None,
    ) -> Any:
        """Make an admin request (`path` after `/api/v1`) and return the answer's JSON.

        The status must be `expect`, or any 2xx without one.
        """
        body = None if document is None else json.dumps(document)
        fields = [("Content-Type", "application/json"), *headers] if body else list(headers)
        target = f"/api/v1{path}"
        response = request(self.admin_port, method, target, headers=fields, body=body)
        fine = response.status == expect if expect else 200 <= response.status < 300
        assert fine, f"{method} {path}: {response.status} {response.body[:2000]!r}"
        return response.json() if response.body else None

    def output(self) -> str:
        """Return what the process printed so far, standard output first."""
        parts = (self.directory / name for name in ("stdout", "stderr"))
        return "\n".join(part.read_text(errors="replace") for part in parts if part.exists())

    def events(self, name: str = "stdout") -> list[dict[str, Any]]:
        """Return the JSON lines of a log file in `directory`, skipping whatever is not JSON."""
        found = []
        path = self.directory / name
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        for line in lines:
            with contextlib.suppress(ValueError):
                value = json.loads(line)
                if isinstance(value, dict):
                    found.append(value)
        return found

    def metrics(self) -> dict[str, float]:
        """Return every sample of `/metrics`, by its name with labels as printed."""
        page = request(self.admin_port, "GET", "/metrics")
        assert page.status == 200, f"/metrics: {page.status} {page.body[:500]!r}"
        lines = page.text.splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def wait_for_metric(self, name: str, reached: float) -> None:
        """Wait until a sample, named with its labels as printed, is at least `reached`."""
        wait_for(
            lambda: self.metrics().get(name, -1.0) >= reached,
            f"{name} reaching {reached:g}",
            describe=lambda: f"{ {k: v for k, v in self.metrics().items() if v} }",
        )

    def wait_for_status(self, backend: str, *statuses: str) -> None:
        """Wait until a backend's status in the API is one of these."""

        def now() -> str:
            listed = self.api("GET", "/admin/backends")["backends"]
            return next((str(b["status"]) for b in listed if b["id"] == backend), "absent")

        wait_for(lambda: now() in statuses, f"{backend} being {statuses}", describe=now)

    def rss_bytes(self) -> int:
        """Return the resident memory of the process."""
        shown = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(self.pid)], capture_output=True, check=True, text=True
        )
        return int(shown.stdout) * 1024

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the balancer was not started")
        return self._process

    def _answers(self) -> bool:
        return request(self.admin_port, "GET", READY_PATH, timeout_s=2.0).status == 200

    def _ready_or_dead(self) -> bool:
        code = self._running().poll()
        if code is not None:
            raise ProcessFailedError(f"the balancer ended with {code}\n{self.output()}")
        try:
            return bool(self._ready())
        except AssertionError:
            return False


class OriginProcess:
    """`python -m evenflow.testing`: an origin that answers with its name and may be killed."""

    def __init__(self, name: str, *, port: int = 0) -> None:
        self.name = name
        self.port = port
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """The origin's URL."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start and wait until it listens, on the same port as before if it ran already."""
        command = [sys.executable, "-m", "evenflow.testing", "--name", self.name]
        command += ["--port", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        url = self._process.stdout.readline().strip()
        if not url:
            raise ProcessFailedError(f"{self.name} did not start: {self._process.wait(10)}")
        self.port = int(url.rpartition(":")[2])

    def kill(self) -> None:
        """Send SIGKILL and wait for the end; no-op when not running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(DEFAULT_TIMEOUT_S)
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None


def run_evenflow(
    *args: str,
    env: Mapping[str, str] | None = None,
    directory: Path | None = None,
    timeout_s: float = 60.0,
) -> subprocess.CompletedProcess[str]:
    """Run an `evenflow` command that ends by itself, and return its output and exit code."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("LB_", "EVENFLOW_"))}
    return subprocess.run(
        [sys.executable, "-m", "evenflow", *args],
        cwd=directory,
        env={**inherited, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
