"""Real servers as processes of a test: started, stopped, killed, with what they printed."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evenflow.testing import free_port, wait_for
from tests.conftest import program

PASSWORD = "s3cret-for-tests"


def unprivileged() -> dict[str, Any]:
    """Options of `subprocess` for servers that refuse to run as root."""
    if os.getuid() != 0:
        return {}
    user = pwd.getpwnam("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@dataclass
class Server:
    """A server process with its directory; `port` is free unless it ran before."""

    directory: Path
    command: list[str]
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.directory.with_name(f"{self.directory.name}.log")

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, cwd="/", **unprivileged()
            )
        wait_for(lambda: accepts(self.port), f"{self.command[0]} listens", describe=self.said)

    def said(self) -> str:
        """Its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def signal(self, number: int) -> None:
        """Send it a signal, and wait for its end."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(timeout=20)
            self.process = None

    def kill(self) -> None:
        """End it as a crash does."""
        self.signal(signal.SIGKILL)


@dataclass
class Redis(Server):
    """A Redis server; `url` logs in where it has a password."""

    tls: bool = False
    password: str = ""

    @property
    def url(self) -> str:
        """Where and how it is reached."""
        login = f":{self.password}@" if self.password else ""
        return f"{'rediss' if self.tls else 'redis'}://{login}{self.address}/0"

    def cli(self, *words: str) -> str:
        """What the server answers to a command; only of servers without TLS."""
        command = [program("redis-cli", "redis-tools"), "-p", str(self.port), *words]
        ran = subprocess.run(
            command,
            capture_output=True,
            check=True,
            timeout=20,
            env={**os.environ, "REDISCLI_AUTH": self.password},
        )
        # Keys and values may be any bytes.
        return ran.stdout.decode("utf-8", "replace").strip()


@dataclass
class RedisServers:
    """Makes Redis servers below one folder, which everybody may write to."""

    root: Path
    started: list[Redis] = field(default_factory=list)

    def start(
        self,
        *options: str,
        durable: bool = False,
        password: str = "",
        tls: Sequence[Path] = (),
    ) -> Redis:
        """Start one that keeps nothing or, where `durable`, every write before it answers.

        `tls` are its certificate, the key and the authority, all as files.
        """
        port = free_port()
        directory = self.root / f"redis-{port}"
        directory.mkdir()
        directory.chmod(0o777)
        command = [program("redis-server", "redis-server"), "--bind", "127.0.0.1", "--save", ""]
        command += ["--repl-diskless-sync-delay", "0"]
        command += ["--dir", str(directory), "--appendonly", "yes" if durable else "no"]
        if durable:
            command += ["--appendfsync", "always"]
        if password:
            command += ["--requirepass", password]
        if tls:
            cert, key, ca = (self._readable(directory, path) for path in tls)
            command += ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no"]
            command += ["--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", ca]
        else:
            command += ["--port", str(port)]
        server = Redis(directory, [*command, *options], port, tls=bool(tls), password=password)
        self.started.append(server)
        server.start()
        return server

    @staticmethod
    def _readable(directory: Path, path: Path) -> str:
        copy = directory / path.name
        copy.write_bytes(path.read_bytes())
        copy.chmod(0o644)
        return str(copy)

    def close(self) -> None:
        """End them all."""
        for server in self.started:
            server.kill()
