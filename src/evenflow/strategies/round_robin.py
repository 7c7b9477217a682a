"""Take turns, one request each."""

from collections.abc import Sequence

from .helpers import by_ramp, cycle
from .picker import Endpoint, Picker


def round_robin(endpoints: Sequence[Endpoint]) -> Picker:
    """Every endpoint in turn, whatever its weight; one in slow start is left out some rounds."""
    return cycle(endpoints, weight=by_ramp)
