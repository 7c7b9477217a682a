"""The two text forms of metrics: Prometheus 0.0.4 and OpenMetrics 1.0.

Only the form: families, label sets and numbers in, lines out. Text comes in pieces of some tens of
kilobytes, so that a page of many megabytes is never in memory as a whole.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_LINES_PER_PIECE = 512


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name (counters with `_total`), its meaning, its samples.

    A sample is the label set, as `labels` writes it, and the value; for a histogram the value is
    the counts per bucket, not cumulative, and the sum.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: Iterable[tuple[str, "float | Times"]]
    bounds: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Times:
    """A histogram's counts, one more than there are bounds, and the sum of what was observed."""

    counts: Sequence[int]
    sum: float


def labels(**pairs: str) -> str:
    """A label set without its braces: `pool="default",backend="a"`."""
    return ",".join(f'{name}="{escaped(value)}"' for name, value in pairs.items())


def escaped(value: str) -> str:
    """A label's value as it stands between quotes."""
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return value


def exposition(families: Iterable[Family], *, openmetrics: bool) -> Iterator[str]:
    """The page in pieces."""
    for family in families:
        # OpenMetrics names a counter's family without the suffix of its samples.
        name = family.name.removesuffix("_total") if openmetrics else family.name
        if family.kind != "counter":
            name = family.name
        yield f"# HELP {name} {family.help}\n# TYPE {name} {family.kind}\n"
        yield from _joined(_lines(family))
    if openmetrics:
        yield "# EOF\n"


def _lines(family: Family) -> Iterator[str]:
    if family.kind == "histogram":
        return _histogram_lines(family)
    name = family.name
    return (
        f"{name}{{{label_set}}} {value}\n" if label_set else f"{name} {value}\n"
        for label_set, value in family.samples
    )


def _histogram_lines(family: Family) -> Iterator[str]:
    name = family.name
    bounds = [*(repr(float(bound)) for bound in family.bounds), "+Inf"]
    for label_set, times in family.samples:
        assert isinstance(times, Times)
        total = 0
        lines = []
        before = f'{name}_bucket{{{label_set},le="' if label_set else f'{name}_bucket{{le="'
        for bound, count in zip(bounds, times.counts, strict=True):
            total += count
            lines.append(f'{before}{bound}"}} {total}\n')
        after = f"{{{label_set}}}" if label_set else ""
        lines.append(f"{name}_sum{after} {times.sum}\n{name}_count{after} {total}\n")
        yield "".join(lines)


def _joined(lines: Iterator[str]) -> Iterator[str]:
    piece: list[str] = []
    for line in lines:
        piece.append(line)
        if len(piece) == _LINES_PER_PIECE:
            yield "".join(piece)
            piece = []
    if piece:
        yield "".join(piece)
