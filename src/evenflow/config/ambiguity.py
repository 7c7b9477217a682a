"""Routes that stand in each other's way: which of two takes a request must follow from what they are.

The order in which the engine prefers routes is total but for routes of the very same host and path
with the same priority and the same number of conditions. Two of those may only stand beside each
other where no request can meet the conditions of both.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence

from .matching import Match, PathRegex, ValueMatch, ValueRule, path_segments
from .models import Route
from .problems import Problem
from .targets import PARAMETER

MAX_ALTERNATIVES = 128
"""How many routes of one listener may have the very same host and path."""

Placed = Sequence[tuple[str, Route]]
"""Routes and where each one's match stands in the configuration."""


def claimed_paths(routes: Placed, exposed: Sequence[tuple[str, str]]) -> Iterator[Problem]:
    """Routes for paths that the balancer keeps for itself."""
    exact = {path for _, path in exposed if not path.endswith("/*")}
    below = [path.removesuffix("*") for _, path in exposed if path.endswith("/*")]
    for place, route in routes:
        pattern = route.match.path
        if isinstance(pattern, str) and pattern != "/*":
            bare = pattern.removesuffix("/*")
            if pattern in exact or any(f"{bare}/".startswith(prefix) for prefix in below):
                yield Problem(
                    place,
                    f"{pattern} is a path of the balancer itself; leave it out of `admin.expose` "
                    "to serve it from a pool",
                )


def ambiguous_routes(routes: Placed, listeners: Sequence[str]) -> Iterator[Problem]:
    """Pairs of routes of which neither is more specific although both can take one request."""
    groups: dict[tuple[str, str | None, str], list[tuple[str, Route]]] = {}
    told: set[str] = set()
    for place, route in routes:
        path = _canonical(route.match.path)
        for listener in dict.fromkeys(route.listeners or listeners):
            group = groups.setdefault((listener, route.match.host, path), [])
            for other_place, other in group:
                if place not in told and (text := _clash(other.match, route.match)):
                    told.add(place)
                    yield Problem(place, f"{text} {other_place} (route {other.name!r})")
            group.append((place, route))
            if len(group) == MAX_ALTERNATIVES + 1 and place not in told:
                told.add(place)
                text = f"more than {MAX_ALTERNATIVES} routes have this host and path"
                yield Problem(place, text)
            if len(group) > MAX_ALTERNATIVES:
                group.pop()


def _clash(first: Match, second: Match) -> str:
    """Why the two cannot stand beside each other, as the beginning of a sentence; or nothing."""
    if first.priority != second.priority or first.conditions != second.conditions:
        return ""
    if not _both_can_hold(first, second):
        return ""
    if _conditions(first) == _conditions(second):
        return "takes the same requests as"
    return "give it or the other a `priority`: some requests fit it as well as"


def _conditions(match: Match) -> object:
    headers = {name.lower(): value for name, value in match.headers.items()}
    return headers, match.query, match.cookies, set(match.methods), set(match.client)


def _both_can_hold(first: Match, second: Match) -> bool:
    if first.methods and second.methods and not set(first.methods) & set(second.methods):
        return False
    if first.client and second.client and not _overlap(first.client, second.client):
        return False
    pairs = (
        (_lower(first.headers), _lower(second.headers)),
        (first.query, second.query),
        (first.cookies, second.cookies),
    )
    return not any(
        _exclude(value, theirs[name])
        for mine, theirs in pairs
        for name, value in mine.items()
        if name in theirs
    )


def _exclude(first: ValueMatch, second: ValueMatch) -> bool:
    """Whether no value meets both, as far as that can be told."""
    if isinstance(first, str) and isinstance(second, str):
        return first != second
    wanted = {_present(first), _present(second)}
    return wanted == {True, False}


def _present(value: ValueMatch) -> bool:
    return not (isinstance(value, ValueRule) and value.present is False)


def _lower(headers: Mapping[str, ValueMatch]) -> dict[str, ValueMatch]:
    return {name.lower(): value for name, value in headers.items()}


def _overlap(first: Sequence[str], second: Sequence[str]) -> bool:
    networks = [ipaddress.ip_network(text) for text in second]
    return any(
        network.version == other.version and network.overlaps(other)
        for network in map(ipaddress.ip_network, first)
        for other in networks
    )


def _canonical(pattern: str | PathRegex | None) -> str:
    """One spelling for patterns that take the same paths."""
    if pattern is None:
        return "/*"
    if isinstance(pattern, PathRegex):
        return f"~{pattern.regex}"
    segments, below = path_segments(pattern)
    path = "".join(f"/{'{}' if PARAMETER.fullmatch(each) else each}" for each in segments)
    return path.rstrip("/") + "/*" if below else path
