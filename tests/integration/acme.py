"""A certificate authority that speaks ACME (Pebble), and the DNS that it asks."""

from __future__ import annotations

import json
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evenflow.testing import free_port, wait_for
from evenflow.testing.authority import Authority
from tests.conftest import program


@dataclass
class Pebble:
    """A running authority; it asks for proofs at `http_port` and `tls_port` of this machine."""

    port: int
    management: int
    http_port: int
    tls_port: int
    authority: Authority
    """Vouches for Pebble's own https."""
    log: Path
    commands: list[tuple[list[str], dict[str, str]]]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def directory(self) -> str:
        """Its directory."""
        return f"https://localhost:{self.port}/dir"

    def acme(self, *domains: str, **more: Any) -> dict[str, Any]:
        """A certificate's `acme` that is ordered here."""
        return {
            "domains": list(domains),
            "directory": self.directory,
            "ca_file": str(self.authority.ca),
            "email": "ops@site.test",
            "retry_after": "1s",
            **more,
        }

    def root(self) -> ssl.SSLContext:
        """What trusts the certificates that it issues."""
        context = ssl.create_default_context()
        context.load_verify_locations(cadata=self.get("/roots/0"))
        return context

    def get(self, path: str) -> str:
        """A page of its management interface."""
        url = f"https://localhost:{self.management}{path}"
        trusted = self.authority.client_context()
        with urllib.request.urlopen(url, timeout=10, context=trusted) as answer:
            return str(answer.read().decode())

    def said(self) -> str:
        """Its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def stopped(self) -> bool:
        """Whether it is not running."""
        return all(process.poll() is not None for process in self.processes)

    def start(self) -> None:
        """Start it and its DNS, and wait for it; of what was before it knows nothing."""
        with self.log.open("ab") as log:
            self.processes = [
                subprocess.Popen(command, stdout=log, stderr=log, env=env)
                for command, env in self.commands
            ]
        wait_for(lambda: self.get("/roots/0"), "Pebble answering", describe=self.said)

    def stop(self) -> None:
        """End it, and its DNS."""
        for process in self.processes:
            process.kill()
            process.wait(10)


@contextmanager
def pebble(
    folder: Path,
    *,
    env: Mapping[str, str] | None = None,
    accounts: Mapping[str, str] | None = None,
) -> Iterator[Pebble]:
    """Run Pebble, with a DNS that knows all names to be on this machine.

    `accounts` are external accounts, of which each ACME account must then name one.
    """
    folder.mkdir(exist_ok=True)
    authority = Authority(folder)
    own = authority.issue("localhost", "127.0.0.1")
    port, management, http_port, tls_port, dns, unused = (free_port() for _ in range(6))
    config = {
        "listenAddress": f"127.0.0.1:{port}",
        "managementListenAddress": f"127.0.0.1:{management}",
        "certificate": str(own.cert),
        "privateKey": str(own.key),
        "httpPort": http_port,
        "tlsPort": tls_port,
        "externalAccountBindingRequired": accounts is not None,
        "externalAccountMACKeys": dict(accounts or {}),
    }
    file = folder / "pebble.json"
    file.write_text(json.dumps({"pebble": config}))
    names = [program("pebble-challtestsrv", "pebble"), "-dns01", f"127.0.0.1:{dns}"]
    names += ["-management", f"127.0.0.1:{unused}", "-defaultIPv6", ""]
    names += ["-http01", "", "-https01", "", "-tlsalpn01", ""]
    command = [program("pebble", "pebble"), "-config", str(file), "-strict"]
    command += ["-dnsserver", f"127.0.0.1:{dns}"]
    quick = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0", **(env or {})}
    commands = [(names, {}), (command, quick)]
    log = folder / "pebble.log"
    made = Pebble(port, management, http_port, tls_port, authority, log, commands)
    try:
        made.start()
        yield made
    finally:
        made.stop()
