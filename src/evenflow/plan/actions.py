"""What a route does, in the terms of the engine."""

from __future__ import annotations

from collections.abc import Sequence

from evenflow.config import Match, Route
from evenflow.config.actions import Arm, Fault, Hedge, Mirror, Redirect, Rewrite
from evenflow.config.places import after_prefix, parse_place, pattern_of, strip_parts
from evenflow.filters import request_key
from evenflow.filters.steps import RequestKey

from . import document
from .matching import compile_match

SPLIT_COOKIE = "evenflow-split"
_SPLIT_COOKIE_S = 30 * 86_400


def compile_action(route: Route) -> document.Action:
    """Who answers."""
    if route.redirect is not None:
        return {"redirect": _redirect(route.redirect, route.match)}
    if route.respond is not None:
        respond = route.respond
        return {
            "respond": {
                "status": respond.status,
                "content_type": respond.content_type,
                "headers": list(respond.headers.items()),
                "body": respond.body,
            }
        }
    if route.split is not None:
        return {"split": _split(route.split, route.sticky)}
    assert route.pool is not None, "not checked"
    return {"pool": route.pool}


def compile_rewrite(rewrite: Rewrite | None, match: Match) -> document.Rewrite | None:
    """What the endpoint is asked for instead."""
    if rewrite is None:
        return None
    path = None
    if rewrite.strip_prefix is not None:
        path = strip_parts(rewrite.strip_prefix, match)
    elif rewrite.path is not None:
        path = parse_place(rewrite.path, match, rewrite.regex)
    pattern = rewrite.regex
    if pattern is None and _uses_groups(path or ()):
        pattern = pattern_of(match, None)
    return {"pattern": pattern, "path": path, "host": rewrite.host}


def compile_mirror(mirror: Mirror | None) -> document.Mirror | None:
    """A copy for another pool."""
    if mirror is None:
        return None
    return {
        "pool": mirror.pool,
        "share": mirror.share,
        "max_in_flight": mirror.max_in_flight,
        "timeout_ms": round(mirror.timeout * 1000),
    }


def compile_fault(fault: Fault | None) -> document.Fault | None:
    """Faults put in on purpose; None where there is nothing to put in."""
    if fault is None or (fault.delay is None and fault.abort is None):
        return None
    return {
        "delay_ms": round(fault.delay.duration * 1000) if fault.delay else 0,
        "delay_share": fault.delay.share if fault.delay else 0.0,
        "abort_status": fault.abort.status if fault.abort else 0,
        "abort_share": fault.abort.share if fault.abort else 0.0,
    }


def compile_hedge(hedge: Hedge | None) -> document.Hedge | None:
    """Second tries of slow requests."""
    if hedge is None or not hedge.max:
        return None
    # A percentile is told once it is known.
    after_ms = 0 if isinstance(hedge.after, str) else round(hedge.after * 1000)
    return {"after_ms": after_ms, "max": hedge.max, "budget": hedge.budget}


def _redirect(redirect: Redirect, match: Match) -> document.Redirect:
    to = parse_place(redirect.to, match)
    if redirect.keep_path and (rest := after_prefix(match)) is not None:
        to.append({"after": rest})
    return {
        "status": redirect.status,
        "pattern": pattern_of(match, None) if _uses_groups(to) else None,
        "to": to,
        "keep_query": redirect.keep_query,
    }


def _split(arms: Sequence[Arm], sticky: str | None) -> document.Split:
    key: RequestKey = "random"
    if sticky == "cookie":
        key = {"cookie": SPLIT_COOKIE}
    elif sticky is not None:
        key = request_key(sticky)
    return {
        "key": key,
        "issue_s": _SPLIT_COOKIE_S if sticky == "cookie" else None,
        "arms": [_arm(arm) for arm in arms],
    }


def _arm(arm: Arm) -> document.Arm:
    when = None
    if arm.when is not None:
        match = Match(headers=arm.when.headers, query=arm.when.query, cookies=arm.when.cookies)
        when = compile_match(match)
    return {"pool": arm.pool, "weight": arm.weight, "when": when}


def _uses_groups(parts: Sequence[document.Part]) -> bool:
    return any(isinstance(part, dict) and "capture" in part for part in parts)
