"""What was measured, as a table for reading, JSON for programs and a plot for the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any
from xml.sax.saxutils import escape

Run = Mapping[str, Any]

COLOURS = {
    "evenflow": "#1f6feb",
    "nginx": "#5a9e4b",
    "haproxy": "#d08770",
    "haproxy-splice": "#b48ead",
    "envoy": "#8a6fc0",
    "caddy": "#3aa6a6",
    "nginx-new": "#9cc78f",
}


def summarise(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The median of all rounds for each profile and proxy, and evenflow's ratio to the best other.

    The ratio is the median of the ratios within each round, so that a slow moment of the machine
    touches both sides of it.
    """
    rows = []
    for profile in dict.fromkeys(run["profile"] for run in runs):
        of_profile = [run for run in runs if run["profile"] == profile]
        names = dict.fromkeys(run["proxy"] for run in of_profile)
        table = {name: [run for run in of_profile if run["proxy"] == name] for name in names}
        others = {
            name: median(run["cpu_us"] for run in of_proxy)
            for name, of_proxy in table.items()
            if name != "evenflow"
        }
        best = min(others, key=others.__getitem__) if others else None
        for name, of_proxy in table.items():
            row: dict[str, Any] = {"profile": profile, "proxy": name}
            for key in ("cpu_us", "requests_per_s", "p50_us", "p99_us", "p999_us", "resident_mib"):
                row[key] = median(run[key] for run in of_proxy)
            row["errors"] = sum(run["errors"] for run in of_proxy)
            for key in ("half_rate", "half_p50_us", "half_p99_us", "half_p999_us"):
                values = [run[key] for run in of_proxy if key in run]
                row[key] = median(values) if values else None
            row["ratios"] = {
                other: _ratio(of_proxy, table[other]) for other in others if other != name
            }
            if name == "evenflow" and best:
                row["best_other"] = best
                row["ratio_to_best"] = row["ratios"][best]
            rows.append(row)
    return rows


def _ratio(mine: Sequence[Run], theirs: Sequence[Run]) -> float:
    by_round = {run["round"]: run["cpu_us"] for run in theirs}
    shared = [run["cpu_us"] / by_round[run["round"]] for run in mine if run["round"] in by_round]
    return median(shared) if shared else float("nan")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table; CPU is microseconds per request, latencies are microseconds."""
    head = (
        "| profile | proxy | CPU µs/request | relative | requests/s | p50 | p99 | p99.9 "
        "| p50 at half | p99 at half | p99.9 at half | MiB | errors |"
    )
    lines = [head, "|" + " --- |" * (head.count("|") - 1)]
    lines += (
        f"| {row['profile']} | {row['proxy']} | {row['cpu_us']:.2f} | {_relative(row)} "
        f"| {row['requests_per_s']:,.0f} | {row['p50_us']:,.0f} | {row['p99_us']:,.0f} "
        f"| {row['p999_us']:,.0f} | {_or_dash(row['half_p50_us'])} "
        f"| {_or_dash(row['half_p99_us'])} | {_or_dash(row['half_p999_us'])} "
        f"| {row['resident_mib']:.0f} | {row['errors']} |"
        for row in rows
    )
    return "\n".join(lines) + "\n"


def _relative(row: Mapping[str, Any]) -> str:
    if "ratio_to_best" in row:
        return f"{row['ratio_to_best']:.2f} of {row['best_other']}"
    return ""


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def plot(rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """Bars of CPU time per request, each profile scaled to its largest, as SVG."""
    profiles = list(dict.fromkeys(row["profile"] for row in rows))
    proxies = list(dict.fromkeys(row["proxy"] for row in rows))
    left, width, bar, gap = 190, 420, 18, 22
    y = 62
    parts = list[str]()
    for profile in profiles:
        of_profile = {row["proxy"]: row["cpu_us"] for row in rows if row["profile"] == profile}
        largest = max(of_profile.values()) or 1.0
        parts.append(f'<text x="12" y="{y + 13}" font-weight="bold">{escape(profile)}</text>')
        for proxy in proxies:
            if proxy not in of_profile:
                continue
            value = of_profile[proxy]
            colour = COLOURS.get(proxy, "#888888")
            length = width * value / largest
            parts.append(
                f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{escape(proxy)}</text>'
                f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{bar - 3}" fill="{colour}"/>'
                f'<text x="{left + length + 6:.1f}" y="{y + 13}">{value:.1f}</text>'
            )
            y += bar
        y += gap
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="700" height="{y}" '
        f'viewBox="0 0 700 {y}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="700" height="{y}" fill="white"/>\n'
        f'<text x="12" y="24" font-size="16">{escape(title)}</text>\n'
        '<text x="12" y="42" fill="#555555">CPU µs per request; each profile has its own scale; '
        "shorter is better</text>\n" + "\n".join(parts) + "\n</svg>\n"
    )
