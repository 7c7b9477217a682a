"""The program log of a real process: never in the way, and its lines stay whole."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from evenflow.testing import EvenflowProcess, document, wait_for

if TYPE_CHECKING:
    from tests.conftest import StartOrigins

CHANGES = 400


def test_changes_go_on_while_nobody_reads_standard_output(origins: StartOrigins) -> None:
    (a,) = origins("a")
    logging = {"output": "stdout", "access": {"enabled": True, "output": "stdout"}}
    balancer = EvenflowProcess(
        document({"id": "a", "url": a.url}, logging=logging, state={"store": "memory"})
    )
    try:
        process = balancer.spawn(stdout=subprocess.PIPE)
        wait_for(lambda: balancer.request(target="/health/live").status == 200, "readiness")
        # Every fourth request's own record is longer than what a pipe takes in one go, and than
        # what the two logs could keep apart without taking turns.
        with balancer.client() as client:
            for number in range(CHANGES):
                more = "?x=" + "y" * 6000 if number % 4 == 0 else ""
                body = json.dumps({"weight": number % 100 + 1})
                client.send(
                    f"PATCH /api/v1/admin/backends/a{more} HTTP/1.1\r\nHost: localhost\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
                )
                client.expect(200)
        assert balancer.request().status == 200
        process.terminate()
        assert process.stdout is not None
        events = [json.loads(line) for line in process.stdout.read().splitlines()]
        in_force = [e["revision"] for e in events if e.get("event") == "configuration in force"]
        assert in_force == list(range(1, CHANGES + 2))
        process.stdout.close()
        assert balancer.wait() == 0
    finally:
        balancer.close()
