"""`cors`: which pages of other origins may read the answers."""

from __future__ import annotations

from evenflow.config import FilterChain

from .steps import Filter


def compile_cors(chain: FilterChain) -> list[Filter]:
    """One step that answers preflight requests and marks responses."""
    cors = chain.cors
    if cors is None:
        return []
    return [
        {
            "cors": {
                "allow_origins": list(cors.allow_origins),
                "allow_methods": list(cors.allow_methods),
                "allow_headers": list(cors.allow_headers),
                "expose_headers": list(cors.expose_headers),
                "allow_credentials": cors.allow_credentials,
                "max_age_s": round(cors.max_age),
            }
        }
    ]
