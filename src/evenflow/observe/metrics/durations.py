"""The engine's histograms as the page writes them."""

from __future__ import annotations

from evenflow.engine import Histogram
from evenflow.observe.exposition import Times


def times(histogram: Histogram, *, coarse: bool = False) -> Times:
    """Counts by bucket; `coarse` keeps the `+Inf` bucket alone."""
    counts = histogram["counts"]
    return Times([sum(counts)] if coarse else counts, histogram["sum_s"])
