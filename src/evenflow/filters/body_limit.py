"""`max_request_size`: larger request bodies are refused."""

from __future__ import annotations

from evenflow.config import FilterChain

from .steps import Filter


def compile_body_limit(chain: FilterChain) -> list[Filter]:
    """One step that refuses with 413."""
    if chain.max_request_size is None:
        return []
    return [{"body_limit": {"bytes": chain.max_request_size}}]
