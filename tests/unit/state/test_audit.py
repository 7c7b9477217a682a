"""The audit log's file: what it keeps, over restarts, rotation and tampering."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evenflow.controller import Revision
from evenflow.state.audit import FILE_NAME, AuditLog, AuditPolicy, files_in, verify


@contextmanager
def log(folder: Path | None, policy: AuditPolicy | None = None) -> Iterator[AuditLog]:
    made = AuditLog(folder, policy)
    try:
        yield made
    finally:
        made.close()


async def filled(folder: Path, count: int, policy: AuditPolicy | None = None) -> None:
    with log(folder, policy) as audit:
        await audit.open()
        for number in range(count):
            await audit.record({"who": "test", "changes": [f"change {number}"]})
        assert (audit.written, audit.failed) == (count, 0)


async def test_the_chain_goes_on_after_a_restart(tmp_path: Path) -> None:
    await filled(tmp_path, 3)
    await filled(tmp_path, 2)
    with log(tmp_path) as audit:
        await audit.open()
        found = await audit.page(10)
    assert [entry["seq"] for entry in found] == [5, 4, 3, 2, 1]
    checked = verify(tmp_path)
    assert (checked.entries, checked.first, list(checked.problems)) == (5, 1, [])
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


async def test_a_full_file_is_put_aside_and_the_oldest_go(tmp_path: Path) -> None:
    await filled(tmp_path, 60, AuditPolicy(max_bytes=1000, max_files=3))
    assert len(files_in(tmp_path)) == 3
    checked = verify(tmp_path)
    assert not checked.problems
    assert 1 < checked.first < 60
    assert checked.first + checked.entries - 1 == 60


async def test_pages_reach_back_into_files_that_are_not_in_memory(tmp_path: Path) -> None:
    await filled(tmp_path, 1300, AuditPolicy(max_bytes=50_000, max_files=100))
    with log(tmp_path) as audit:
        await audit.open()
        seen: list[int] = []
        before: int | None = None
        while page := await audit.page(400, before):
            seen += [entry["seq"] for entry in page]
            before = seen[-1]
    assert seen == list(range(1300, 0, -1))


async def test_tampering_shows(tmp_path: Path) -> None:
    await filled(tmp_path, 5)
    file = tmp_path / FILE_NAME
    lines = file.read_text().splitlines()
    changed = [*lines]
    changed[2] = changed[2].replace("change 2", "nothing")
    for tampered, word in (
        (changed, "was changed"),
        ([*lines[:2], *lines[3:]], "does not follow"),
        ([lines[1], lines[0], *lines[2:]], "does not follow"),
        ([*lines[:2], "garbage", *lines[2:]], "not an entry"),
    ):
        file.write_text("\n".join(tampered) + "\n")
        assert any(word in problem for problem in verify(tmp_path).problems), word


async def test_a_line_torn_by_a_crash_is_dropped(tmp_path: Path) -> None:
    await filled(tmp_path, 2)
    with (tmp_path / FILE_NAME).open("a") as file:
        file.write('{"seq":3,"who":"te')
    await filled(tmp_path, 1)
    assert not verify(tmp_path).problems
    assert json.loads((tmp_path / FILE_NAME).read_text().splitlines()[-1])["seq"] == 3


async def test_an_entry_that_cannot_be_written_is_counted_and_breaks_nothing(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "state"
    with log(folder) as audit:
        await audit.open()
        (folder / FILE_NAME).mkdir()
        await audit.record({"who": "test"})
        assert (audit.written, audit.failed) == (0, 1)
        (folder / FILE_NAME).rmdir()
        await audit.record({"who": "test"})
        assert (audit.written, audit.failed) == (1, 1)
    assert not verify(folder).problems


async def test_changes_from_elsewhere_are_recorded_and_those_of_the_api_not_twice() -> None:
    with log(None) as audit:
        audit.record_revision(Revision(1, 1.5, "start", ("backends: added",)))
        audit.record_revision(Revision(2, 2.5, "api (ops)", ("metrics: added",)))
        found = await audit.page(10)
    assert [(entry["who"], entry["time"]) for entry in found] == [
        ("start", "1970-01-01T00:00:01.500Z")
    ]
