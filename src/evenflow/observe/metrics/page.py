"""The page as a whole: which families there are, in their order."""

from __future__ import annotations

from collections.abc import Iterator

from evenflow.observe.exposition import Family, exposition

from . import certificates, control, edge, pools, sources, traffic
from .view import View


def render(view: View, *, openmetrics: bool = False) -> Iterator[str]:
    """The page in pieces, in the Prometheus text form or as OpenMetrics."""
    return exposition(_families(view), openmetrics=openmetrics)


def _families(view: View) -> Iterator[Family]:
    endpoints = pools.endpoints_of(view.snapshot)
    yield from traffic.families(view, endpoints)
    yield from pools.families(view, endpoints)
    yield from edge.families(view.snapshot)
    yield from certificates.families(view)
    yield from sources.families(view)
    yield from control.families(view)
