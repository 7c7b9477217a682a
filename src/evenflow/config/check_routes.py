"""What the parts of one route mean together."""

from __future__ import annotations

from collections.abc import Iterator

from .models import Route
from .places import after_prefix, parse_place, strip_parts

_FOR_POOLS = ("fallback", "rewrite", "mirror", "hedge")


def named_pools(route: Route) -> Iterator[tuple[str, str]]:
    """The names of pools in a route, and where they stand below it."""
    if route.pool is not None:
        yield "pool", route.pool
    for index, arm in enumerate(route.split or ()):
        yield f"split[{index}].pool", arm.pool
    if route.fallback is not None:
        yield "fallback", route.fallback
    if route.mirror is not None:
        yield "mirror.pool", route.mirror.pool


def contradictions(route: Route) -> Iterator[tuple[str, str]]:
    """What is wrong with a route by itself, and where below it."""
    ways = [name for name in ("pool", "split", "redirect", "respond") if getattr(route, name)]
    if len(ways) != 1:
        given = f", got {' and '.join(ways)}" if ways else ""
        yield "", f"expected one of pool, split, redirect and respond{given}"
        return
    if ways[0] in ("redirect", "respond"):
        for name in _FOR_POOLS:
            if getattr(route, name) is not None:
                yield f".{name}", f"has no effect beside {ways[0]}"
    if route.sticky is not None and route.split is None:
        yield ".sticky", "goes with split; a pool has a sticky of its own"
    if route.split is not None:
        yield from _split(route)
    if route.fallback is not None and route.fallback == route.pool:
        yield ".fallback", "is the pool itself"
    if route.respond is not None and route.respond.status in (204, 304) and route.respond.body:
        yield ".respond.body", f"an answer with status {route.respond.status} has none"
    yield from _places(route)


def _split(route: Route) -> Iterator[tuple[str, str]]:
    arms = route.split or ()
    if not any(arm.weight for arm in arms):
        yield ".split", "expected a weight above 0"
    if route.sticky in ("all", "path"):
        yield ".sticky", f"{route.sticky} is nothing that clients differ by"
    for index, arm in enumerate(arms):
        if arm.when is not None and not (arm.when.headers or arm.when.query or arm.when.cookies):
            yield f".split[{index}].when", "expected headers, query or cookies"


def _places(route: Route) -> Iterator[tuple[str, str]]:
    redirect, rewrite = route.redirect, route.rewrite
    if redirect is not None:
        whole = redirect.to.startswith(("http://", "https://"))
        path = redirect.to.startswith(("/", "{path}", "{rest}"))
        if not whole and (not path or redirect.to.startswith("//")):
            yield ".redirect.to", f"expected a path or an http(s) address, got {redirect.to!r}"
        elif text := _wrong(redirect.to, route):
            yield ".redirect.to", text
        if redirect.keep_path and after_prefix(route.match) is None:
            yield ".redirect.keep_path", "needs a `match.path` that ends in /*"
    if rewrite is None:
        return
    if rewrite.path is not None and (text := _wrong(rewrite.path, route, rewrite.regex)):
        yield ".rewrite.path", text
    if rewrite.strip_prefix is not None:
        try:
            strip_parts(rewrite.strip_prefix, route.match)
        except ValueError as error:
            yield ".rewrite.strip_prefix", str(error)
    if rewrite.host is not None and rewrite.host.startswith("*"):
        yield ".rewrite.host", "expected a host without wildcard"


def _wrong(place: str, route: Route, pattern: str | None = None) -> str:
    try:
        parse_place(place, route.match, pattern)
    except ValueError as error:
        return str(error)
    return ""
