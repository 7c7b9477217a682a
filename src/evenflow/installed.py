"""Which evenflow this is."""

from __future__ import annotations

from functools import cache


@cache
def version() -> str:
    """Evenflow's version, as installed."""
    # Costs a third of what the admin app does, and nobody needs it to start.
    import importlib.metadata

    try:
        return importlib.metadata.version("evenflow")
    except importlib.metadata.PackageNotFoundError:
        return "0+unknown"
