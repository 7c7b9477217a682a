r"""Cases of a corpus: what is sent, byte by byte, and what must become of it, in files to be read.

    # Two framings in one request (RFC 9112, section 6.3).

    == Content-Length before Transfer-Encoding
    > POST / HTTP/1.1\r\n
    > Host: a\r\n
    > Content-Length: 6\r\n
    > Transfer-Encoding: chunked\r\n
    > \r\n
    > 0\r\n\r\nG
    refused 400

`==` begins a case and names it. A `>` line holds bytes to send, with the escapes of Python; lines are
joined as they are, so every line end that is sent is written out. `>*300 ab` repeats its bytes.
`< 100` waits for that status before more is sent. Every other line is an outcome, in words that the
test using the corpus understands, with the indented lines below it as its details.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_REPEATED = re.compile(r">\*(\d+) (.*)")
_AWAITED = re.compile(r"< (\d{3})")

Step: TypeAlias = bytes | int
"""Bytes to send, or a status to wait for."""


class CaseError(ValueError):
    """A file is not a corpus; the message names the line."""


@dataclass(frozen=True)
class Outcome:
    """What must happen: its first word, the others, and the details below it."""

    kind: str
    words: tuple[str, ...]
    details: tuple[tuple[str, str], ...] = ()

    def all(self, name: str) -> list[str]:
        """Return the values of the details called `name`."""
        return [value for detail, value in self.details if detail == name]


@dataclass(frozen=True)
class Case:
    """One case: what is sent, in steps, and its outcomes in order."""

    group: str
    name: str
    steps: tuple[Step, ...]
    outcomes: tuple[Outcome, ...]

    def __str__(self) -> str:
        return f"{self.group}: {self.name}"

    def all(self, kind: str) -> list[Outcome]:
        """Return the outcomes of one kind."""
        return [outcome for outcome in self.outcomes if outcome.kind == kind]


def read_cases(directory: Path) -> list[Case]:
    """Read every case of the `.txt` files in a directory; each name is there once."""
    cases = [case for file in sorted(directory.glob("*.txt")) for case in _file(file)]
    names = [str(case) for case in cases]
    for name in names:
        if names.count(name) > 1:
            raise CaseError(f"{directory}: {name!r} is there twice")
    return cases


def literal(text: str) -> bytes:
    r"""Return the bytes that a text with escapes (`\r`, `\x00`) stands for."""
    escaped = text.encode("latin-1", "backslashreplace").decode("unicode_escape")
    return escaped.encode("latin-1")


def _file(file: Path) -> Iterator[Case]:
    name = ""
    lines: list[tuple[int, str]] = []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if line.startswith("== "):
            if name:
                yield _case(file, name, lines)
            name, lines = line[3:].strip(), []
        elif line.strip() and not line.startswith("#"):
            if not name:
                raise CaseError(f"{file.name}:{number}: a case begins with `== name`")
            lines.append((number, line))
    if name:
        yield _case(file, name, lines)


def _case(file: Path, name: str, lines: list[tuple[int, str]]) -> Case:
    steps: list[Step] = []
    outcomes: list[Outcome] = []
    for number, line in lines:
        if awaited := _AWAITED.fullmatch(line):
            steps.append(int(awaited[1]))
        elif line.startswith(">"):
            data = _bytes(line, f"{file.name}:{number}")
            if steps and isinstance(last := steps[-1], bytes):
                steps[-1] = last + data
            else:
                steps.append(data)
        elif not line.startswith(" "):
            kind, *words = line.split()
            outcomes.append(Outcome(kind, tuple(words)))
        elif outcomes:
            detail, _, value = line.strip().partition(" ")
            last_outcome = outcomes[-1]
            details = (*last_outcome.details, (detail, value))
            outcomes[-1] = Outcome(last_outcome.kind, last_outcome.words, details)
        else:
            raise CaseError(f"{file.name}:{number}: a detail without an outcome above it")
    if not outcomes:
        raise CaseError(f"{file.name}: {name!r} says not what must become of it")
    return Case(file.stem, name, tuple(steps), tuple(outcomes))


def _bytes(line: str, place: str) -> bytes:
    count, text = 1, line[2:]
    if repeated := _REPEATED.fullmatch(line):
        count, text = int(repeated[1]), repeated[2]
    elif line[1:2] not in ("", " "):
        raise CaseError(f"{place}: bytes are written as `> text` or `>*times text`")
    try:
        return literal(text) * count
    except UnicodeError as error:
        raise CaseError(f"{place}: {error}") from None
