"""What a route takes, in the terms of the engine's router."""

from __future__ import annotations

from collections.abc import Mapping

from evenflow.config import Match, PathRegex, ValueRule, path_segments

from . import document


def compile_match(match: Match) -> document.Match:
    """The plan's match."""
    return {
        "host": match.host,
        "path": path_match(match.path),
        "priority": match.priority,
        "methods": list(match.methods),
        "headers": _values(match.headers),
        "query": _values(match.query),
        "cookies": _values(match.cookies),
        "client": list(match.client),
    }


def path_match(pattern: str | PathRegex | None) -> document.PathMatch | None:
    """`/users` exactly, `/users/*` and all below it, and any path for None and `/*`.

    A template becomes its segments, those that stand for any being None.
    """
    if isinstance(pattern, PathRegex):
        return {"regex": pattern.regex}
    if pattern is None or pattern == "/*":
        return None
    if "{" in pattern:
        segments, below = path_segments(pattern)
        template = [None if each.startswith("{") else each for each in segments]
        return {"template_prefix": template} if below else {"template": template}
    if pattern.endswith("/*"):
        return {"prefix": pattern.removesuffix("/*")}
    return {"exact": pattern}


def _values(rules: Mapping[str, str | ValueRule]) -> list[tuple[str, document.ValueMatch]]:
    return [(name, _value(rule)) for name, rule in rules.items()]


def _value(rule: str | ValueRule) -> document.ValueMatch:
    match rule:
        case ValueRule(regex=str(pattern)):
            return {"regex": pattern}
        case ValueRule(present=present):
            return {"present": bool(present)}
        case text:
            return {"exact": text}
