"""`ip_whitelist` and `ip_blacklist`: which client addresses pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from evenflow.config import FilterChain
from evenflow.config.types import list_file

from .steps import Filter

_ALL = ("0.0.0.0/0", "::/0")


def compile_ip_lists(chain: FilterChain, files: Mapping[str, Sequence[str]]) -> list[Filter]:
    """One step that refuses with 403 whoever is denied, or is not allowed.

    `files` holds the networks of the files that entries name.
    """
    if not chain.ip_whitelist and not chain.ip_blacklist:
        return []
    allow = list(_networks(chain.ip_whitelist, files))
    deny = list(_networks(chain.ip_blacklist, files))
    if chain.ip_whitelist and not allow:
        # The engine takes no list for no rule; a list of nobody lets nobody in.
        deny = list(_ALL)
    return [{"ip_set": {"allow": allow, "deny": deny}}]


def _networks(entries: Sequence[str], files: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for entry in entries:
        file = list_file(entry)
        yield from (entry,) if file is None else files.get(file, ())
