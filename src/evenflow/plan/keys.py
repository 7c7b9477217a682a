"""The keys that tokens are checked with, as the engine takes them."""

from __future__ import annotations

from evenflow.certs import Material
from evenflow.certs.key_set import KeySet, usable
from evenflow.config import FilterChain
from evenflow.filters.steps import JwtKey


def signing_keys(name: str, chain: FilterChain, material: Material) -> list[JwtKey]:
    """One entry for each key and algorithm of a filter; none where it checks no tokens."""
    if chain.auth is None or chain.auth.jwt is None:
        return []
    return [
        {"kid": each.kid, "alg": algorithm, "key": list(each.key)}
        for each in usable(material.keys.get(name, KeySet()), chain.auth.jwt)
        for algorithm in each.algorithms
    ]
