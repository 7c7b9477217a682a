"""The default of the memory for buffers, from what `/proc` and `/sys` say."""

from __future__ import annotations

from pathlib import Path

import pytest

from evenflow.plan.memory import LEAST_BYTES, default_buffer_bytes

GIB = 1024**3


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": f"MemTotal: {16 * GIB // 1024} kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 4 * GIB),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{2 * GIB}\n"}, GIB // 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 4 * GIB),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
                "sys/fs/cgroup/a/memory.max": f"{GIB}\n",
            },
            GIB // 4,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu:/x\n4:memory:/docker/x\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{GIB}\n",
            },
            GIB // 4,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1000000\n"}, LEAST_BYTES),
    ],
    ids=["no group", "limit", "no limit", "limit above", "version 1", "too little"],
)
def test_the_lowest_limit_counts(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    assert default_buffer_bytes(machine(tmp_path, files)) == expected


def test_without_proc_a_default_is_assumed(tmp_path: Path) -> None:
    assert default_buffer_bytes(tmp_path) == GIB
