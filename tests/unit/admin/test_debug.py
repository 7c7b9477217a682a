"""Profiles over HTTP."""

from __future__ import annotations

import gzip
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import program

from .conftest import Admin

PPROF = "/debug/pprof"


@pytest.mark.parametrize("name", ["heap", "goroutine", "tasks", "profile?seconds=0.2"])
async def test_a_profile_is_gzipped_or_text(admin: Admin, name: str) -> None:
    response = await admin.http.get(f"{PPROF}/{name}")
    assert response.status_code == 200
    assert len(gzip.decompress(response.content)) > 50
    mark = "&" if "?" in name else "?"
    text = (await admin.http.get(f"{PPROF}/{name}{mark}debug=1")).text
    assert text.startswith("# ")


async def test_the_heap_over_some_time_shows_stacks(admin: Admin) -> None:
    text = (await admin.http.get(f"{PPROF}/heap?seconds=0.1&debug=1")).text
    assert "only what was allocated within 0.1 s" in text


async def test_a_profile_takes_no_longer_than_its_bound(admin: Admin) -> None:
    for seconds in ("121", "forever", "-1"):
        await admin.json("GET", f"{PPROF}/profile?seconds={seconds}", status=400)


async def test_the_tasks_show_who_waits_for_what(admin: Admin) -> None:
    text = (await admin.http.get(f"{PPROF}/tasks?debug=1")).text
    assert "server.Server.main_loop" in text


async def test_go_tool_pprof_reads_them(admin: Admin, tmp_path: Path) -> None:
    files: list[Path] = []
    for name in ("heap", "goroutine", "profile?seconds=0.2"):
        files.append(tmp_path / f"{len(files)}.pb.gz")
        files[-1].write_bytes((await admin.http.get(f"{PPROF}/{name}")).content)
    go = program("go", "golang")
    for file in files:
        # The first use of a fresh installation compiles the tool.
        done = subprocess.run(
            [go, "tool", "pprof", "-raw", str(file)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={**os.environ, "PPROF_TMPDIR": str(tmp_path)},
        )
        assert done.returncode == 0, done.stderr
        assert "Samples:" in done.stdout
