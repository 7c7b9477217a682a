"""The scripts of `deploy/`, run against a real balancer: they stop at the first failure and say why."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from evenflow.testing import EvenflowProcess, Gate, document, free_port, wait_for
from evenflow.testing.behaviours import silent

if TYPE_CHECKING:
    from tests.conftest import StartEvenflow, StartOrigins

DEPLOY = Path(__file__).parents[2] / "deploy"
# Stands for the other machine: it notes what it is asked to run, and fails where it is told to.
SSH = """#!/bin/sh
echo "$2" >> "$SSH_LOG"
case "$2" in *"$SSH_FAILS"*) [ -n "$SSH_FAILS" ] && exit 1;; esac
exit 0
"""


@pytest.fixture
def fleet(evenflow: StartEvenflow, origins: StartOrigins, tmp_path: Path) -> EvenflowProcess:
    """A balancer over the backend 127.0.0.1, and another one."""
    (a,) = origins("a")
    ssh = tmp_path / "ssh"
    ssh.write_text(SSH)
    ssh.chmod(0o755)
    return evenflow(document({"id": "127.0.0.1", "url": a.url}, {"id": "b", "url": a.url}))


def update(
    fleet: EvenflowProcess, folder: Path, *servers: str, **environ: str
) -> subprocess.CompletedProcess[str]:
    (folder / "log").touch()
    return subprocess.run(
        [DEPLOY / "rolling-update.sh", "v2", *servers],
        env={
            **os.environ,
            "PATH": f"{folder}:{os.environ['PATH']}",
            "LB_URL": fleet.url,
            "PORT": str(fleet.port),  # the balancer's own page stands for the new version's
            "SSH_LOG": str(folder / "log"),
            "SSH_FAILS": "",
            "DRAIN_SECONDS": "1",
            "START_SECONDS": "1",
            **environ,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def drained(fleet: EvenflowProcess) -> dict[str, Any]:
    listed = fleet.api("GET", "/admin/backends")["backends"]
    return {each["id"]: each.get("drain", False) for each in listed}


def test_a_rolling_update_drains_updates_and_enables(
    fleet: EvenflowProcess, tmp_path: Path
) -> None:
    ran = update(fleet, tmp_path, "127.0.0.1")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "127.0.0.1 runs v2" in ran.stdout
    assert "docker run" in (tmp_path / "log").read_text()
    assert drained(fleet) == {"127.0.0.1": False, "b": False}


def test_an_unknown_backend_stops_the_update_before_anything_is_touched(
    fleet: EvenflowProcess, tmp_path: Path
) -> None:
    ran = update(fleet, tmp_path, "127.0.0.1", "nowhere")
    assert ran.returncode == 1
    assert "nowhere" in ran.stderr
    assert (tmp_path / "log").read_text() == ""
    assert drained(fleet) == {"127.0.0.1": False, "b": False}


def test_a_backend_that_does_not_drain_is_not_updated(
    origins: StartOrigins, fleet: EvenflowProcess, tmp_path: Path
) -> None:
    gate = Gate()
    (slow,) = origins("slow", default=silent(gate))
    fleet.api("PATCH", "/admin/backends/127.0.0.1", {"url": slow.url})
    fleet.api("DELETE", "/admin/backends/b")
    with subprocess.Popen(["curl", "-s", fleet.url], stdout=subprocess.DEVNULL) as client:
        wait_for(lambda: gate.arrivals == 1, "the request reaching the backend")
        ran = update(fleet, tmp_path, "127.0.0.1")
        gate.open()
        client.wait(20)
    assert ran.returncode == 1
    assert "still has requests in flight after 1 s" in ran.stderr
    assert (tmp_path / "log").read_text() == ""
    assert drained(fleet) == {"127.0.0.1": False}


@pytest.mark.parametrize(
    ("fails", "told", "still_drained"),
    [("docker pull", "cannot pull", False), ("docker run", "could not start", True)],
)
def test_a_failed_update_stops_and_says_in_which_state_the_backend_is(
    fleet: EvenflowProcess, tmp_path: Path, fails: str, told: str, still_drained: bool
) -> None:
    ran = update(fleet, tmp_path, "127.0.0.1", "b", SSH_FAILS=fails)
    assert ran.returncode == 1
    assert told in ran.stderr
    assert drained(fleet) == {"127.0.0.1": still_drained, "b": False}


def test_a_new_version_that_does_not_respond_stays_drained(
    fleet: EvenflowProcess, tmp_path: Path
) -> None:
    ran = update(fleet, tmp_path, "127.0.0.1", "b", PORT=str(free_port()))
    assert ran.returncode == 1
    assert "does not respond" in ran.stderr
    assert drained(fleet) == {"127.0.0.1": True, "b": False}


def test_a_backup_is_written_whole_or_not_at_all(fleet: EvenflowProcess, tmp_path: Path) -> None:
    def run(script: str, *arguments: str, url: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [DEPLOY / script, *arguments],
            cwd=tmp_path,
            env={**os.environ, "LB_URL": url},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    nobody = f"http://127.0.0.1:{free_port()}"
    assert run("backup-config.sh", url=nobody).returncode == 1
    assert not list(tmp_path.glob("*.json"))
    assert run("backup-config.sh", url=fleet.url).returncode == 0
    (backup,) = tmp_path.glob("backends-backup-*.json")
    day = backup.stem.removeprefix("backends-backup-")
    fleet.api("DELETE", "/admin/backends/b")
    assert run("restore-config.sh", day, url=fleet.url).returncode == 0
    assert drained(fleet).keys() == {"127.0.0.1", "b"}

    missing = run("restore-config.sh", "19700101", url=fleet.url)
    assert (missing.returncode, "no file" in missing.stderr) == (1, True)
    backup.write_text(json.dumps({"backends": [{"id": "x"}]}))
    refused = run("restore-config.sh", day, url=fleet.url)
    assert refused.returncode == 1
    assert "url" in refused.stderr
