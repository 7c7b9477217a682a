"""Functions that a configuration names by import path, and which of them a change may name.

Importing runs code. What may be imported is therefore decided by whoever writes the configuration
file or the Python program, never by a client of the HTTP API.
"""

from __future__ import annotations

from collections.abc import Iterator

from .check_discovery import discovery_places
from .models import Config, Strategy
from .problems import Problem


def imports_of(config: Config) -> Iterator[tuple[str, str]]:
    """Every import path in a configuration, each after the path of the setting that names it."""
    yield from _strategy("load_balancer.strategy", config.load_balancer.strategy)
    for index, pool in enumerate(config.pools):
        if pool.strategy is not None:
            yield from _strategy(f"pools[{index}].strategy", pool.strategy)
    for path, _, entry in discovery_places(config):
        if entry.use is not None:
            yield f"{path}.use", entry.use


def _strategy(path: str, strategy: Strategy) -> Iterator[tuple[str, str]]:
    if isinstance(strategy, str):
        if ":" in strategy:
            yield path, strategy
    elif ":" in strategy.name:
        yield f"{path}.name", strategy.name


def import_problems(wanted: Config, current: Config) -> Iterator[Problem]:
    """What of `wanted` the HTTP API may not ask for while `current` is active.

    Allowed are import paths that `current` uses already, and those in its `extensions`.
    """
    if wanted.extensions != current.extensions:
        text = "can be changed in the configuration file only: what it names is imported and run"
        yield Problem("extensions", text)
    allowed = {*current.extensions, *(name for _, name in imports_of(current))}
    for path, name in imports_of(wanted):
        if name not in allowed:
            text = (
                f"{name!r} may not be imported by a change over the API; add it to `extensions`"
                " in the configuration file and reload, or name an installed one"
            )
            yield Problem(path, text)
