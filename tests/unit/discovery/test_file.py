"""Lists in files: followed through renames, and left alone while they are written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from evenflow.discovery.endpoint import DiscoveryError
from evenflow.discovery.file import file
from tests.unit.discovery.conftest import asking, urls

YAML = "backends:\n  - url: http://10.0.0.1\n"
TEXTS = {
    "list.yaml": "- url: http://10.0.0.1\n",
    "keys.yaml": YAML,
    "list.json": json.dumps([{"url": "http://10.0.0.1"}]),
    "keys.json": json.dumps({"backends": ["http://10.0.0.1"]}),
    "keys.toml": '[[backends]]\nurl = "http://10.0.0.1"\n',
    "groups.json": json.dumps([{"targets": ["10.0.0.1:80"], "labels": {"zone": "a"}}]),
}


@pytest.mark.parametrize("name", TEXTS)
async def test_each_format_is_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(TEXTS[name])
    async with asking(file, file=str(path)) as following:
        (found,) = (await following()).endpoints
    assert found.url in ("http://10.0.0.1", "http://10.0.0.1:80")


def _replaced(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


def _swung(path: Path, text: str) -> None:
    # As Kubernetes changes mounted maps: a link leads to a folder, another comes in its place.
    folder = path.parent / f"data-{len(list(path.parent.iterdir()))}"
    folder.mkdir()
    (folder / "list.yaml").write_text(text)
    link = path.parent / "next"
    link.symlink_to(folder)
    link.replace(path.parent / "..data")


@pytest.mark.parametrize("change", [Path.write_text, _replaced, _swung])
async def test_a_change_is_seen(change: Callable[[Path, str], object], tmp_path: Path) -> None:
    path = tmp_path / "list.yaml"
    if change is _swung:
        path.symlink_to("..data/list.yaml")
    change(path, "- http://10.0.0.1\n")
    async with asking(file, file=str(path), every="100ms") as following:
        assert urls((await following()).endpoints) == ["http://10.0.0.1"]
        change(path, "- http://10.0.0.1\n- http://10.0.0.2\n")
        while len(found := (await following()).endpoints) == 1:
            pass
    assert urls(found) == ["http://10.0.0.1", "http://10.0.0.2"]


async def test_a_file_is_left_alone_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "list.yaml"
    lines = [f"- http://10.0.0.{n}\n" for n in range(1, 9)]
    path.write_text("".join(lines))
    async with asking(file, file=str(path), every="500ms") as following:
        await following()
        seen = set[int]()

        async def write_slowly() -> None:
            with path.open("w") as out:
                for line in lines[:-1]:
                    out.write(line)
                    out.flush()
                    await asyncio.sleep(0.05)

        writing = asyncio.ensure_future(write_slowly())
        while 7 not in seen:
            seen.add(len((await following()).endpoints))
        await writing
    assert seen == {8, 7}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.yaml", "- url: http://10.0.0.1\n- {url: 'http://x', wieght: 2}\n", "a.yaml:2: "),
        ("a.yaml", "- url: [\n", "a.yaml:2: not valid YAML"),
        ("a.json", '[{"url": "http://x"},\n {"url": 4}]', "a.json:2: "),
        ("a.toml", "backends = 3\n", "a.toml:1: backends: expected a list, got 3"),
        ("a.toml", "x = 3\n", "a.toml:1: x: expected a list, or `backends`"),
        ("a.yaml", "text\n", "expected keys and values at the top"),
    ],
)
async def test_mistakes_are_told_with_file_and_line(
    name: str, text: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DiscoveryError) as failed:
        async with asking(file, file=str(path)) as following:
            await following()
    assert said in str(failed.value)


async def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DiscoveryError, match="cannot be read: No such file"):
        async with asking(file, file=str(tmp_path / "none.yaml")) as following:
            await following()
