"""Take turns, each endpoint as often as its weight says."""

from collections.abc import Sequence

from .helpers import by_weight, cycle
from .picker import Endpoint, Picker


def weighted(endpoints: Sequence[Endpoint]) -> Picker:
    """Smooth weighted round robin: exact over each round, and never in bursts."""
    return cycle(endpoints, weight=by_weight)
