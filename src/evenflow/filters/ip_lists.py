"""`ip_whitelist` and `ip_blacklist`: which client addresses pass."""

from __future__ import annotations

from evenflow.config import FilterChain

from .steps import Filter


def compile_ip_lists(chain: FilterChain) -> list[Filter]:
    """One step that refuses with 403 whoever is denied, or is not allowed."""
    if not chain.ip_whitelist and not chain.ip_blacklist:
        return []
    return [{"ip_set": {"allow": list(chain.ip_whitelist), "deny": list(chain.ip_blacklist)}}]
