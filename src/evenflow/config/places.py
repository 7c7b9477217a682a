"""Places: paths and addresses with pieces of the request's own, as in `/v2/{rest}`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .matching import Match, PathRegex, parameters, path_segments

Part = str | dict[str, str | int]
"""`host`, `path`, `{"text": ...}`, `{"segment": n}`, `{"after": n}` or `{"capture": n}`."""

_PIECE = re.compile(r"\{([^{}]*)\}")


def parse_place(text: str, match: Match, pattern: str | None = None) -> list[Part]:
    """The parts of `text`; ValueError where a name in braces means nothing for `match`.

    `pattern` is the regular expression that numbers refer to; else it is that of the path.
    """
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError(f"expected visible ASCII characters, got {text!r}")
    names = meanings(match, pattern)
    parts: list[Part] = []
    end = 0
    for found in _PIECE.finditer(text):
        if found.start() > end:
            parts.append({"text": text[end : found.start()]})
        if found[1] not in names:
            known = ", ".join(f"{{{name}}}" for name in names)
            raise ValueError(f"{found[0]} means nothing here; there are: {known}")
        parts.append(names[found[1]])
        end = found.end()
    if end < len(text):
        parts.append({"text": text[end:]})
    if any("{" in part["text"] or "}" in part["text"] for part in _texts(parts)):
        raise ValueError(f"expected names in braces, as in {{rest}}, got {text!r}")
    return parts


def meanings(match: Match, pattern: str | None = None) -> dict[str, Part]:
    """What each name in braces stands for."""
    names: dict[str, Part] = {"host": "host", "path": "path"}
    names |= {name: {"segment": index} for name, index in parameters(match.path)}
    if (rest := after_prefix(match)) is not None:
        names["rest"] = {"after": rest}
    if (regex := pattern_of(match, pattern)) is not None:
        groups = re.compile(regex).groups
        names |= {str(group): {"capture": group} for group in range(1, groups + 1)}
    return names


def pattern_of(match: Match, pattern: str | None) -> str | None:
    """The regular expression that numbers in braces refer to."""
    if pattern is None and isinstance(match.path, PathRegex):
        return match.path.regex
    return pattern


def after_prefix(match: Match) -> int | None:
    """After how many segments the rest of the path begins; None where there is no rest."""
    if match.path is None:
        return 0
    if isinstance(match.path, str) and match.path.endswith("/*"):
        segments, _ = path_segments(match.path)
        return len([segment for segment in segments if segment])
    return None


def strip_parts(prefix: str, match: Match) -> list[Part]:
    """The path without `prefix`; ValueError where the route's paths do not begin with it."""
    wanted = prefix.rstrip("/").split("/")[1:]
    given = path_segments(match.path)[0] if isinstance(match.path, str) else []
    if not wanted or given[: len(wanted)] != wanted:
        raise ValueError(f"expected the beginning of the route's `match.path`, got {prefix!r}")
    return [{"after": len(wanted)}]


def _texts(parts: Sequence[Part]) -> list[dict[str, str]]:
    return [
        {"text": str(part["text"])} for part in parts if isinstance(part, dict) and "text" in part
    ]
