"""What is wrong with a configuration: one `Problem` per mistake, raised together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where it stands and what was expected there.

    `path` names the value as in `backends[2].url`, and is empty for the document as a whole.
    `file` and `line` (from 1) are known when the value was read from a file; for a value from an
    environment variable or a flag, `file` is that variable's or flag's name and `line` is None.
    """

    path: str
    message: str
    line: int | None = None
    file: str | None = None

    def __str__(self) -> str:
        place = self.file or ""
        if place and self.line is not None:
            place += f":{self.line}"
        return ": ".join(part for part in (place, self.path, self.message) if part)


class ConfigError(Exception):
    """A configuration that is refused, with every problem found in it."""

    def __init__(self, errors: Iterable[Problem]) -> None:
        self.errors: list[Problem] = list(errors)
        super().__init__("\n".join(str(problem) for problem in self.errors))


def hint(name: str, allowed: Sequence[str]) -> str:
    """A `; did you mean ...?` for a misspelt name, or nothing."""
    close = get_close_matches(name, allowed, n=1, cutoff=0.6)
    return f"; did you mean `{close[0]}`?" if close else ""


def join_path(parts: Iterable[str | int]) -> str:
    """`("backends", 2, "url")` as `backends[2].url`."""
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        elif text:
            text += f".{part}"
        else:
            text = part
    return text
