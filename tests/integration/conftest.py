"""Real servers behind the balancer: PostgreSQL, Redis, MariaDB."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from evenflow.testing import free_port, wait_for
from tests.conftest import program
from tests.servers import PASSWORD, Server, unprivileged


def run(*command: str | Path, **options: Any) -> str:
    """Run a program to its end, unprivileged; its output."""
    ran = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **{**unprivileged(), "cwd": "/", **options},
    )
    assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
    return str(ran.stdout)


@dataclass
class Postgres(Server):
    """A PostgreSQL cluster of its own."""

    def stop(self) -> None:
        """Break off every session at once, as a crash does."""
        self.signal(signal.SIGQUIT)

    def conninfo(self, port: int | None = None, user: str = "postgres") -> str:
        """How to connect, to it or through a balancer's port."""
        return (
            f"host=127.0.0.1 port={port or self.port} user={user} password={PASSWORD}"
            " dbname=postgres connect_timeout=10"
        )

    def psql(self, statement: str) -> str:
        """Run a statement as the superuser."""
        return run(
            program("psql", "postgresql"), "-XAtq", "-d", self.conninfo(), "-c", statement
        ).strip()

    def ready(self) -> None:
        """Wait until it takes sessions."""
        pg_isready = program("pg_isready", "postgresql")
        command = [pg_isready, "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        wait_for(
            lambda: subprocess.run(command, check=False).returncode == 0,
            "PostgreSQL takes sessions",
            describe=self.said,
        )


@dataclass
class Servers:
    """Makes servers in one directory; they end with the test."""

    root: Path
    started: list[Server] = field(default_factory=list)

    def postgres(self, *settings: str, hba: str = "", copy: Postgres | None = None) -> Postgres:
        """Start a cluster: a new one, or a streaming replica of `copy`."""
        directory = self.root / f"pg{len(self.started)}"
        port = free_port()
        if copy is None:
            password = self.root / "password"
            password.write_text(PASSWORD)
            initdb = program("initdb", "postgresql")
            options = ("-U", "postgres", "-A", "scram-sha-256", "--no-sync", "-E", "UTF8")
            run(initdb, "-D", directory, *options, "--locale=C", f"--pwfile={password}")
            lines = [hba, "host all,replication all 127.0.0.1/32 scram-sha-256"]
            (directory / "pg_hba.conf").write_text("\n".join(lines) + "\n")
        else:
            run(
                program("pg_basebackup", "postgresql"),
                *("-D", directory, "-R", "--checkpoint=fast", "--no-sync", "-d", copy.conninfo()),
            )
        with (directory / "postgresql.conf").open("a") as conf:
            conf.write(
                f"port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n"
                "fsync = off\nshared_buffers = 16MB\nmax_connections = 60\nlogging_collector = off\n"
                + "".join(f"{setting}\n" for setting in settings)
            )
        server = Postgres(
            directory, [program("postgres", "postgresql"), "-D", str(directory)], port
        )
        self.started.append(server)
        server.start()
        return server

    def redis(self, *options: str) -> Server:
        """Start a Redis that keeps nothing."""
        directory = self.root / f"redis{len(self.started)}"
        port = free_port()
        command = [program("redis-server", "redis-server"), "--port", str(port)]
        command += ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", *options]
        server = Server(directory, command, port)
        self.started.append(server)
        server.start()
        return server

    def mariadb(self, *options: str) -> Server:
        """Start a MariaDB with an empty catalogue."""
        directory = self.root / f"mariadb{len(self.started)}"
        port = free_port()
        mariadbd = program("mariadbd", "mariadb-server-core")
        files = ("system_tables", "performance_tables", "system_tables_data")
        texts = [Path(f"/usr/share/mysql/mysql_{name}.sql").read_text() for name in files]
        run("mkdir", directory)
        run(
            *(mariadbd, "--no-defaults", "--bootstrap", f"--datadir={directory}"),
            input="\n".join(["create database mysql;", "use mysql;", *texts]),
        )
        command = [mariadbd, "--no-defaults"]
        command += [f"--datadir={directory}", f"--port={port}", "--bind-address=127.0.0.1"]
        command += [f"--socket={directory}/socket", "--innodb-flush-log-at-trx-commit=0", *options]
        server = Server(directory, command, port)
        self.started.append(server)
        server.start()
        return server

    def nginx(self, port: int, block: str) -> Server:
        """Start an nginx with this inside its `http` block."""
        directory = self.root / f"nginx{len(self.started)}"
        run("mkdir", directory)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = " ".join(f"{kind}_temp_path {directory}/{kind};" for kind in kinds)
        return self._configured(
            [program("nginx", "nginx"), "-e", "stderr", "-c"],
            f"daemon off; master_process off; pid {directory}/pid; error_log stderr; events {{}}\n"
            f"http {{ access_log off; {paths}\n{block}\n}}\n",
            port,
        )

    def haproxy(self, port: int, sections: str) -> Server:
        """Start an HAProxy with these sections."""
        defaults = (
            "defaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n"
        )
        return self._configured(
            [program("haproxy", "haproxy"), "-db", "-f"], defaults + sections, port
        )

    def _configured(self, command: list[str], text: str, port: int) -> Server:
        path = self.root / f"server{len(self.started)}.conf"
        path.write_text(text)
        server = Server(path, [*command, str(path)], port)
        self.started.append(server)
        server.start()
        return server


@pytest.fixture
def servers() -> Iterator[Servers]:
    """Servers that end, and leave nothing behind, with the test."""
    with tempfile.TemporaryDirectory(
        prefix="evenflow-servers-", ignore_cleanup_errors=True
    ) as name:
        root = Path(name)
        # The servers run as somebody else where the tests run as root.
        root.chmod(0o777)
        made = Servers(root)
        try:
            yield made
        finally:
            for server in made.started:
                server.signal(signal.SIGQUIT if isinstance(server, Postgres) else signal.SIGKILL)


@pytest.fixture
def find_program() -> Callable[[str, str], str]:
    """Finds a program, or fails saying which package has it."""
    return program
