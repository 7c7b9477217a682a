"""Corpora: bytes and outcomes as written, and mistakes told with their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from evenflow.testing.cases import Case, CaseError, Outcome, literal, read_cases

TEXT = r"""# What the file is about.

== the first
> GET / HTTP/1.1\r\n
>
> \r\n\x00\xff
< 100
>*3 ab
forwarded GET /
    body a b\n
    field X: y
closes

== the second
> a
# A remark.
refused 400
"""


def cases(directory: Path, text: str) -> list[Case]:
    (directory / "group.txt").write_text(text)
    return read_cases(directory)


def test_a_file_is_read_as_written(tmp_path: Path) -> None:
    first, second = cases(tmp_path, TEXT)
    assert str(first) == "group: the first"
    assert first.steps == (b"GET / HTTP/1.1\r\n\r\n\0\xff", 100, b"ababab")
    assert first.outcomes == (
        Outcome("forwarded", ("GET", "/"), (("body", r"a b\n"), ("field", "X: y"))),
        Outcome("closes", ()),
    )
    assert first.all("forwarded")[0].all("field") == ["X: y"]
    assert (second.steps, second.all("refused")[0].words) == ((b"a",), ("400",))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("> a\n", "group.txt:1: a case begins"),
        ("== x\n> a\n", "says not what"),
        ("== x\n  body a\n", "group.txt:2: a detail without"),
        ("== x\n>a\nrefused 400\n", "group.txt:2: bytes are written as"),
        ("== x\n> \\x0\nrefused 400\n", "group.txt:2: "),
        ("== x\n> a\nrefused 400\n== x\n> a\nrefused 400\n", "is there twice"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(CaseError, match=error):
        cases(tmp_path, text)


def test_escapes_stand_for_bytes() -> None:
    assert literal(r"a\tb\\c\x80é") == b"a\tb\\c\x80\xe9"
