"""Watched files, and signals to a balancer."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

from evenflow.certs import stamp
from evenflow.lifecycle import handling_signals, watch_files


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


@dataclass
class Recorder:
    """A balancer that only notes what is asked of it."""

    stopping: bool = False
    calls: list[str] = field(default_factory=list)

    def request_stop(self, *, deadline_s: float | None = None) -> None:
        self.stopping = True
        self.calls.append(f"stop {deadline_s}")

    async def reload_quietly(self, source: str) -> None:
        self.calls.append(f"reload {source}")

    def reopen_logs(self) -> None:
        self.calls.append("reopen")


async def test_signals_stop_reload_and_reopen() -> None:
    balancer = Recorder()
    async with handling_signals(balancer):
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
            before = len(balancer.calls)
            os.kill(os.getpid(), number)
            await until(lambda before=before: len(balancer.calls) > before)
    assert balancer.calls == ["reload SIGHUP", "reopen", "stop None", "stop 0.0"]


async def test_a_changed_file_is_told_once_its_writer_rests(tmp_path: Path) -> None:
    path = tmp_path / "evenflow.yaml"
    path.write_text("a: 1")
    told: list[str] = []

    async def changed() -> None:
        told.append(path.read_text())

    async with watch_files([path], changed, poll_s=0.02):
        await asyncio.sleep(0.1)
        assert told == []
        path.write_text("a: 22")
        await until(lambda: told)
        other = tmp_path / "new"
        other.write_text("a: 333")
        other.replace(path)
        await until(lambda: len(told) == 2)
    assert told == ["a: 22", "a: 333"]


async def test_a_change_from_before_the_watch_is_not_missed(tmp_path: Path) -> None:
    path = tmp_path / "evenflow.yaml"
    path.write_text("a: 1")
    known = [stamp(path)]
    path.write_text("a: 22")
    told: list[str] = []

    async def changed() -> None:
        told.append(path.read_text())

    async with watch_files([path], changed, poll_s=0.02, known=known):
        await until(lambda: told == ["a: 22"])


async def test_a_file_that_vanishes_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "evenflow.yaml"
    path.write_text("a: 1")
    told: list[str] = []

    async def changed() -> None:
        told.append(path.read_text())

    async with watch_files([path], changed, poll_s=0.02):
        path.unlink()
        await asyncio.sleep(0.1)
        assert told == []
        path.write_text("a: 4444")
        await until(lambda: told == ["a: 4444"])
