"""The faster of two random endpoints, by a decaying estimate of latency."""

from __future__ import annotations

from .helpers import least
from .picker import Strategy


def p2c_ewma(choices: int = 2) -> Strategy:
    """The lowest latency x (in flight + 1) per weight of `choices` random endpoints."""
    return lambda _endpoints: least("latency", choices)
