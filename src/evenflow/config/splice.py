"""Where two lists differ that mostly hold the very same objects.

One change among 10,000 backends is then found in a fraction of a millisecond: objects are compared
by identity, in loops of the interpreter's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from operator import is_
from typing import Any


@dataclass(frozen=True, slots=True)
class Splice:
    """Put `inserted` members in place of `removed` ones, from `at` on."""

    at: int
    removed: int
    inserted: int


def splice(old: Sequence[Any], new: Sequence[Any]) -> Splice:
    """The smallest single piece of `old` that a piece of `new` has to replace to give `new`."""
    at = sum(takewhile(bool, map(is_, old, new)))
    room = min(len(old), len(new)) - at
    end = sum(takewhile(bool, islice(map(is_, reversed(old), reversed(new)), room)))
    return Splice(at, len(old) - end - at, len(new) - end - at)
