"""`python -m bench`: CPU time per request, throughput and latency of evenflow and other proxies.

The proxies run one after the other, round after round, on the same origins and under the same load;
all traffic is on loopback. Where a core is left, the proxy has its own and everything else runs on
the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import install, measure, report
from bench.measure import Placement
from bench.profiles import PROFILES, Profile
from bench.proxies import DEFAULT, PROXIES, Proxy, Setting

WORK = Path("bench/.work")
RESULTS = Path("bench/results")


@dataclass(frozen=True)
class Bench:
    """What stays the same over all runs."""

    workers: int
    seconds: float
    connections: int
    threads: int
    placement: Placement
    pace: Path
    is_plain: bool
    pem: Path | None
    """Certificate and key where clients speak TLS."""
    origins: int
    is_logged: bool
    is_http2: bool


@dataclass(frozen=True)
class Started:
    """A proxy that serves."""

    proxy: Proxy
    port: int
    pid: int


def main() -> None:
    """Measure and write the report."""
    options = _options()
    WORK.mkdir(parents=True, exist_ok=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    install.ensure_tools()
    bench = Bench(
        workers=options.workers or len(os.sched_getaffinity(0)),
        seconds=options.seconds,
        connections=options.connections,
        threads=options.threads,
        placement=Placement.choose(options.workers or len(os.sched_getaffinity(0))),
        pace=measure.compiled("pace", WORK),
        is_plain=options.plain,
        pem=measure.certificate(WORK) if options.tls or options.http2 else None,
        origins=options.origins,
        is_logged=options.log,
        is_http2=options.http2,
    )
    runs = list[dict[str, Any]]()
    try:
        with _origins(bench) as origins, ExitStack() as stack:
            started = [stack.enter_context(each) for each in _proxies(bench, origins, options.only)]
            for profile in options.profiles:
                runs += _profile(
                    bench,
                    profile,
                    started,
                    options.rounds,
                    half=not (options.no_half or options.tls or options.http2),
                )
    except KeyboardInterrupt:
        print("interrupted; reporting what was measured", file=sys.stderr)
    if runs:
        _report(options.name, bench, runs)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--profiles", default=",".join(PROFILES), help="of: %(default)s")
    parser.add_argument("--only", default=",".join(DEFAULT), help=f"of: {', '.join(PROXIES)}")
    parser.add_argument("--seconds", type=float, default=5, help="of each run (default 5)")
    parser.add_argument("--rounds", type=int, default=5, help="of all proxies (default 5)")
    parser.add_argument("--workers", type=int, default=1, help="of each proxy; 0: one per core")
    parser.add_argument("--connections", type=int, default=64, help="of the client (default 64)")
    parser.add_argument("--threads", type=int, default=1, help="of wrk (default 1)")
    parser.add_argument("--no-half", action="store_true", help="leave out the runs at half load")
    parser.add_argument(
        "--plain", action="store_true", help="evenflow without rate limit and lists"
    )
    parser.add_argument(
        "--tls", action="store_true", help="clients speak TLS 1.3; without the runs at half load"
    )
    parser.add_argument(
        "--http2",
        action="store_true",
        help="clients speak HTTP/2 over TLS: h2load with 16 connections of 32 streams",
    )
    parser.add_argument("--origins", type=int, default=3, help="behind each proxy (default 3)")
    parser.add_argument("--log", action="store_true", help="all write an access log in JSON")
    parser.add_argument("--name", default="latest", help="of the files in bench/results")
    options = parser.parse_args()
    options.profiles = _chosen(parser, options.profiles, PROFILES)
    options.only = _chosen(parser, options.only, PROXIES)
    return options


def _chosen(parser: argparse.ArgumentParser, names: str, known: dict[str, Any]) -> list[Any]:
    unknown = [name for name in names.split(",") if name not in known]
    if unknown:
        parser.error(f"no {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names.split(",")]


@contextmanager
def _origins(bench: Bench) -> Iterator[list[int]]:
    ports = measure.free_ports(bench.origins)
    program = measure.compiled("origin", WORK)
    processes = 1 if bench.placement.others and len(bench.placement.others) < 3 else 2
    log = WORK / "origin.log"
    command = [str(program), str(processes), *map(str, ports)]
    with measure.running(command, log=log, cores=bench.placement.others) as process:
        measure.wait_until_serving(ports[0], process, log)
        yield ports


def _proxies(
    bench: Bench, origins: Sequence[int], wanted: Sequence[Proxy]
) -> Iterator[contextlib.AbstractContextManager[Started]]:
    for proxy in wanted:
        program = install.program_of(proxy)
        if program is None:
            print(f"bench: {proxy.name} is not installed; going on without it", file=sys.stderr)
            continue
        yield _proxy(bench, origins, proxy, program)


@contextmanager
def _proxy(bench: Bench, origins: Sequence[int], proxy: Proxy, program: str) -> Iterator[Started]:
    directory = (WORK / proxy.name).resolve()
    directory.mkdir(exist_ok=True)
    port = measure.free_ports(1)[0]
    launch = proxy.prepare(
        Setting(
            port,
            origins,
            bench.workers,
            directory,
            pem=bench.pem,
            is_plain=bench.is_plain,
            is_logged=bench.is_logged,
            is_http2=bench.is_http2,
        ),
        program,
    )
    log = directory / "output.log"
    with measure.running(
        launch.command, log=log, cores=bench.placement.proxy, environment=launch.environment
    ) as process:
        measure.wait_until_serving(port, process, log, tls=bench.pem is not None)
        yield Started(proxy, port, process.pid)


def _profile(
    bench: Bench, profile: Profile, started: Sequence[Started], rounds: int, *, half: bool
) -> list[dict[str, Any]]:
    requests = profile.write(WORK)
    proxies = [each for each in started if profile.is_large or not each.proxy.only_large]
    for each in proxies:
        measure.peak(each.port, requests, 1, bench.placement.others, tls=bench.pem is not None)
    runs = list[dict[str, Any]]()
    for round_number in range(rounds):
        for each in proxies:
            run = _peak(bench, profile, each, requests)
            run["round"] = round_number
            runs.append(run)
            print(
                f"{profile.name:10} round {round_number + 1}  {each.proxy.name:15}"
                f"{run['cpu_us']:9.2f} µs CPU/request {run['requests_per_s']:10,.0f} requests/s"
                f"  p99 {run['p99_us']:>8,} µs"
                + (f"  {run['errors']} ERRORS" if run["errors"] else ""),
                flush=True,
            )
    if half:
        _half(bench, proxies, requests, runs)
    return runs


def _peak(bench: Bench, profile: Profile, each: Started, requests: Path) -> dict[str, Any]:
    before = measure.cpu_s(each.pid)
    if bench.is_http2:
        path = "/" + profile.name
        result = measure.http2(each.port, path, bench.seconds, bench.placement.others)
    else:
        result = measure.peak(
            each.port,
            requests,
            bench.seconds,
            bench.placement.others,
            connections=bench.connections,
            threads=bench.threads,
            tls=bench.pem is not None,
        )
    used_s = measure.cpu_s(each.pid) - before
    return {
        "profile": profile.name,
        "proxy": each.proxy.name,
        "cpu_us": used_s * 1e6 / max(1, result["requests"]),
        "requests_per_s": result["requests"] * 1e6 / result["duration_us"],
        "cpu_share": used_s * 1e6 / result["duration_us"],
        "resident_mib": measure.resident_bytes(each.pid) / 2**20,
        **{key: result[key] for key in ("requests", "errors", "p50_us", "p99_us", "p999_us")},
    }


def _half(
    bench: Bench, proxies: Sequence[Started], requests: Path, runs: list[dict[str, Any]]
) -> None:
    """Latency of every proxy at half of what nginx (or else the first proxy) can carry."""
    base = "nginx" if any(run["proxy"] == "nginx" for run in runs) else runs[0]["proxy"]
    peaks = sorted(run["requests_per_s"] for run in runs if run["proxy"] == base)
    rate = peaks[len(peaks) // 2] / 2
    for run in runs:
        each = next(each for each in proxies if each.proxy.name == run["proxy"])
        result = measure.paced(
            bench.pace,
            each.port,
            requests,
            rate,
            bench.seconds,
            bench.placement.others,
            connections=bench.connections,
        )
        run["half_rate"] = rate
        run["errors"] += result["errors"]
        for key in ("p50_us", "p99_us", "p999_us"):
            run[f"half_{key}"] = result[key]
        print(
            f"{run['profile']:10} half    {run['proxy']:15}{rate:10,.0f} requests/s"
            f"  p50 {result['p50_us']:,}  p99 {result['p99_us']:,}  p99.9 {result['p999_us']:,} µs",
            flush=True,
        )


def _report(name: str, bench: Bench, runs: Sequence[dict[str, Any]]) -> None:
    rows = report.summarise(runs)
    text = report.table(rows)
    document = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"cores": os.cpu_count(), "system": platform.release(), "cpu": _cpu_model()},
        "workers": bench.workers,
        "tls": bench.pem is not None,
        "connections": bench.connections,
        "seconds": bench.seconds,
        "summary": rows,
        "runs": list(runs),
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text(text)
    title = (
        f"{bench.workers} worker{'s' if bench.workers > 1 else ''}, {bench.connections} connections"
    )
    (RESULTS / f"{name}.svg").write_text(report.plot(rows, title))
    print(f"\n{text}\nwritten: {RESULTS}/{name}.json, .md, .svg")


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
