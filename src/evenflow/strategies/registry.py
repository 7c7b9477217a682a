"""From a strategy's name to the strategy: built in, from an entry point, or by import path."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, cast

from evenflow.config.names import STRATEGY_PARAMETERS, strategy_names
from evenflow.config.problems import hint

from .consistent_hash import consistent_hash
from .ip_hash import bounded_ip_hash, ip_hash
from .least_connections import least_connections, least_of
from .p2c_ewma import p2c_ewma
from .picker import Strategy
from .random import random
from .round_robin import round_robin
from .weighted import weighted

GROUP = "evenflow.strategies"


def _ip_hash(load_bound: float | None = None) -> Strategy:
    return ip_hash if load_bound is None else bounded_ip_hash(load_bound)


def _least_connections(choices: int | None = None) -> Strategy:
    return least_connections if choices is None else least_of(choices)


BUILT_IN: dict[str, Callable[..., Strategy]] = {
    "round_robin": lambda: round_robin,
    "weighted": lambda: weighted,
    "ip_hash": _ip_hash,
    "least_connections": _least_connections,
    "random": lambda: random,
    "p2c_ewma": p2c_ewma,
    "consistent_hash": consistent_hash,
}
"""Each name's factory; its keyword arguments are those of `STRATEGY_PARAMETERS`."""


def resolve(name: str, **parameters: Any) -> Strategy:
    """The strategy called `name`, with `parameters`.

    `name` is a built-in one, the name of an entry point in the group `evenflow.strategies`, or
    `package.module:function`; to the latter two, parameters are passed with every call.
    Raises ValueError where there is none of that name, where it cannot be imported, and for
    parameters that a built-in strategy does not take.
    """
    if factory := BUILT_IN.get(name):
        for parameter in parameters:
            if parameter not in STRATEGY_PARAMETERS[name]:
                raise ValueError(f"strategy {name} takes no `{parameter}`")
        return factory(**parameters)
    function = _own(name)
    if not callable(function):
        raise ValueError(f"strategy {name} is not a function")
    return cast(Strategy, partial(function, **parameters) if parameters else function)


def _own(name: str) -> object:
    try:
        if ":" in name:
            module, _, attribute = name.partition(":")
            return getattr(import_module(module), attribute)
        for entry in entry_points(group=GROUP, name=name):
            return entry.load()
    except Exception as error:  # An import runs the user's code, which may raise anything.
        raise ValueError(f"cannot import strategy {name}: {error}") from error
    names = strategy_names()
    raise ValueError(
        f"expected a strategy of {', '.join(names)}, or package.module:function, got {name!r}"
        + hint(name, names)
    )
