"""Strategies: pure functions from a pool's endpoints to one of the engine's pickers.

Yours are written as these are: take a sequence of `Endpoint`, return what `cycle`, `hash_by`,
`scatter` or `least` make of it, and name the function in the configuration
(`strategy: package.module:function`) or as an entry point of the group `evenflow.strategies`.
"""

from .helpers import by_ramp, by_weight, cycle, hash_by, least, scatter
from .picker import TABLE_SLOTS, Cycle, Endpoint, Hash, Least, Picker, Strategy
from .registry import BUILT_IN, resolve

__all__ = [
    "BUILT_IN",
    "TABLE_SLOTS",
    "Cycle",
    "Endpoint",
    "Hash",
    "Least",
    "Picker",
    "Strategy",
    "by_ramp",
    "by_weight",
    "cycle",
    "hash_by",
    "least",
    "resolve",
    "scatter",
]
