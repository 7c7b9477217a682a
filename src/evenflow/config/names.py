"""Names that the configuration refers to and that live elsewhere."""

from __future__ import annotations

from importlib.metadata import entry_points

STRATEGY_PARAMETERS: dict[str, tuple[str, ...]] = {
    "round_robin": (),
    "weighted": (),
    "ip_hash": ("load_bound",),
    "least_connections": ("choices",),
    "random": (),
    "p2c_ewma": ("choices",),
    "consistent_hash": ("key", "load_bound"),
}
"""The built-in strategies and the parameters each takes."""


def strategy_names() -> list[str]:
    """The strategies that can be named: built in, or installed as entry points."""
    installed = sorted(entry.name for entry in entry_points(group="evenflow.strategies"))
    return [*STRATEGY_PARAMETERS, *installed]
