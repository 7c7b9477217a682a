"""One balancer with one worker before one origin, and what a request costs it under load."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench import measure
from bench.measure import Placement
from bench.proxies import PROXIES

WORK = Path("bench/.work")
RESULTS = Path("bench/results")


@contextmanager
def origin() -> Iterator[int]:
    """An origin with one process; its port."""
    port = measure.free_ports(1)[0]
    log = WORK / "origin.log"
    command = [str(measure.compiled("origin", WORK)), "1", str(port)]
    with measure.running(command, log=log, cores=Placement.choose(1).others) as process:
        measure.wait_until_serving(port, process, log)
        yield port


@contextmanager
def evenflow(
    document: Mapping[str, object],
    name: str = "backends",
    *,
    tls: bool = False,
    listens_on: int | None = None,
) -> Iterator[tuple[int, subprocess.Popen[bytes], float]]:
    """A balancer with one worker: its port, its process, and seconds until it served a request.

    `name` is that of its folder: two at once need two. Where the document has listeners of its
    own, `listens_on` is the port that is asked.
    """
    directory = WORK / name
    directory.mkdir(exist_ok=True)
    port = listens_on or measure.free_ports(1)[0]
    file = directory / "evenflow.json"
    main = document.get("load_balancer", {})
    server = document.get("server", {})
    assert isinstance(main, dict)
    assert isinstance(server, dict)
    whole = {
        **document,
        **({} if listens_on else {"load_balancer": {**main, "port": port}}),
        "logging": {"level": "warn", "access": {"enabled": False}},
        "server": {**server, "workers": 1},
        "state": {"store": "memory"},
    }
    file.write_text(json.dumps(whole))
    program = PROXIES["evenflow"].find()
    if program is None:
        raise SystemExit("bench: evenflow is not installed beside this Python")
    log = directory / "output.log"
    begin = time.monotonic()
    command = [program, "serve", "--config", str(file)]
    with measure.running(command, log=log, cores=Placement.choose(1).proxy) as process:
        measure.wait_until_serving(port, process, log, limit_s=60, tls=tls)
        took = time.monotonic() - begin
        # Requests are served before the balancer's own interface is loaded.
        if not listens_on:
            measure.wait_until_serving(port, process, log, path="/health/live", tls=tls)
        yield port, process, took


def cpu_us(port: int, pid: int, requests: Path, seconds: float) -> float:
    """CPU microseconds per request of one run.

    Raises:
        RuntimeError: Requests failed.
    """
    before = measure.cpu_s(pid)
    run = measure.peak(port, requests, seconds, Placement.choose(1).others)
    if run["errors"]:
        raise RuntimeError(f"{run['errors']} requests failed")
    return float((measure.cpu_s(pid) - before) * 1e6 / run["requests"])


def show(name: str, values: Mapping[str, object]) -> None:
    """Print one group of figures."""
    print(name)
    for key, value in values.items():
        print(f"  {key:34}{value:12.3f}" if isinstance(value, float) else f"  {key:34}{value:>12}")
