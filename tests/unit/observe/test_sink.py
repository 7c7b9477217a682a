"""The sink: whoever logs never waits, and what is lost is told."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from evenflow.observe.sink import Sink


def told(lines: int) -> str:
    return f"{lines} dropped"


def stalled(tmp_path: Path, **options: int) -> tuple[Sink, int]:
    """A sink whose output takes no more than a pipe holds, and the pipe's other end."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    sink = Sink(told, **options)
    sink.direct(str(path))
    os.set_blocking(reader, True)
    return sink, reader


def read_until(reader: int, end: bytes) -> list[bytes]:
    found = b""
    while not found.endswith(end):
        data = os.read(reader, 65536)
        assert data, found[-200:]
        found += data
    return found.splitlines()


def test_a_stalled_output_keeps_nobody_waiting_and_what_was_dropped_is_told(
    tmp_path: Path,
) -> None:
    sink, reader = stalled(tmp_path, queue_bytes=100_000)
    # What a pipe holds and what may wait, and then half as much again.
    line = "x" * 999
    for _ in range(300):
        sink.write(line)
    assert 100 <= sink.lost < 300
    lost = sink.lost
    assert not sink.flush(0.01)
    found = read_until(reader, b"dropped\n")
    assert found[-1] == told(lost).encode()
    assert found[:-1] == [line.encode()] * (300 - lost)
    sink.write("after")
    assert read_until(reader, b"\n") == [b"after"]
    assert sink.flush(10)
    os.close(reader)


def test_lines_go_to_the_output_that_was_set_when_they_came(tmp_path: Path) -> None:
    sink, reader = stalled(tmp_path)
    for number in range(200):
        sink.write(f"{number} {'x' * 999}")
    sink.direct(str(tmp_path / "file"))
    sink.write("elsewhere")
    # The file's line waits for those before it.
    assert (tmp_path / "file").read_text() == ""
    found = read_until(reader, f"199 {'x' * 999}\n".encode())
    assert len(found) == 200
    assert sink.flush(10)
    assert (tmp_path / "file").read_text() == "elsewhere\n"
    assert os.read(reader, 1) == b"", "the output of before is still open"
    os.close(reader)


def test_lines_of_several_threads_stay_whole(tmp_path: Path) -> None:
    sink = Sink(told)
    sink.direct(str(tmp_path / "file"))

    def log(name: str) -> None:
        for _ in range(100):
            sink.write(name * 500)

    threads = [threading.Thread(target=log, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sink.flush(10)
    lines = (tmp_path / "file").read_text().splitlines()
    assert sorted(lines) == sorted(name * 500 for name in "abcd" * 100)
