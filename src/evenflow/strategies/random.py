"""Any endpoint, at random."""

from collections.abc import Sequence

from .helpers import scatter
from .picker import Endpoint, Picker


def random(endpoints: Sequence[Endpoint]) -> Picker:
    """An endpoint at random in proportion to weight."""
    return scatter(endpoints)
