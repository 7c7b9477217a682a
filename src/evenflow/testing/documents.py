"""`document`: a configuration for tests in one line."""

from __future__ import annotations

from collections.abc import Mapping


def document(*backends: str | Mapping[str, object], **sections: object) -> dict[str, object]:
    """Return a configuration document for these backends, given by URL or as a mapping.

    It listens on 127.0.0.1, has one worker, checks no health and keeps no state, unless `sections`
    (`load_balancer={"strategy": "ip_hash"}`, `health_check={...}`) say otherwise; they are laid
    over these settings key by key.
    """
    base: dict[str, object] = {
        # Listeners of the full form say by themselves where they listen.
        "load_balancer": {} if "listeners" in sections else {"host": "127.0.0.1"},
        "health_check": {"enabled": False},
        "server": {"workers": 1},
        "state": {"store": "memory"},
    }
    if backends:
        base["backends"] = [{"url": b} if isinstance(b, str) else dict(b) for b in backends]
    return overlay(base, sections)


def overlay(base: Mapping[str, object], over: Mapping[str, object]) -> dict[str, object]:
    """Return `base` with the keys of `over`, mappings within mappings merged the same way."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[key] = overlay(below, value)
        else:
            merged[key] = value
    return merged
