"""Rotation of log files."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest

from evenflow.observe.rotation import RotationPolicy, Rotator, keep_rotating


@dataclass
class Writer:
    """Writes to a file until it is told to open it anew, as the engine does."""

    path: Path
    reopened: int = 0
    now: float = 1_754_233_480.683
    file: IO[str] = field(init=False)

    def __post_init__(self) -> None:
        self.file = self.path.open("a")

    def write(self, text: str) -> None:
        self.file.write(text)
        self.file.flush()

    def reopen(self) -> None:
        self.reopened += 1
        self.file.close()
        self.file = self.path.open("a")

    def close(self) -> None:
        self.file.close()

    def rotator(self, policy: RotationPolicy) -> Rotator:
        return Rotator(self.path, policy, [self.reopen], clock=lambda: self.now)


@pytest.fixture
def open_writer() -> Iterator[Callable[[Path], Writer]]:
    """Makes writers that are closed at the end."""
    with contextlib.ExitStack() as stack:

        def start(path: Path) -> Writer:
            writer = Writer(path)
            stack.callback(writer.close)
            return writer

        yield start


OpenWriter = Callable[[Path], Writer]


def names(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


def test_a_file_is_rotated_when_it_has_grown(tmp_path: Path, open_writer: OpenWriter) -> None:
    writer = open_writer(tmp_path / "log")
    rotator = writer.rotator(RotationPolicy(max_bytes=10))
    writer.write("123456789")
    assert not rotator.check()
    writer.write("0")
    assert rotator.check()
    assert writer.reopened == 1
    assert names(tmp_path) == ["log", "log.20250803T150440.683Z"]
    assert (tmp_path / "log.20250803T150440.683Z").read_text() == "1234567890"
    writer.write("next")
    assert (tmp_path / "log").read_text() == "next"
    assert not rotator.check()


def test_two_rotations_within_a_millisecond_keep_both(
    tmp_path: Path, open_writer: OpenWriter
) -> None:
    writer = open_writer(tmp_path / "log")
    rotator = writer.rotator(RotationPolicy(max_bytes=1))
    for text in ("a", "b", "c"):
        writer.write(text)
        assert rotator.check()
    assert [file.read_text() for file in rotator.rotated_files()] == ["a", "b", "c"]


def test_a_file_is_rotated_when_it_is_old(tmp_path: Path, open_writer: OpenWriter) -> None:
    writer = open_writer(tmp_path / "log")
    rotator = writer.rotator(RotationPolicy(max_age_s=3600))
    assert not rotator.check()
    writer.write("a")
    writer.now = (tmp_path / "log").stat().st_mtime
    assert not rotator.check()
    writer.now += 3599
    assert not rotator.check()
    writer.now += 2
    assert rotator.check()
    writer.now += 3601
    rotator.check()
    assert rotator.rotated_files() == []


def test_an_empty_file_is_not_rotated(tmp_path: Path, open_writer: OpenWriter) -> None:
    writer = open_writer(tmp_path / "log")
    rotator = writer.rotator(RotationPolicy(max_bytes=1, max_age_s=1))
    writer.now += 100
    assert not rotator.check()


def test_the_oldest_files_go_first(tmp_path: Path, open_writer: OpenWriter) -> None:
    writer = open_writer(tmp_path / "log")
    rotator = writer.rotator(RotationPolicy(max_bytes=1, keep=2))
    (tmp_path / "log.notes").write_text("not a rotated log")
    for text in ("a", "b", "c"):
        writer.write(text)
        writer.now += 1
        rotator.check()
    assert [file.read_text() for file in rotator.rotated_files()] == ["b", "c"]
    assert (tmp_path / "log.notes").exists()


def test_a_rotated_file_is_compressed_once_it_no_longer_grows(
    tmp_path: Path, open_writer: OpenWriter
) -> None:
    writer = open_writer(tmp_path / "log")
    rotator = writer.rotator(RotationPolicy(max_bytes=5, compress=True))
    writer.write("hello")
    assert rotator.check()
    (rotated,) = rotator.rotated_files()
    with rotated.open("a") as late:
        late.write(", late")
    rotator.check()
    rotator.check()
    (compressed,) = rotator.rotated_files()
    assert compressed.name == f"{rotated.name}.gz"
    assert gzip.decompress(compressed.read_bytes()) == b"hello, late"
    assert names(tmp_path) == ["log", compressed.name]


def test_a_file_its_writer_has_not_let_go_of_is_not_compressed(
    tmp_path: Path, open_writer: OpenWriter
) -> None:
    writer = open_writer(tmp_path / "log")
    policy = RotationPolicy(max_bytes=1, compress=True)
    rotator = Rotator(writer.path, policy, [], clock=lambda: writer.now)
    writer.write("a")
    assert rotator.check()
    rotator.check()
    rotator.check()
    (rotated,) = rotator.rotated_files()
    assert rotated.suffix != ".gz"


async def test_rotation_goes_on_after_a_failure(tmp_path: Path, open_writer: OpenWriter) -> None:
    writer = open_writer(tmp_path / "log")
    writer.write("a")

    def refuse() -> None:
        failures.append(1)
        raise OSError("no space")

    failures: list[int] = []
    broken = open_writer(tmp_path / "other")
    broken.write("b")
    rotators = [
        Rotator(broken.path, RotationPolicy(max_bytes=1), [refuse]),
        writer.rotator(RotationPolicy(max_bytes=1)),
    ]
    keeping = asyncio.create_task(keep_rotating(rotators, interval_s=0.001))
    async with asyncio.timeout(10):
        while not writer.reopened or not failures:
            await asyncio.sleep(0.001)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
