"""The access log: one true line for each request, and never a request that waits for it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from typing import TYPE_CHECKING, Any

from evenflow.testing import EvenflowProcess, document, wait_for
from evenflow.testing.behaviours import hang_up

if TYPE_CHECKING:
    from tests.conftest import StartEvenflow, StartOrigins


def logged(balancer: EvenflowProcess, count: int, name: str = "access.log") -> list[dict[str, Any]]:
    """Wait for records in the access log's file, the balancer's own pages aside; return them."""

    def records() -> list[dict[str, Any]]:
        return [e for e in balancer.events(name) if not e["route"].startswith("evenflow-")]

    wait_for(
        lambda: len(records()) >= count,
        f"{count} records in {name}",
        describe=lambda: str(balancer.events(name)),
    )
    return records()


def to_file(**more: object) -> dict[str, object]:
    """Return a `logging` section whose access log is a file."""
    return {"access": {"enabled": True, "output": "access.log", **more}}


def test_a_record_tells_the_requests_story(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (a,) = origins("a")
    balancer = evenflow(document({"id": "app-1", "url": a.url}, logging=to_file()))
    balancer.request("PUT", "/x?y=z", headers=[("Host", "h.test")], body=b"12345")
    (record,) = logged(balancer, 1)
    assert record["request_id"] == a.requests[0].header("x-request-id")
    assert (record["client"], record["method"], record["path"]) == ("127.0.0.1", "PUT", "/x?y=z")
    assert (record["status"], record["attempts"]) == (200, 1)
    assert record["bytes"] >= 2
    assert (record["backend_id"], record["route"], record["pool"]) == (
        "app-1",
        "default",
        "default",
    )
    assert 0 < record["latency_ms"] < 10_000
    assert not record["reason"]


def test_failures_are_logged_with_their_reason(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a", default=hang_up())
    balancer = evenflow(
        document({"id": "a", "url": a.url}, logging=to_file(sample=0.0)),
    )
    assert balancer.request("POST", "/lost", body=b"x").status == 502
    assert balancer.request(headers=[("Host", "a b")]).status == 400
    records = logged(balancer, 2)
    lost = next(r for r in records if r["status"] == 502)
    assert lost["path"] == "/lost"
    assert lost["reason"] == "upstream_reset"
    refused = next(r for r in records if r["status"] == 400)
    assert refused["reason"] == "bad_request"
    assert not refused["backend_id"]


def test_attempts_are_counted(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    broken, fine = origins("broken", "fine")
    broken.default = hang_up()
    balancer = evenflow(document(broken.url, fine.url, logging=to_file()))
    for _ in range(4):
        assert balancer.request().status == 200
    attempts = [record["attempts"] for record in logged(balancer, 4)]
    assert sum(attempts) == len(broken.requests) + len(fine.requests)
    assert set(attempts) <= {1, 2}


def test_a_client_cannot_forge_a_line(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (a,) = origins("a")
    balancer = evenflow(document(a.url, logging=to_file()))
    balancer.request(target='/"}\\n%0a', headers=[("User-Agent", 'a"b\\c\xe4')])
    (record,) = logged(balancer, 1)
    assert record["path"] == '/"}\\n%0a'


def test_the_combined_format_is_apaches(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (a,) = origins("a")
    balancer = evenflow(document(a.url, logging=to_file(format="combined")))
    balancer.request(target="/x?y", headers=[("Referer", "http://r/"), ("User-Agent", 'q"uote')])
    log = balancer.directory / "access.log"
    wait_for(lambda: log.exists() and "/x?y" in log.read_text(), "the line in the access log")
    line = log.read_text().splitlines()[-1]
    pattern = (
        r"127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "
        r'"GET /x\?y HTTP/1\.1" 200 2 "http://r/" "q\\x22uote"'
    )
    assert re.fullmatch(pattern, line), line


def test_a_share_of_the_requests_is_recorded(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    balancer = evenflow(document(a.url, logging=to_file(sample=0.5)))
    balancer.tally(200)
    balancer.request(target="/last", headers=[("Host", "a b")])
    wait_for(
        lambda: any(r["status"] == 400 for r in balancer.events("access.log")), "the last record"
    )
    assert 50 < len(logged(balancer, 1)) < 150


def test_sigusr1_reopens_the_file_that_was_moved_away(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    balancer = evenflow(document(a.url, logging=to_file()))
    balancer.request(target="/before")
    logged(balancer, 1)
    log = balancer.directory / "access.log"
    log.rename(balancer.directory / "moved.log")
    balancer.signal(signal.SIGUSR1)
    wait_for(log.exists, "the new file")
    balancer.request(target="/after")
    assert [r["path"] for r in logged(balancer, 1)] == ["/after"]
    assert [r["path"] for r in logged(balancer, 1, "moved.log")] == ["/before"]


def test_the_program_log_is_reopened_too(evenflow: StartEvenflow, origins: StartOrigins) -> None:
    (a,) = origins("a")
    balancer = evenflow(
        document({"id": "a", "url": a.url}, logging={"output": "program.log", "level": "debug"})
    )
    log = balancer.directory / "program.log"
    wait_for(log.exists, "the program log")
    log.rename(balancer.directory / "moved.log")
    balancer.signal(signal.SIGUSR1)
    wait_for(log.exists, "the new file")
    balancer.api("PATCH", "/admin/backends/a", {"weight": 3})
    wait_for(lambda: balancer.events("program.log"), "an event in the new file")


def test_records_dropped_because_the_pipe_is_stalled_are_counted_and_delay_nobody(
    origins: StartOrigins,
) -> None:
    (a,) = origins("a")
    access = {"enabled": True, "output": "stdout"}
    wanted = document(a.url, logging={"output": "program.log", "access": access})
    balancer = EvenflowProcess(wanted)
    try:
        process = balancer.spawn(stdout=subprocess.PIPE)
        wait_for(lambda: balancer.request(target="/health/live").status == 200, "readiness")
        target = "/" + "a" * 6000
        dropped = 'evenflow_access_log_records_total{result="dropped"}'
        with balancer.client() as client:
            for _ in range(100):
                for _ in range(50):
                    client.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                    client.expect(200)
                if balancer.metrics()[dropped]:
                    break
        assert balancer.metrics()[dropped] > 0
        assert balancer.request().status == 200
        assert process.stdout is not None
        process.terminate()
        written = process.stdout.read()
        # The process does not outstay a stalled reader: its very last line may be cut off.
        for line in written[: written.rfind(b"\n") + 1].splitlines():
            assert isinstance(json.loads(line), dict)
        process.stdout.close()
        assert balancer.wait() == 0
    finally:
        balancer.close()


def test_nothing_is_written_when_the_access_log_is_off(
    evenflow: StartEvenflow, origins: StartOrigins
) -> None:
    (a,) = origins("a")
    balancer = evenflow(document(a.url, logging={"access": {"enabled": False}}))
    balancer.request(target="/unseen")
    assert balancer.stop() == 0
    assert "/unseen" not in balancer.output()
